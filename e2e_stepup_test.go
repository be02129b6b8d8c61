package main_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// A client whose token lacks a scope is told which one to get, gets it, and goes
// on: in both protocol eras, and with one record of each call. Where a rule would
// not let any token have it, nobody is sent for one.
func TestStepUpWithTokens(t *testing.T) {
	v := devstacktest.Shared(t)
	home := newIssuer(t, "https://issuer.example")
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, append(home.home(), "VAULT_ADDR="+seen.URL, "DEFAULT_PREFIX=e2e-stepup", "OAUTH_AUTHORIZATION_SERVERS="+home.name,
		`PRINCIPALS=[{"name":"listers","subject":"capped","scopes":["list"]}]`)...)
	for _, subject := range []string{"agent", "capped"} {
		require.NoError(t, v.PutSecret(t.Context(), "e2e-stepup/"+subject+"/app/config", obj{"k": "v"}))
	}
	p, trail := startHTTP(t, env), readTrail(env)
	challenge := `Bearer realm="vault-mcp", resource_metadata="` + p.url + `/.well-known/oauth-protected-resource/mcp", error="insufficient_scope", scope="read"`
	for n, way := range waysIn(t, p.url, withToken(home.token(obj{"sub": "agent", "scope": "list"}))) {
		if way.name == "legacy hello" {
			continue // is no call
		}
		t.Run(way.name, func(t *testing.T) {
			read := func(subject, scope string) (raw, verdict, audit.Record) {
				trail.more(t)
				seen.Reset()
				way := way
				if subject == "capped" { // in a session of its own
					way = waysIn(t, p.url, withToken(home.token(obj{"sub": "capped", "scope": "list"})))[n]
				}
				r := way.send(t, "", withToken(home.token(obj{"sub": subject, "scope": scope, "jti": "of-" + subject})))
				got := judge(t, r.body)
				record := trail.ended(t, got, subject+" "+scope)
				require.Equal(t, audit.Outcome, record.Kind)
				require.Equal(t, []string{"kv.read", "read", subject, "jwt", "of-" + subject},
					[]string{record.Tool, record.Scope, record.Subject, record.AuthMethod, record.CredentialID})
				return r, got, record
			}
			r, got, _ := read("agent", "list")
			require.Equal(t, http.StatusForbidden, r.status, r.body)
			require.Equal(t, []string{challenge}, r.header["Www-Authenticate"])
			require.Equal(t, "forbidden", got.code)
			require.NotZero(t, got.rpc, "an error of the message, as clients expect with 403")
			require.Empty(t, seen.Requests())

			r, got, _ = read("agent", "read list")
			require.Equal(t, http.StatusOK, r.status)
			require.Equal(t, "ok", got.code, r.body)
			require.Contains(t, r.body, `"k":"v"`)

			for _, scope := range []string{"list", "read list", ""} {
				r, got, record := read("capped", scope)
				require.Equal(t, http.StatusOK, r.status, r.body)
				require.Equal(t, "forbidden", got.code)
				require.Contains(t, r.body, `"isError":true`)
				require.Empty(t, r.header["Www-Authenticate"], "no token would do")
				require.Equal(t, "listers", record.Rule)
				require.Empty(t, seen.Requests())
			}
		})
	}
}
