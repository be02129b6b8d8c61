package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// ownPolicy is the policy of the server: what the tools need, and the rules of
// docs/vault-login.md for its own token.
func ownPolicy(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile("docs/vault-login.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```hcl\n")
	own, _, closed := strings.Cut(rest, "```")
	require.True(t, found && closed, "the page has no policy")
	all := &auth.Principal{Prefix: "mcp", Grants: auth.Grants{"transit": {"*"}, "database": {"*"}, "ssh": {"*"}}}
	mounts := vaultx.Mounts{KV: "secret", Transit: "transit", Database: "database", SSH: "ssh"}
	return tools.PolicyHCL(tools.NewCatalog(), mounts, all) + "\n" + own
}

// serverRole makes an AppRole for the server, of tokens that live so long, and
// returns its ids.
func serverRole(t testing.TB, v *devstack.Vault, ttl, maxTTL string) (roleID, secretID string) {
	t.Helper()
	roleID, secretID = "role-"+secret.RandomHex(16), "id-"+secret.RandomHex(16)
	for _, step := range []struct {
		path string
		body obj
	}{
		{"sys/auth/approle", obj{"type": "approle"}},
		{"sys/policies/acl/vault-mcp", obj{"policy": ownPolicy(t)}},
		{"auth/approle/role/vault-mcp", obj{
			"token_policies": "vault-mcp", "token_no_default_policy": true, "token_ttl": ttl, "token_max_ttl": maxTTL,
		}},
		{"auth/approle/role/vault-mcp/role-id", obj{"role_id": roleID}},
		{"auth/approle/role/vault-mcp/custom-secret-id", obj{"secret_id": secretID}},
	} {
		require.NoError(t, v.Request(t.Context(), "POST", step.path, step.body, nil), step.path)
	}
	return roleID, secretID
}

// A server that logs in with an AppRole starts while Vault is down, serves as
// soon as it is there, goes on without a failed call while tokens of seconds come
// and go, and heals when they are revoked. What it logs in with stands nowhere.
func TestServerLogsIn(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	roleID, secretID := serverRole(t, v, "3s", "6s")
	v.Kill()
	env := settings(t, v, "VAULT_TOKEN=", "VAULT_ROLE_ID="+roleID, "VAULT_SECRET_ID="+secretID, "RATE_LIMIT_REQUESTS=1000000")
	p := startHTTP(t, env)
	readiness(t, p.url, 503)
	session := connect(t, httpTransport(p.url, devKey), "2026-07-28")
	require.Equal(t, "unavailable", callThrough(session)(t, "kv.read", obj{"path": "app/config"}).code())
	require.NoError(t, v.Restart(t.Context()))
	readiness(t, p.url, 200)
	recovers(t, soon, session, "kv.write", obj{"path": "app/config", "data": obj{"k": "v"}})

	var failed atomic.Pointer[answer]
	var calls atomic.Int64
	ended := make(chan struct{})
	wait := storm(8, func(caller, _ int) bool {
		tool, args := "kv.read", obj{"path": "app/config"}
		if caller == 0 {
			tool, args = "kv.write", obj{"path": "app/config", "data": obj{"k": "v"}}
		}
		a, err := ask(t.Context(), session, tool, args)
		if err != nil || a.code != "" {
			failed.CompareAndSwap(nil, &a)
		}
		calls.Add(1)
		select {
		case <-ended:
			return false
		default:
			return true
		}
	})
	tokens := func() int { return strings.Count(p.stderr(), `"logged in to Vault"`) }
	require.Eventually(t, func() bool { return failed.Load() != nil || tokens() >= 3 }, 2*soon, 10*time.Millisecond)
	require.NoError(t, v.Request(t.Context(), "POST", "sys/leases/revoke-prefix/auth/approle/login?sync=true", obj{}, nil))
	before := calls.Load()
	require.Eventually(t, func() bool { return calls.Load() > before+100 }, soon, time.Millisecond)
	close(ended)
	wait()
	require.Nil(t, failed.Load(), "a call failed")
	readiness(t, p.url, 200)

	ok, out, errOut := run(t, env, "", "doctor")
	require.True(t, ok, out)
	require.Regexp(t, `(?m)^ok +token +accepted$`, out)
	require.Regexp(t, `(?m)^ok +login +approle at auth/approle; ends in [23]s, renewable; policies vault-mcp; how often the secret id`, out)
	for _, given := range []string{roleID, secretID, "hvs."} {
		require.NotContains(t, p.stderr()+out+errOut, given)
	}
	p.stop(t)
	require.NotContains(t, p.stderr(), "panic")
}

// A token in a file, as Vault Agent keeps it, is taken up when it is replaced,
// also when the one before was revoked.
func TestTokenFileIsTakenUp(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	file := filepath.Join(t.TempDir(), "token")
	put := func() secret.Text {
		token, err := v.CreateToken(t.Context(), ownPolicy(t))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file+".new", []byte(token.Reveal()), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
		return token
	}
	first := put()
	env := settings(t, v, "VAULT_TOKEN=", "VAULT_TOKEN_FILE="+file)
	p := startHTTP(t, env)
	session := connect(t, httpTransport(p.url, devKey), "2026-07-28")
	write := obj{"path": "app/config", "data": obj{"k": "v"}}
	recovers(t, soon, session, "kv.write", write)
	second := put()
	require.NoError(t, v.Request(t.Context(), "POST", "auth/token/revoke", obj{"token": first.Reveal()}, nil))
	require.False(t, callThrough(session)(t, "kv.write", write).failed, "the next call has the new token")
	readiness(t, p.url, 200)

	// Without the file the token of before serves, and /readyz says what is to come.
	require.NoError(t, os.Remove(file))
	require.Eventually(t, func() bool {
		require.False(t, callThrough(session)(t, "kv.write", write).failed)
		_, text := probe(t, p.url+"/readyz")
		return strings.Contains(text, `"vault":{"ok":true,"detail":"degraded"}`)
	}, soon, 100*time.Millisecond)
	require.Contains(t, p.stderr(), "VAULT_TOKEN_FILE: there is no such file; the token read before stays in use")
	for _, token := range []secret.Text{first, second} {
		require.NotContains(t, p.stderr(), token.Reveal())
	}
}

// The doctor leaves a wrapped secret id to the server, which alone can use it.
func TestDoctorLeavesAWrappedSecretID(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	roleID, _ := serverRole(t, v, "1h", "1h")
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL, "VAULT_TOKEN=", "VAULT_ROLE_ID="+roleID, "VAULT_SECRET_ID=hvs.wrapped")
	ok, out, errOut := run(t, env, "", "doctor")
	require.True(t, ok, out)
	require.Regexp(t, `(?m)^skipped +login +the secret id is wrapped`, out)
	require.Empty(t, errOut)
	require.NotContains(t, strings.Join(seen.Requests(), " "), "wrapping")
}
