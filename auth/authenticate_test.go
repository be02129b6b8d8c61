package auth_test

import (
	"encoding/base64"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

const (
	devKey = "dev-api-key"
	botKey = "bot-api-key-canary"
)

func authenticator(t testing.TB, keys string, more ...func(*auth.Options)) *auth.Authenticator {
	t.Helper()
	opt := auth.Options{Prefix: "mcp", APIKeys: true, KeysJSON: secret.NewText(keys)}
	for _, change := range more {
		change(&opt)
	}
	a, err := auth.New(opt)
	require.NoError(t, err)
	return a
}

// headers makes headers from name, value, name, value.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestAuthenticateAccepts(t *testing.T) {
	a := authenticator(t, `{"`+devKey+`": "dev", "`+botKey+`": {"subject": "dev-bot", "scopes": ["kv:read"]}}`)
	for about, h := range map[string]http.Header{
		"X-API-Key":            headers("x-api-key", devKey),
		"bearer":               headers("Authorization", "Bearer "+devKey),
		"the scheme's case":    headers("Authorization", "bEARER "+devKey),
		"several blanks":       headers("Authorization", "Bearer   "+devKey),
		"the same in both":     headers("Authorization", "Bearer "+devKey, "X-API-Key", devKey),
		"beside other headers": headers("X-API-Key", devKey, "X-SSL-Client-Verify", "SUCCESS", "X-SSL-Client-S-DN", "CN=admin"),
	} {
		p, err := a.Authenticate(t.Context(), auth.Presented{Header: h})
		require.NoError(t, err, about)
		require.Equal(t, "dev", p.Slug, about)
		require.Equal(t, auth.MethodAPIKey, p.Method)
		require.Equal(t, auth.AllScopes(), p.Scopes)
		require.Regexp(t, `^json-[0-9]+$`, p.CredentialID)
	}
	p, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", botKey)})
	require.NoError(t, err)
	require.Equal(t, "dev-bot", p.ID())
	require.Equal(t, "mcp/dev-bot", p.Prefix)
	require.Equal(t, auth.Scopes{"kv:read"}, p.Scopes)
}

// A credential that is there and bad is an error and nothing else is tried; no
// error holds a part of one.
func TestAuthenticateRefuses(t *testing.T) {
	longest := strings.Repeat("k", 256)
	a := authenticator(t, `{"`+devKey+`": "dev", "`+botKey+`": "dev-bot", "a.b.canary": "jwt-shaped", "`+longest+`": "longest"}`)
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	jwt := part(`{"alg":"HS256"}`) + "." + part(`{"sub":"canary"}`) + "." + part("canary signature")
	long := strings.Repeat("canary", 2000)
	for about, h := range map[string]http.Header{
		"nothing":                       headers(),
		"no headers at all":             nil,
		"an unknown key":                headers("X-API-Key", "canary-unknown"),
		"an unknown bearer":             headers("Authorization", "Bearer canary-unknown"),
		"a key in another case":         headers("X-API-Key", strings.ToUpper(devKey)),
		"a key and more":                headers("X-API-Key", devKey+"x"),
		"a part of a key":               headers("X-API-Key", devKey[:10]),
		"a key of ours, unknown":        headers("X-API-Key", "vmcp_0123456789ab_canary"),
		"a key of ours, broken":         headers("X-API-Key", "vmcp__canary"),
		"an empty X-API-Key":            headers("X-API-Key", ""),
		"empty, and a good bearer":      headers("X-API-Key", "", "Authorization", "Bearer "+devKey),
		"bad, and a good bearer":        headers("X-API-Key", "canary-unknown", "Authorization", "Bearer "+devKey),
		"good, and a bad bearer":        headers("X-API-Key", devKey, "Authorization", "Bearer canary"),
		"good, and an empty bearer":     headers("X-API-Key", devKey, "Authorization", ""),
		"good, and Basic":               headers("X-API-Key", devKey, "Authorization", "Basic Y2FuYXJ5"),
		"two good ones that differ":     headers("X-API-Key", devKey, "Authorization", "Bearer "+botKey),
		"X-API-Key twice":               headers("X-API-Key", devKey, "X-API-Key", devKey),
		"Authorization twice":           headers("Authorization", "Bearer "+devKey, "Authorization", "Bearer "+devKey),
		"X-API-Key twice, good bearer":  headers("X-API-Key", devKey, "X-API-Key", devKey, "Authorization", "Bearer "+devKey),
		"Authorization twice, good key": headers("Authorization", "Bearer "+devKey, "Authorization", "Bearer "+devKey, "X-API-Key", devKey),
		"the longest key and more":      headers("X-API-Key", longest+"x"),
		"two keys joined":               headers("X-API-Key", devKey+", "+botKey),
		"two bearers joined":            headers("Authorization", "Bearer "+devKey+", Bearer "+botKey),
		"no scheme":                     headers("Authorization", devKey),
		"Basic":                         headers("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("dev:canary"))),
		"the scheme alone":              headers("Authorization", "Bearer"),
		"the scheme and a blank":        headers("Authorization", "Bearer "),
		"a tab for a blank":             headers("Authorization", "Bearer\t"+devKey),
		"a blank before the scheme":     headers("Authorization", " Bearer "+devKey),
		"a blank after the key":         headers("Authorization", "Bearer "+devKey+" "),
		"a blank after X-API-Key":       headers("X-API-Key", devKey+" "),
		"a line break":                  headers("X-API-Key", devKey+"\r\nX-Canary: y"),
		"a NUL":                         headers("X-API-Key", devKey+"\x00"),
		"what is not ASCII":             headers("X-API-Key", "dév-canary-key"),
		"the Kelvin sign":               headers("Authorization", "Bearer dev-api-\u212aey"),
		"a key that is too long":        headers("X-API-Key", strings.Repeat("canary", 43)),
		"a header that is too long":     headers("X-API-Key", long),
		"a bearer that is too long":     headers("Authorization", "Bearer "+long),
		"dots without end":              headers("Authorization", "Bearer "+strings.Repeat(".", 8000)),
		"a JWT":                         headers("Authorization", "Bearer "+jwt),
		"a JWT without a signature":     headers("Authorization", "Bearer "+part(`{"alg":"none"}`)+"."+part(`{"sub":"dev"}`)+"."),
		"a key in the shape of a JWT":   headers("Authorization", "Bearer a.b.canary"),
		"a JWT and a good key":          headers("Authorization", "Bearer "+jwt, "X-API-Key", devKey),
		"a JWT as X-API-Key":            headers("X-API-Key", jwt),
		"a key in a header of no sense": headers("X-Api-Key-", devKey),
	} {
		p, err := a.Authenticate(t.Context(), auth.Presented{Header: h})
		require.Nil(t, p, about)
		require.ErrorIs(t, err, fault.Unauthenticated, about)
		require.NotContains(t, strings.ToLower(err.Error()), "canary", about)
		require.NotContains(t, err.Error(), devKey, about)
	}
	// The same key in the one header that holds nothing else is just a key.
	p, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", "a.b.canary")})
	require.NoError(t, err)
	require.Equal(t, "jwt-shaped", p.Slug)
	p, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", longest)})
	require.NoError(t, err)
	require.Equal(t, "longest", p.Slug)
}

func TestAPIKeysSwitchedOff(t *testing.T) {
	a := authenticator(t, `{"`+devKey+`": "dev"}`, func(o *auth.Options) {
		o.APIKeys, o.LaunchKey = false, secret.NewText(devKey)
	})
	_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", devKey)})
	require.ErrorIs(t, err, fault.Unauthenticated)
	_, err = a.Launch(t.Context())
	require.ErrorIs(t, err, fault.Unauthenticated)
}

func TestKeysJSON(t *testing.T) {
	a := authenticator(t, `{
		"key-number-one": "dev", "key-number-two": {"subject": "dev", "scopes": []},
		"key-number-three": {"subject": "Größe", "scopes": ["kv:read", "list"], "grants": {"transit": ["*"]}, "bind_ciphertexts": true},
		"key-number-four": {"subject": "gone", "expires_at": "2020-01-01T00:00:00Z"},
		"key-number-five": {"subject": "brief", "expires_at": "2999-01-01T00:00:00Z"}}`)
	one, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", "key-number-one")})
	require.NoError(t, err)
	two, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", "key-number-two")})
	require.NoError(t, err)
	require.Equal(t, one.ID(), two.ID(), "two keys of one subject are one principal in limits and paths")
	require.NotEqual(t, one.CredentialID, two.CredentialID)
	require.Empty(t, two.Scopes, "an empty list is the empty set, not all")

	three, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", "key-number-three")})
	require.NoError(t, err)
	require.Equal(t, "=47r=c3=b6=c3=9fe", three.Slug)
	require.True(t, three.Grants.Allow("transit", "anything"))
	require.False(t, three.Grants.Allow("ssh", "anything"))
	require.True(t, three.BindCiphertexts)
	require.False(t, one.BindCiphertexts)

	_, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", "key-number-four")})
	require.ErrorIs(t, err, fault.Unauthenticated)
	five, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", "key-number-five")})
	require.NoError(t, err)
	require.Equal(t, 2999, five.ExpiresAt.Year())
}

// What is wrong with API_KEYS_JSON is said by number, never by value: the names
// in it are keys.
func TestKeysJSONRefused(t *testing.T) {
	const ok = `"canary-good-key": "dev", `
	for text, want := range map[string]string{
		`[]`: "not a JSON object", `"canary"`: "not a JSON object", `nonsense`: "not a JSON object", `null`: "not a JSON object",
		`{` + ok + `"canary`:                                                                                 "entry 2",
		`{` + ok + `"canary-good-key": "x"}`:                                                                 "entry 2",
		`{` + ok + `"canary-key-2": canary}`:                                                                 "entry 2",
		`{` + ok + `"canary-key-2": 5}`:                                                                      "entry 2",
		`{` + ok + `"canary-key-2": null}`:                                                                   "entry 2",
		`{` + ok + `"canary-key-2": ""}`:                                                                     "entry 2",
		`{` + ok + `"": "canary"}`:                                                                           "entry 2",
		`{` + ok + `"canary": "dev"}`:                                                                        "entry 2", // too short
		`{` + ok + `"canary key": "dev"}`:                                                                    "entry 2",
		`{` + ok + `"canary-é-key": "dev"}`:                                                                  "entry 2",
		`{` + ok + `"canary\u0000key": "dev"}`:                                                               "entry 2",
		`{` + ok + `"` + strings.Repeat("canary", 50) + `": ""}`:                                             "entry 2",
		`{` + ok + `"canary-key-2": "` + strings.Repeat("A", 50) + `"}`:                                      "entry 2",
		`{` + ok + `"canary-key-2": {}}`:                                                                     "entry 2",
		`{` + ok + `"canary-key-2": {"subject": "a", "canary-member": 1}}`:                                   "entry 2: /...: unknown member",
		`{` + ok + `"canary-key-2": {"Subject": "a"}}`:                                                       "entry 2: /...: unknown member",
		`{` + ok + `"canary-key-2": {"subject": "a", "subject": "b"}}`:                                       "entry 2",
		`{` + ok + `"canary-key-2": {"subject": ["canary"]}}`:                                                "entry 2: /subject",
		`{` + ok + `"canary-key-2": {"subject": "a", "scopes": null}}`:                                       "entry 2: /scopes: null",
		`{` + ok + `"canary-key-2": {"subject": "a", "scopes": "read"}}`:                                     "entry 2: /scopes",
		`{` + ok + `"canary-key-2": {"subject": "a", "scopes": ["read", "canary"]}}`:                         "entry 2: scope 2",
		`{` + ok + `"canary-key-2": {"subject": "a", "scopes": ["read", 5]}}`:                                "entry 2: /scopes/1",
		`{` + ok + `"canary-key-2": {"subject": "a", "expires_at": "0001-01-01T00:00:00Z"}}`:                 "entry 2: /expires_at: the first second",
		`{` + ok + `"canary-key-2": {"subject": "a", "expires_at": "canary"}}`:                               "entry 2: /expires_at",
		`{` + ok + `"canary-key-2": {"subject": "a", "grants": {"canary": ["x"]}}}`:                          "entry 2",
		`{` + ok + `"canary-key-2": {"subject": "a", "grants": {"transit": ["canary*x"]}}}`:                  "entry 2",
		`{` + ok + `"canary-key-2": {"subject": "a", "12345678": 1}}`:                                        "entry 2: /...: unknown member", // could be a key
		`{"canary-good-key": "dev"} {}`:                                                                      "follows",
		`{"canary-good-key": "dev"} canary`:                                                                  "follows",
		`{"canary-good-key": "dev"`:                                                                          "entry 2",
		`{"canary-good-key": "dev", "canary-key-2": {"subject": "a", "12345678canary": {"12345678901": 1}}}`: "entry 2: /...",
	} {
		_, err := auth.New(auth.Options{Prefix: "mcp", APIKeys: true, KeysJSON: secret.NewText(text)})
		require.ErrorIs(t, err, fault.Invalid, text)
		require.ErrorContains(t, err, "API_KEYS_JSON", text)
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "canary", text)
	}
}

func TestNoKeysAtAll(t *testing.T) {
	for _, keys := range []string{"", " \n", "{}"} {
		a := authenticator(t, keys, func(o *auth.Options) { o.KeysFile = filepath.Join(t.TempDir(), "none", "keys.json") })
		_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", devKey)})
		require.ErrorIs(t, err, fault.Unauthenticated)
		require.NoError(t, a.Check(t.Context()))
	}
}

func TestLaunch(t *testing.T) {
	keys := `{"` + devKey + `": {"subject": "dev", "scopes": ["read"], "expires_at": "2026-01-01T00:00:00Z"}}`
	clock := time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC)
	a := authenticator(t, keys, func(o *auth.Options) {
		o.LaunchKey, o.LaunchSubject = secret.NewText(devKey), "stdio-agent"
		o.Now = func() time.Time { return clock }
	})
	p, err := a.Launch(t.Context())
	require.NoError(t, err)
	require.Equal(t, "dev", p.Slug, "the key counts, not the local subject")
	require.Equal(t, auth.MethodAPIKey, p.Method)

	clock = clock.Add(time.Second)
	_, err = a.Launch(t.Context())
	require.ErrorIs(t, err, fault.Unauthenticated, "it is checked on each call")

	bad := authenticator(t, keys, func(o *auth.Options) {
		o.LaunchKey, o.LaunchSubject = secret.NewText("canary-unknown"), "stdio-agent"
	})
	_, err = bad.Launch(t.Context())
	require.ErrorIs(t, err, fault.Unauthenticated, "a bad key does not fall back to the local subject")
	require.NotContains(t, err.Error(), "canary")

	_, err = authenticator(t, keys).Launch(t.Context())
	require.ErrorIs(t, err, fault.Unauthenticated)
}

func FuzzCredential(f *testing.F) {
	f.Add("Bearer "+devKey, "", true, false)
	f.Add("bearer a.b.c", devKey, true, true)
	f.Add("Basic eA==", "", true, false)
	f.Add("Bearer\t x", " ", true, true)
	f.Add("", "", true, true)
	f.Fuzz(func(t *testing.T, authorization, apiKey string, hasAuthorization, hasKey bool) {
		h := http.Header{}
		if hasAuthorization {
			h["Authorization"] = []string{authorization}
		}
		if hasKey {
			h["X-Api-Key"] = []string{apiKey}
		}
		key, token, err := auth.Credential(h)
		if err != nil {
			require.ErrorIs(t, err, fault.Unauthenticated)
			require.Empty(t, key)
			require.Empty(t, token)
			return
		}
		if token != "" { // a JWT is a bearer token and nothing else
			require.Empty(t, key)
			require.False(t, hasKey)
			require.Regexp(t, `^[!-~]+$`, token)
			require.Equal(t, 2, strings.Count(token, "."))
			require.True(t, strings.EqualFold(authorization[:7], "bearer "))
			require.Equal(t, token, strings.TrimLeft(authorization[7:], " "))
			return
		}
		// What is accepted is one word, and stood there as a whole in each header
		// that was sent.
		require.Regexp(t, `^[!-~]+$`, key)
		require.True(t, hasAuthorization || hasKey)
		if hasKey {
			require.Equal(t, apiKey, key)
		}
		if hasAuthorization {
			require.True(t, strings.EqualFold(authorization[:7], "bearer "))
			require.Equal(t, key, strings.TrimLeft(authorization[7:], " "))
			require.NotEqual(t, 2, strings.Count(key, "."))
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	path := filepath.Join(b.TempDir(), "keys.json")
	key, _, err := auth.NewKeyFile(path).Create("dev", auth.KeyOptions{})
	require.NoError(b, err)
	a := authenticator(b, `{"`+devKey+`": "dev"}`, func(o *auth.Options) { o.KeysFile = path })
	for name, h := range map[string]http.Header{
		"json":    headers("X-API-Key", devKey),
		"file":    headers("Authorization", "Bearer "+key.Reveal()),
		"unknown": headers("X-API-Key", "vmcp_0123456789ab_unknown"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, _ = a.Authenticate(b.Context(), auth.Presented{Header: h})
				}
			})
		})
	}
}
