package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

// What we sign we accept, through the files that the commands write.
func TestSigningKeys(t *testing.T) {
	now := time.Now()
	for _, kind := range []string{"rsa", "ec", "ed25519"} {
		made, err := auth.NewSigningKey(kind)
		require.NoError(t, err)
		pem, err := made.PEM()
		require.NoError(t, err)
		key, err := auth.ParseSigningKey(pem)
		require.NoError(t, err)
		require.Equal(t, made.ID(), key.ID(), "the id follows from the key")
		set, err := made.JWKS()
		require.NoError(t, err)
		require.NotContains(t, string(set), `"d"`)
		path := filepath.Join(t.TempDir(), "jwks.json")
		require.NoError(t, os.WriteFile(path, set, 0o644))
		a := world(t, func(o *auth.Options) { o.Now, o.JWT.Home.JWKSFile, o.JWT.Home.RequireKID = nil, path, true })
		token, err := key.Issue(auth.NewJWT{
			Issuer: iss, Subject: "dev", Audience: []string{aud}, Scopes: auth.Scopes{"read", "kv:write"}, Lifetime: time.Minute,
			Claims: map[string]string{"team": "payments", "sub": "admin"},
		}, now)
		require.NoError(t, err)
		p, err := try(t, a, token.Reveal())
		require.NoError(t, err)
		require.Equal(t, "dev", p.Subject, "a claim of one's own does not replace what the token is for")
		require.Equal(t, auth.Scopes{"read", "kv:write"}, p.Scopes)
		require.Regexp(t, `^[0-9a-f]{16}$`, p.CredentialID)
		require.WithinDuration(t, now.Add(2*time.Minute), p.ExpiresAt, time.Second)
	}
}

func TestSigningKeysRefused(t *testing.T) {
	_, err := auth.NewSigningKey("dsa")
	require.ErrorIs(t, err, fault.Invalid)
	_, err = auth.SecretSigningKey(secret.NewText("canary"))
	require.ErrorIs(t, err, fault.Invalid)
	require.NotContains(t, err.Error(), "canary")
	key, err := auth.SecretSigningKey(secret.NewText(hsSecret))
	require.NoError(t, err)
	_, err = key.JWKS()
	require.ErrorIs(t, err, fault.Invalid, "a secret is not published")
	for _, n := range []auth.NewJWT{
		{Subject: "", Lifetime: time.Minute},
		{Subject: "x"},
		{Subject: "x", Lifetime: -1},
		{Subject: "x", Lifetime: time.Minute, Claims: map[string]string{"x": strings.Repeat("c", 8<<10)}},
	} {
		_, err := key.Issue(n, time.Now())
		require.ErrorIs(t, err, fault.Invalid)
	}
	good, err := auth.NewSigningKey("ec")
	require.NoError(t, err)
	pem, err := good.PEM()
	require.NoError(t, err)
	for _, text := range []string{"", "canary", pem.Reveal() + "canary", pem.Reveal()[:60], strings.ReplaceAll(pem.Reveal(), "PRIVATE", "PUBLIC")[:80]} {
		_, err := auth.ParseSigningKey(secret.NewText(text))
		require.ErrorIs(t, err, fault.Invalid)
		require.NotContains(t, err.Error(), "canary")
	}
}

// A stdio process calls as the holder of its JWT, which is checked on each call,
// and of its file read on each.
func TestLaunchJWT(t *testing.T) {
	token := func(sub string, exp time.Time) string {
		return signed("EdDSA", "ed", nil, claims(obj{"sub": sub, "exp": exp.Unix()}))
	}
	at := newYear
	a := world(t, func(o *auth.Options) {
		o.Now, o.LaunchSubject = func() time.Time { return at }, "stdio-agent"
		o.JWT.Launch = secret.NewText(token("dev", newYear.Add(time.Minute)))
	})
	p, err := a.Launch(t.Context())
	require.NoError(t, err)
	require.Equal(t, "dev", p.Slug, "the token counts, not the local subject")
	at = at.Add(2 * time.Minute)
	_, err = a.Launch(t.Context())
	require.ErrorIs(t, err, fault.Unauthenticated, "it has ended, and nothing takes its place")

	path := filepath.Join(t.TempDir(), "token")
	b := world(t, func(o *auth.Options) {
		o.Now, o.LaunchSubject, o.JWT.LaunchFile = func() time.Time { return at }, "stdio-agent", path
	})
	for about, c := range map[string]struct{ text, subject string }{
		"the first":        {token("one", newYear.Add(time.Hour)), "one"},
		"with a line end":  {token("two", newYear.Add(time.Hour)) + "\n", "two"},
		"another's":        {sign("ES256", signers()["ec-other"], obj{"alg": "ES256", "kid": "ec"}, claims(nil)), ""},
		"an expired one":   {token("canary", newYear), ""},
		"half of one":      {"eyJ.canary", ""},
		"empty":            {"", ""},
		"what is too long": {strings.Repeat("canary", 2000), ""},
	} {
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		p, err := b.Launch(t.Context())
		if c.subject == "" {
			require.ErrorIs(t, err, fault.Unauthenticated, about)
			require.NotContains(t, err.Error(), "canary")
			continue
		}
		require.NoError(t, err, about)
		require.Equal(t, c.subject, p.Slug, about)
	}
	require.NoError(t, os.Remove(path))
	_, err = b.Launch(t.Context())
	require.ErrorIs(t, err, fault.Unauthenticated, "no file is no fall-back")
	require.NotContains(t, err.Error(), path)
}

// BenchmarkJWT is a check of a token with its keys at hand, known and the first
// time, beside that of an API key.
func BenchmarkJWT(b *testing.B) {
	a, h := world(b), world(b, withSecret)
	for name, c := range map[string]struct {
		a     *auth.Authenticator
		token string
	}{
		"RS256":  {a, signed("RS256", "rsa", nil, claims(nil))},
		"ES256":  {a, signed("ES256", "ec", nil, claims(nil))},
		"EdDSA":  {a, signed("EdDSA", "ed", nil, claims(nil))},
		"HS256":  {h, sign("HS256", []byte(hsSecret), obj{"alg": "HS256"}, claims(nil))},
		"APIKey": {a, devKey},
	} {
		head := headers("Authorization", "Bearer "+c.token)
		for _, kind := range []string{"first", "known"} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if kind == "first" && name != "APIKey" {
						c.a.ForgetJWTs()
					}
					_, err := c.a.Authenticate(b.Context(), auth.Presented{Header: head})
					require.NoError(b, err)
				}
			})
		}
	}
}
