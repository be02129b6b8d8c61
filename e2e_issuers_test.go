package main_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// A further issuer has no subject until a rule gives it a place, and then one
// apart from home's subject of the same name: its secrets, its leases, its limit.
func TestFurtherIssuer(t *testing.T) {
	v := devstacktest.Engines(t)
	home, ci := newIssuer(t, "https://issuer.example"), newIssuer(t, "https://ci.example")
	both := append(home.home(), ci.further(), "DEFAULT_PREFIX=e2e-issuers", dbSettings[0])
	ours, theirs := withToken(home.token(obj{"sub": "dev"})), withToken(ci.token(obj{"sub": "dev"}))

	// Without a rule, or with one that is about home alone.
	for _, rules := range []string{``, `[{"any":true,"scopes":["read","list"]}]`, `[{"source":"jwt","subject":"dev","prefix":"e2e-other/{slug}"}]`} {
		seen := devstacktest.Recorder(t, v.Addr)
		env := settings(t, v, append(both, "VAULT_ADDR="+seen.URL, "PRINCIPALS="+rules)...)
		p, trail := startHTTP(t, env), readTrail(env)
		for _, way := range waysIn(t, p.url, ours) {
			trail.more(t)
			seen.Reset()
			requireRefused(t, &badCredential{about: way.name, header: theirs, status: http.StatusForbidden}, way.send(t, "", theirs), trail, seen)
		}
		p.stop(t)
	}

	env := settings(t, v, append(both, "RATE_LIMIT_REQUESTS=60", "RATE_LIMIT_WINDOW_SECONDS=86400",
		`PRINCIPALS=[{"name":"ci","issuer":"https://ci.example","prefix":"e2e-ci/{slug}","grants":{"database":["readonly"]},"rate_limit":{"requests":30,"window_seconds":86400}}]`)...)
	p, trail := startHTTP(t, env), readTrail(env)
	us, them := openings(t, p.url, ours), openings(t, p.url, theirs)
	for version := range us {
		us, them := us[version], them[version]
		has("subject", "dev", "prefix", "e2e-issuers/dev", "auth_method", "jwt")(t, us.succeed(t, "whoami", obj{}))
		trail.more(t)
		has("subject", "dev", "prefix", "e2e-ci/dev", "auth_method", "jwt", "limits.requests", 30)(t, them.succeed(t, "whoami", obj{}))
		record := trail.ends(t)[0]
		require.Equal(t, []string{"dev", "https://ci.example", "ci"}, []string{record.Subject, record.Issuer, record.Rule})

		us.succeed(t, "kv.write", obj{"path": "of-us/" + version, "data": obj{"k": "ours"}})
		require.Equal(t, "not_found", them(t, "kv.read", obj{"path": "of-us/" + version}).code())
		them.succeed(t, "kv.write", obj{"path": "of-us/" + version, "data": obj{"k": "theirs"}})
		has("data.k", "ours", "metadata.version", 1)(t, us.succeed(t, "kv.read", obj{"path": "of-us/" + version}))
		has("data.k", "theirs")(t, them.succeed(t, "kv.read", obj{"path": "of-us/" + version}))

		lease := us.succeed(t, "db.issue_creds", obj{"role": "readonly"})
		other := them.succeed(t, "db.issue_creds", obj{"role": "readonly"})
		for _, tool := range []string{"db.renew", "db.revoke"} {
			require.Equal(t, "forbidden", them(t, tool, obj{"lease_id": lease["lease_id"]}).code())
			require.Equal(t, "forbidden", us(t, tool, obj{"lease_id": other["lease_id"]}).code())
		}
		_, err := login(t, lease)
		require.NoError(t, err)
		us.succeed(t, "db.revoke", obj{"lease_id": lease["lease_id"]})
		them.succeed(t, "db.revoke", obj{"lease_id": other["lease_id"]})
	}
	require.Equal(t, obj{"k": "ours"}, must(v.GetSecret(t.Context(), "e2e-issuers/dev/of-us/2025-06-18")))
	require.Equal(t, obj{"k": "theirs"}, must(v.GetSecret(t.Context(), "e2e-ci/dev/of-us/2025-06-18")))

	// A session of one is none of the other's.
	frame := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"whoami"}}`
	session := post(t, p.url+"/mcp", hello, ours).header.Get("Mcp-Session-Id")
	r := post(t, p.url+"/mcp", frame, merged(theirs, http.Header{"Mcp-Session-Id": {session}, "Mcp-Protocol-Version": {"2025-06-18"}}))
	require.GreaterOrEqual(t, r.status, 400, r.body)

	// What they spend is theirs, and what is left to us is ours.
	until := func(call caller) (served int) {
		for call(t, "whoami", obj{}).code() == "" {
			served++
			require.Less(t, served, 100, "nobody is limited")
		}
		return served
	}
	require.Less(t, until(them["2026-07-28"]), 30)
	require.NotZero(t, until(us["2026-07-28"]))
	fresh := withToken(ci.token(obj{"sub": "dev2"}))
	require.Equal(t, 30, until(rpcShowing(p.url, fresh)), "another subject of theirs has its own")
}

// openings are sessions of one credential in each protocol era.
func openings(t *testing.T, url string, credential http.Header) map[string]caller {
	t.Helper()
	all := map[string]caller{}
	for _, version := range []string{"2025-06-18", "2026-07-28"} {
		all[version] = callThrough(connect(t, showing(url, credential), version))
	}
	return all
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
