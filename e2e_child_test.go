package main_test

import (
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// accessorsOf are the accessors of Vault's tokens with one policy.
func accessorsOf(t testing.TB, v *devstack.Vault, policy string) (of []string) {
	t.Helper()
	var list struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	require.NoError(t, v.Request(t.Context(), "LIST", "auth/token/accessors", nil, &list))
	for _, accessor := range list.Data.Keys {
		var info struct {
			Data struct {
				Policies []string `json:"policies"`
			} `json:"data"`
		}
		err := v.Request(t.Context(), http.MethodPost, "auth/token/lookup-accessor", obj{"accessor": accessor}, &info)
		if err == nil && len(info.Data.Policies) == 1 && info.Data.Policies[0] == policy {
			of = append(of, accessor)
		}
	}
	return of
}

// operator runs a command of the product as the operator, with the root token.
func operator(t testing.TB, v *devstack.Vault, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(append([]string(nil), env...), "VAULT_TOKEN="+v.RootToken.Reveal())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// With nothing but what 'policy apply' made, a server works with child tokens;
// they end with it, and where it was killed with the next one's start.
func TestChildTokensEndToEnd(t *testing.T) {
	v := devstacktest.Shared(t)
	env := settings(t, v, "CHILD_TOKEN_ENABLED=true", "CHILD_TOKEN_ROLE=e2e-children", "CHILD_TOKEN_POLICY_PREFIX=e2e-agent-", "DEFAULT_PREFIX=e2e-child")
	operator(t, v, env, "policy", "apply", "--subject", "dev", "--server", "--server-policy", "e2e-server")
	require.Contains(t, operator(t, v, env, "policy", "diff", "--subject", "dev", "--server", "--server-policy", "e2e-server"), "just what is needed")
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
	}
	require.NoError(t, v.Request(t.Context(), http.MethodPost, "auth/token/create",
		obj{"policies": []string{"e2e-server"}, "no_default_policy": true, "ttl": "1h", "no_parent": true}, &made))
	env = append(env, "VAULT_TOKEN="+made.Auth.ClientToken)
	policy := "e2e-agent-dev"

	use := func(p *process) {
		t.Helper()
		call := openRPC(p.url, devKey)
		reply := call(t, "kv.write", obj{"path": "app", "data": obj{"a": 1}})
		require.Empty(t, reply.code(), "%v", reply.body)
		reply = call(t, "kv.read", obj{"path": "app", "wrap_ttl": "60s"})
		require.Empty(t, reply.code(), "%v", reply.body)
		require.Equal(t, policy, call(t, "whoami", obj{}).body["policy"])
	}
	killed := startHTTP(t, env)
	use(killed)
	before := accessorsOf(t, v, policy)
	require.Len(t, before, 1)
	require.NoError(t, killed.cmd.Process.Kill())
	<-killed.done
	require.Equal(t, before, accessorsOf(t, v, policy))

	next := startHTTP(t, env)
	require.Eventually(t, func() bool { return len(accessorsOf(t, v, policy)) == 0 }, soon, 50*time.Millisecond)
	use(next)
	require.Len(t, accessorsOf(t, v, policy), 1)
	next.stop(t)
	require.Empty(t, accessorsOf(t, v, policy))
	for _, p := range []*process{killed, next} {
		require.NotContains(t, p.stderr(), "hvs.")
		require.NotContains(t, p.stderr(), before[0])
	}

	// The server's own token reaches nothing of theirs.
	doctor := exec.Command(binary, "doctor")
	doctor.Env = env
	out, err := doctor.CombinedOutput()
	require.Error(t, err) // the other principals have no policy
	require.Regexp(t, `(?m)^ok +child tokens +`, string(out))
	require.Regexp(t, `(?m)^broken +policies +Vault has no e2e-agent-dev-bot, e2e-agent-stdio-agent, e2e-agent-web$`, string(out))
}
