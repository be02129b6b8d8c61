package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// leastIdentity is what is promised of calls with other credentials, of the calls
// per second with an API key and the server's own token, with 16 callers.
const leastIdentity = 0.9

// BenchmarkIdentities compares, in one run, calls with an API key, with a JWT
// whose key is at hand, and under a child token, in the way of BenchmarkCompare.
func BenchmarkIdentities(b *testing.B) {
	v := devstacktest.Fresh(b, devstacktest.Options{})
	require.NoError(b, v.PutSecret(b.Context(), barePath+"app/config", obj{"password": benchSecret}))
	require.NoError(b, v.Request(b.Context(), http.MethodPut, "sys/policies/acl/mcp-agent-bench", obj{
		"policy": `path "secret/data/` + barePath + `*" { capabilities = ["read"] }`,
	}, nil))
	issuer := newIssuer(b, "https://issuer.example")
	token := issuer.token(obj{"sub": "bench", "scope": "read"})
	env := append(settings(b, v, "API_KEYS_JSON={\""+benchKey+"\":\"bench\"}", "RATE_LIMIT_REQUESTS=1000000", "LOG_LEVEL=info"), issuer.home()...)
	plain := startHTTP(b, env)
	child := startHTTP(b, append(settings(b, v, "API_KEYS_JSON={\""+benchKey+"\":\"bench\"}", "RATE_LIMIT_REQUESTS=1000000", "LOG_LEVEL=info"),
		"CHILD_TOKEN_ENABLED=true"))

	signed := modernLoad(plain.url)
	signed.header.Del("X-Api-Key")
	signed.header.Set("Authorization", "Bearer "+token)
	contenders := []contender{
		{"API key", plain.cmd.Process.Pid, modernLoad(plain.url).call},
		{"JWT", plain.cmd.Process.Pid, signed.call},
		{"child token", child.cmd.Process.Pid, modernLoad(child.url).call},
	}
	results := measureAll(b, contenders)
	var out strings.Builder
	writeTable(&out, contenders, results, func(string) string { return "API key" })
	var targets []target
	for _, c := range contenders[1:] {
		targets = append(targets, target{c.name + ", 16 callers, of API key", ratio(results[c.name][16], results["API key"][16], perSecond), leastIdentity, false})
	}
	writeTargets(b, &out, targets)
}
