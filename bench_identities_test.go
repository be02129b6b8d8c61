package main_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// leastIdentity is what is promised of calls with other credentials, of the calls
// per second with an API key and the server's own token, with 16 callers.
const leastIdentity = 0.9

const (
	benchIssuer   = "https://issuer.example"
	benchAudience = "https://vault-mcp.example/mcp"
)

// BenchmarkIdentities compares, in one run, calls with an API key, with a JWT
// whose key is at hand, and under a child token, in the way of BenchmarkCompare.
func BenchmarkIdentities(b *testing.B) {
	v := devstacktest.Fresh(b, devstacktest.Options{})
	require.NoError(b, v.PutSecret(b.Context(), barePath+"app/config", obj{"password": benchSecret}))
	require.NoError(b, v.Request(b.Context(), http.MethodPut, "sys/policies/acl/mcp-agent-bench", obj{
		"policy": `path "secret/data/` + barePath + `*" { capabilities = ["read"] }`,
	}, nil))
	jwks, token := benchToken(b)
	env := settings(b, v, "API_KEYS_JSON={\""+benchKey+"\":\"bench\"}", "RATE_LIMIT_REQUESTS=1000000", "LOG_LEVEL=info",
		"JWT_ISSUER="+benchIssuer, "JWT_AUDIENCE="+benchAudience, "JWT_JWKS_FILE="+jwks)
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

// benchToken makes a signing key, its JWKS file, and a token of an hour.
func benchToken(b *testing.B) (jwks, token string) {
	b.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(b, err)
	set, err := json.Marshal(obj{"keys": []obj{{
		"kty": "RSA", "kid": "bench", "use": "sig", "alg": "RS256",
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}}})
	require.NoError(b, err)
	jwks = filepath.Join(b.TempDir(), "jwks.json")
	require.NoError(b, os.WriteFile(jwks, set, 0o600))
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": benchIssuer, "aud": benchAudience, "sub": "bench", "scope": "read",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	unsigned.Header["kid"] = "bench"
	token, err = unsigned.SignedString(key)
	require.NoError(b, err)
	return jwks, token
}
