package config_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/config"
)

// Issuers may be written as JSON, or in the language of the file.
func TestIssuers(t *testing.T) {
	const want = `[{"issuer":"https://a.example","audience":"x","oidc":true}]`
	c, err := load(t, "ISSUERS="+want)
	require.NoError(t, err)
	require.JSONEq(t, want, c.JWT.Issuers.Reveal())
	for name, text := range map[string]string{
		"c.toml": "[[issuers]]\nissuer = \"https://a.example\"\naudience = \"x\"\noidc = true\n",
		"c.yaml": "issuers:\n  - {issuer: https://a.example, audience: x, oidc: true}\n",
		"c.json": `{"issuers":` + want + `}`,
	} {
		c, err := config.Load(config.Options{File: write(t, name, text), Env: none})
		require.NoError(t, err, name)
		require.JSONEq(t, want, c.JWT.Issuers.Reveal(), name)
	}
	for _, bad := range []string{`{}`, `null`, `canary`, `["canary"]`, `[{"canary":1}]`, `[{"issuer":"a","issuer":"canary"}]`, `[{"Issuer":"canary"}]`, `[] []`} {
		_, err := load(t, "ISSUERS="+bad)
		require.ErrorContains(t, err, "ISSUERS (environment): want a JSON list", bad)
		require.NotContains(t, err.Error(), "canary")
	}
}

// The file of the launch JWT is named, not read: its user reads it on each call.
func TestLaunchJWTFileIsNotReadHere(t *testing.T) {
	path := write(t, "token", "canary")
	c, err := load(t, "VAULT_MCP_JWT_FILE="+path)
	require.NoError(t, err)
	require.Equal(t, path, c.JWT.LaunchFile)
	require.True(t, c.JWT.Launch.IsZero())
	_, err = load(t, "VAULT_MCP_JWT_FILE=/canary/none")
	require.ErrorContains(t, err, "VAULT_MCP_JWT_FILE (environment): want the name of a file that exists")
}

func TestJWTSettings(t *testing.T) {
	for _, bad := range []string{
		"JWT_HS256_SECRET=" + strings.Repeat("x", 31), "JWT_ALGORITHMS=none", "JWT_ALGORITHMS=RS256,rs256", "JWT_JWKS_URL=http://canary.example/jwks",
		"JWT_JWKS_URL=https://user@canary.example", "OIDC_ISSUER=https://canary.example?x", "OIDC_ISSUER=canary", "JWT_ISSUER=can ary",
		"JWT_JWKS_CACHE_SECONDS=9", "JWT_JWKS_FILE=/canary", "JWT_AUDIENCE=a b",
	} {
		_, err := load(t, bad)
		name, _, _ := strings.Cut(bad, "=")
		require.ErrorContains(t, err, name+" (environment): want ", bad)
		require.NotContains(t, err.Error(), "canary")
	}
	for _, good := range []string{"JWT_JWKS_URL=http://127.0.0.1:8200/jwks", "JWT_JWKS_URL=http://localhost/x", "OIDC_ISSUER=https://a.example/realms/x/", "JWT_AUDIENCE=a,b"} {
		_, err := load(t, good)
		require.NoError(t, err, good)
	}
}

// A check that is off is said aloud, where there is somebody whose tokens it
// concerns.
func TestJWTWarnings(t *testing.T) {
	warnings := func(env ...string) string {
		c, err := load(t, env...)
		require.NoError(t, err)
		return strings.Join(c.Warnings(), "\n")
	}
	const issuer = "JWT_ISSUER=https://a.example"
	require.Empty(t, warnings(issuer))
	require.Empty(t, warnings("JWT_VALIDATE_AUDIENCE=false"))
	require.Empty(t, warnings(issuer, "JWT_VALIDATE_AUDIENCE=false", "AUTH_JWT_ENABLED=false"))
	require.Contains(t, warnings(issuer, "JWT_VALIDATE_ISSUER=false"), "JWT_VALIDATE_ISSUER is off")
	require.Contains(t, warnings(issuer, "JWT_VALIDATE_AUDIENCE=false"), "there is neither a JWT_AUDIENCE nor a PUBLIC_URL")
	require.Contains(t, warnings(issuer, "JWT_VALIDATE_AUDIENCE=false", "JWT_AUDIENCE=x"), "JWT_AUDIENCE has no effect")
	require.Contains(t, warnings(issuer, "JWT_VALIDATE_AUDIENCE=false", "PUBLIC_URL=https://x.example"), "it would have to be made for PUBLIC_URL")
	exposed := []string{"HOST=0.0.0.0", "PUBLIC_URL=https://x.example"}
	require.Contains(t, warnings(exposed...), "there is no API key yet")
	require.Empty(t, warnings(append(exposed, issuer)...), "with an issuer somebody can call")
}
