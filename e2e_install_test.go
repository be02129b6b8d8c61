package main_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
)

// Names of the installation in the Vault that tests share.
const (
	installPrefix = "e2e-install-"       // of policies
	installServer = "e2e-server-install" // the policy of the server's own token
	installMount  = "e2e-install"        // of the AppRole
)

// installation is a server with all that issue says who calls and with what
// right: an AppRole with its own policy alone, a token role, child tokens, rules,
// tokens of an issuer, API keys, and limits that are shared.
type installation struct {
	vault      *devstack.Vault
	issuer, ci *issuer // home's and a further one
	env        []string
	apply      []string // arguments of policy apply and diff
}

func install(t *testing.T) *installation {
	t.Helper()
	v, r := devstacktest.Engines(t), devstacktest.Redis(t, devstack.RedisOptions{})
	i := &installation{vault: v, issuer: newIssuer(t, "https://issuer.example"), ci: newIssuer(t, "https://ci.example")}
	roleID, secretID := "role-"+secret.RandomHex(16), "id-"+secret.RandomHex(16)
	i.env = settings(t, v, append(i.issuer.home(), i.ci.further(), "VAULT_TOKEN=", "REDIS_URL="+r.URL().Reveal(),
		"VAULT_AUTH_MOUNT="+installMount, "VAULT_ROLE_ID="+roleID, "VAULT_SECRET_ID="+secretID,
		"CHILD_TOKEN_ENABLED=true", "CHILD_TOKEN_ROLE=e2e-install", "CHILD_TOKEN_POLICY_PREFIX="+installPrefix, "DEFAULT_PREFIX=e2e-install",
		`PRINCIPALS=[{"name":"agents","source":"jwt","subject":"agent","prefix":"e2e-agents/{slug}","grants":{"transit":["demo-aes"],"database":["readonly"]}},`+
			`{"name":"bots","subject":"dev-bot","exclude":["db"],"grants":{"transit":["demo-chacha"]}},`+
			`{"name":"ci","issuer":"https://ci.example","claim":{"name":"ref","value":"main"},"prefix":"e2e-ci-install/{slug}","grants":{"transit":["demo-aes"]}}]`)...)
	i.apply = []string{"--all", "--subject", "agent", "--source", "jwt", "--server", "--server-policy", installServer}
	require.Contains(t, operator(t, v, i.env, append([]string{"policy", "apply"}, i.apply...)...), "token role e2e-install is written")
	operator(t, v, i.env, "policy", "apply", "--subject", "agent", "--issuer", i.ci.name, "--claim", "ref=main")
	for _, step := range []struct {
		path string
		body obj
	}{
		{"sys/auth/" + installMount, obj{"type": "approle"}},
		{"auth/" + installMount + "/role/vault-mcp", obj{"token_policies": installServer, "token_no_default_policy": true, "token_ttl": "20m"}},
		{"auth/" + installMount + "/role/vault-mcp/role-id", obj{"role_id": roleID}},
		{"auth/" + installMount + "/role/vault-mcp/custom-secret-id", obj{"secret_id": secretID}},
	} {
		require.NoError(t, v.Request(t.Context(), http.MethodPost, step.path, step.body, nil), step.path)
	}
	t.Cleanup(func() { _ = v.Request(context.Background(), http.MethodDelete, "sys/auth/"+installMount, nil, nil) })
	return i
}

// holding is a token of Vault with one policy, as a child has it.
func (i *installation) holding(t *testing.T, policy string) string {
	t.Helper()
	var made struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
	}
	require.NoError(t, i.vault.Request(t.Context(), http.MethodPost, "auth/token/create",
		obj{"policies": []string{policy}, "no_default_policy": true, "ttl": "10m"}, &made))
	return made.Auth.ClientToken
}

// asks makes a request to Vault itself with a token, and returns the status.
func (i *installation) asks(t *testing.T, token, method, path string, body obj) int {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, i.vault.Addr+"/v1/"+path, strings.NewReader(string(text)))
	require.NoError(t, err)
	req.Header.Set("X-Vault-Token", token)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// With nothing in Vault but what 'policy apply' has made, callers by token and by
// key work; and what this server would refuse one of them, Vault refuses as well.
func TestInstallation(t *testing.T) {
	i := install(t)
	p := startHTTP(t, i.env)
	readiness(t, p.url, http.StatusOK)
	redisIs(t, p, true)
	agents := openings(t, p.url, withToken(i.issuer.token(obj{"sub": "agent"})))
	agents["rpc"] = rpcShowing(p.url, withToken(i.issuer.token(obj{"sub": "agent"})))
	for name, agent := range agents {
		t.Run(name, func(t *testing.T) {
			has("prefix", "e2e-agents/agent", "auth_method", "jwt")(t, agent.succeed(t, "whoami", obj{}))
			agent.succeed(t, "kv.write", obj{"path": "app/" + name, "data": obj{"k": name}})
			has("data.k", name)(t, agent.succeed(t, "kv.read", obj{"path": "app/" + name}))
			sealed := agent.succeed(t, "transit.encrypt", obj{"key": devstack.KeyAES, "plaintext": "text", "encoding": "utf8"})
			has("plaintext", "text")(t, agent.succeed(t, "transit.decrypt", obj{"key": devstack.KeyAES, "ciphertext": sealed["ciphertext"], "encoding": "utf8"}))
			creds := agent.succeed(t, "db.issue_creds", obj{"role": devstack.RoleReadOnly})
			_, err := login(t, creds)
			require.NoError(t, err)
			has("lease_duration", 600)(t, agent.succeed(t, "db.renew", obj{"lease_id": creds["lease_id"], "increment": 600}))
			agent.succeed(t, "db.revoke", obj{"lease_id": creds["lease_id"]})
			_, err = login(t, creds)
			require.Error(t, err)
		})
	}
	bot := openRPC(p.url, botKey)
	bot.succeed(t, "kv.write", obj{"path": "own", "data": obj{"k": "bot"}})
	bot.succeed(t, "transit.encrypt", obj{"key": devstack.KeyChaCha, "plaintext": "dGV4dA=="})
	require.Equal(t, "not_found", bot(t, "kv.read", obj{"path": "app/rpc"}).code())
	require.Equal(t, "forbidden", bot(t, "transit.encrypt", obj{"key": devstack.KeyAES, "plaintext": "dGV4dA=="}).code())
	require.Equal(t, "forbidden", bot(t, "db.issue_creds", obj{"role": devstack.RoleReadOnly}).code())

	// Another issuer's subject of the same name has a policy of its own.
	build := rpcShowing(p.url, withToken(i.ci.token(obj{"sub": "agent", "ref": "main"})))
	build.succeed(t, "kv.write", obj{"path": "own", "data": obj{"k": "ci"}})
	build.succeed(t, "transit.encrypt", obj{"key": devstack.KeyAES, "plaintext": "dGV4dA=="})
	require.Equal(t, "not_found", build(t, "kv.read", obj{"path": "app/rpc"}).code())
	require.Equal(t, "forbidden", build(t, "db.issue_creds", obj{"role": devstack.RoleReadOnly}).code())
	policy, _ := build.succeed(t, "whoami", obj{})["policy"].(string)
	require.Regexp(t, "^"+installPrefix+"ci\\.example-[0-9a-f]{16}--agent$", policy)
	require.Len(t, accessorsOf(t, i.vault, policy), 1)

	require.NotEmpty(t, accessorsOf(t, i.vault, installPrefix+"agent"))
	require.NotEmpty(t, accessorsOf(t, i.vault, installPrefix+"dev-bot"))
	p.stop(t)
	for _, policy := range []string{installPrefix + "agent", installPrefix + "dev-bot", policy} {
		require.Empty(t, accessorsOf(t, i.vault, policy), "they end with the server")
	}
	i.vaultRefusesToo(t)
	for _, given := range []string{setting(i.env, "VAULT_ROLE_ID"), setting(i.env, "VAULT_SECRET_ID"), "hvs."} {
		require.NotContains(t, p.stderr()+everythingBelow(t, setting(i.env, "STATE_DIR")), given)
	}
}

// vaultRefusesToo asks Vault as the bot, as the server and as the agent for what
// is the agent's: it is the agent's alone.
func (i *installation) vaultRefusesToo(t *testing.T) {
	t.Helper()
	holders := map[string]string{}
	for _, policy := range []string{installPrefix + "agent", installPrefix + "dev-bot", installServer} {
		holders[policy] = i.holding(t, policy)
	}
	for _, ask := range []struct {
		method, path string
		body         obj
	}{
		{http.MethodGet, "secret/data/e2e-agents/agent/app/rpc", nil},
		{http.MethodPut, "secret/data/e2e-agents/agent/app/rpc", obj{"data": obj{}}},
		{"LIST", "secret/metadata/e2e-agents/agent/app", nil},
		{http.MethodPut, "transit/encrypt/" + devstack.KeyAES, obj{"plaintext": "dGV4dA=="}},
		{http.MethodGet, "database/creds/" + devstack.RoleReadOnly, nil},
	} {
		for policy, token := range holders {
			status := i.asks(t, token, ask.method, ask.path, ask.body)
			if policy == installPrefix+"agent" {
				require.Equal(t, http.StatusOK, status, ask.path)
			} else {
				require.Equal(t, http.StatusForbidden, status, "%s: %s", policy, ask.path)
			}
		}
	}
	for policy, token := range holders { // and nobody reaches beyond what this server has tools for
		for _, path := range []string{"secret/data/e2e-agents/agent2/app", "secret/data/e2e-agents", "sys/mounts", "sys/policies/acl/root", "auth/token/accessors"} {
			require.Equal(t, http.StatusForbidden, i.asks(t, token, http.MethodGet, path, nil), "%s: %s", policy, path)
		}
		require.Equal(t, http.StatusForbidden, i.asks(t, token, http.MethodPut, "auth/token/create", obj{}), policy)
	}
	_ = i.vault.Request(t.Context(), http.MethodPost, "sys/leases/revoke-prefix/database/creds/readonly?sync=true", obj{}, nil)
}

// The doctor is content with such an installation, and finds what somebody has
// changed in it by hand.
func TestInstallationDrifts(t *testing.T) {
	i := install(t)
	doctor := func() (bool, string) {
		t.Helper()
		ok, out, errOut := run(t, i.env, "", "doctor")
		for _, given := range []string{setting(i.env, "VAULT_ROLE_ID"), setting(i.env, "VAULT_SECRET_ID"), "hvs.", "redis://"} {
			require.NotContains(t, out+errOut, given)
		}
		return ok, out
	}
	ok, out := doctor()
	require.True(t, ok, out)
	require.NotRegexp(t, `(?m)^(warning|broken)`, out)
	for _, check := range []string{"settings", "state", "callers", "redis", "vault", "clock", "token", "login", "child tokens", "policies"} {
		require.Regexp(t, `(?m)^ok +`+check+` `, out)
	}
	diff := func() (bool, string) {
		t.Helper()
		ok, out, _ := run(t, append(i.env[:len(i.env):len(i.env)], "VAULT_TOKEN="+i.vault.RootToken.Reveal()), "", append([]string{"policy", "diff"}, i.apply...)...)
		return ok, out
	}
	ok, out = diff()
	require.True(t, ok, out)

	write := func(path string, body obj) {
		t.Helper()
		require.NoError(t, i.vault.Request(t.Context(), http.MethodPost, path, body, nil))
	}
	policy := func(name string, change func(string) string) {
		t.Helper()
		var have struct{ Data struct{ Policy string } }
		require.NoError(t, i.vault.Request(t.Context(), http.MethodGet, "sys/policies/acl/"+name, nil, &have))
		changed := change(have.Data.Policy)
		require.NotEqual(t, have.Data.Policy, changed)
		write("sys/policies/acl/"+name, obj{"policy": changed})
	}
	for _, drift := range []struct {
		about  string
		by     func()
		doctor string // empty: is not known to it
		diff   string
		broken bool
	}{
		{
			"a right too many", func() {
				policy(installPrefix+"dev-bot", func(is string) string {
					return is + "\npath \"secret/data/e2e-agents/*\" {\n  capabilities = [\"read\"]\n}\n"
				})
			},
			`(?m)^warning +policies +Vault has something else in e2e-install-dev-bot$`,
			"policy e2e-install-dev-bot: + read on secret/data/e2e-agents/* is not needed\n", false,
		},
		{
			"a right too few", func() {
				policy(installPrefix+"dev", func(is string) string { return strings.Replace(is, `"patch", `, "", 1) })
			},
			`(?m)^warning +policies +Vault has something else in e2e-install-dev$`, "policy e2e-install-dev: - patch on secret/data/e2e-install/dev/* is missing\n", false,
		},
		{
			"no policy", func() {
				require.NoError(t, i.vault.Request(t.Context(), http.MethodDelete, "sys/policies/acl/"+installPrefix+"web", nil, nil))
			},
			`(?m)^broken +policies +Vault has no e2e-install-web$`, "policy e2e-install-web: there is no such policy\n", true,
		},
		{
			"a server that may make no children", func() {
				policy(installServer, func(is string) string {
					return strings.Replace(is, "auth/token/create/e2e-install", "auth/token/create/other", 1)
				})
			},
			`(?m)^broken +child tokens +the server's token lacks update on auth/token/create/e2e-install$`,
			"policy e2e-server-install: - update on auth/token/create/e2e-install is missing\npolicy e2e-server-install: + update on auth/token/create/other is not needed\n", true,
		},
		{
			"a policy of a caller by token", func() {
				policy(installPrefix+"agent", func(is string) string { return strings.Replace(is, "transit/encrypt/demo-aes", "transit/encrypt/*", 1) })
			},
			"", "policy e2e-install-agent: + update on transit/encrypt/* is not needed\npolicy e2e-install-agent: - update on transit/encrypt/demo-aes is missing\n", false,
		},
		{
			"a role for any policy", func() {
				write("auth/token/roles/e2e-install", obj{"allowed_policies_glob": []string{"*"}})
			},
			"", "token role e2e-install: allowed_policies_glob should be just e2e-install-*\n", false,
		},
	} {
		drift.by()
		ok, out := doctor()
		require.Equal(t, !drift.broken, ok, "%s: %s", drift.about, out)
		if drift.doctor != "" {
			require.Regexp(t, drift.doctor, out, drift.about)
		}
		ok, out = diff()
		require.False(t, ok, drift.about)
		require.Equal(t, drift.diff, out, drift.about)
		operator(t, i.vault, i.env, append([]string{"policy", "apply"}, i.apply...)...)
		ok, out = diff()
		require.True(t, ok, "%s: %s", drift.about, out)
	}
	ok, out = doctor()
	require.True(t, ok, out)
	require.NotRegexp(t, `(?m)^(warning|broken)`, out)
}
