package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
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

func TestJWTClaimsRefused(t *testing.T) {
	now := newYear.Unix()
	text := func(member string) string { // claims with one member as it stands
		return fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"dev-bot","exp":%d,%s}`, iss, aud, now+3600, member)
	}
	without := func(name, member string) string {
		c := map[string]string{"iss": fmt.Sprintf(`"iss":%q`, iss), "aud": fmt.Sprintf(`"aud":%q`, aud), "sub": `"sub":"dev-bot"`, "exp": fmt.Sprintf(`"exp":%d`, now+3600)}
		c[name] = member
		return "{" + c["iss"] + "," + c["aud"] + "," + c["sub"] + "," + c["exp"] + "}"
	}
	bad := map[string]any{
		"sub twice":                    without("sub", `"sub":"dev-bot","sub":"admin"`),
		"sub twice, once escaped":      without("sub", `"sub":"dev-bot","s\u0075b":"admin"`),
		"sub in two cases":             text(`"Sub":"admin"`),
		"sub with a long s":            text(`"` + "\u017f" + `ub":"admin"`),
		"scope in two cases":           text(`"SCOPE":"read","scope":"read"`),
		"a name twice, further down":   text(`"x":{"y":1,"y":2}`),
		"more after the object":        text(`"x":1`) + "{}",
		"no object":                    `"canary"`,
		"a list":                       `[{"sub":"dev-bot"}]`,
		"null":                         `null`,
		"what is not UTF-8":            text("\"x\":\"\xff\""),
		"half a surrogate":             text(`"x":"\ud800"`),
		"no sub":                       claims(obj{"sub": nil}),
		"sub empty":                    claims(obj{"sub": ""}),
		"sub a number":                 claims(obj{"sub": 5}),
		"sub a list":                   claims(obj{"sub": []string{"dev-bot"}}),
		"sub null":                     without("sub", `"sub":null`),
		"sub too long":                 claims(obj{"sub": strings.Repeat("canary", 22)}),
		"sub too long as a slug":       claims(obj{"sub": strings.Repeat("Ä", 30)}),
		"no aud":                       claims(obj{"aud": nil}),
		"aud of another":               claims(obj{"aud": "https://canary.example"}),
		"aud empty":                    claims(obj{"aud": ""}),
		"aud an empty list":            claims(obj{"aud": []string{}}),
		"aud a list without ours":      claims(obj{"aud": []string{"a", "b"}}),
		"aud a list of other things":   claims(obj{"aud": []any{aud, 5}}),
		"aud *":                        claims(obj{"aud": "*"}),
		"aud with a slash":             claims(obj{"aud": aud + "/"}),
		"aud in another case":          claims(obj{"aud": strings.ToUpper(aud)}),
		"aud with a path":              claims(obj{"aud": aud + "/mcp"}),
		"aud an object":                claims(obj{"aud": obj{aud: true}}),
		"no iss":                       claims(obj{"iss": nil}),
		"iss with a slash":             claims(obj{"iss": iss + "/"}),
		"iss in another case":          claims(obj{"iss": "https://Issuer.example/realm"}),
		"iss with http":                claims(obj{"iss": "http://issuer.example/realm"}),
		"iss of another":               claims(obj{"iss": "https://canary.example"}),
		"iss a list":                   claims(obj{"iss": []string{iss}}),
		"no exp":                       claims(obj{"exp": nil}),
		"exp 0":                        claims(obj{"exp": 0}),
		"exp negative":                 claims(obj{"exp": -1}),
		"exp a text":                   claims(obj{"exp": fmt.Sprint(now + 3600)}),
		"exp 1e308":                    without("exp", `"exp":1e308`),
		"exp 1e400":                    without("exp", `"exp":1e400`),
		"exp in ms":                    claims(obj{"exp": (now + 3600) * 1000}),
		"exp null":                     without("exp", `"exp":null`),
		"exp a date":                   claims(obj{"exp": "2030-01-01T00:00:00Z"}),
		"exp past by 60 s":             claims(obj{"exp": now - 60}),
		"exp past by 61 s":             claims(obj{"exp": now - 61}),
		"nbf in the future":            claims(obj{"nbf": now + 61}),
		"nbf a text":                   claims(obj{"nbf": "now"}),
		"nbf in ms":                    claims(obj{"nbf": now * 1000}),
		"iat in the future":            claims(obj{"iat": now + 61}),
		"iat null":                     text(`"iat":null`),
		"jti a number":                 claims(obj{"jti": 7}),
		"scope a number":               claims(obj{"scope": 1}),
		"scope null":                   text(`"scope":null`),
		"scope an object":              claims(obj{"scope": obj{"read": true}}),
		"scopes a list of lists":       claims(obj{"scope": nil, "scopes": [][]string{{"read"}}}),
		"scope and scopes that differ": claims(obj{"scope": "read", "scopes": []string{"read", "write"}}),
	}
	tokens := map[string]string{}
	for about, c := range bad {
		tokens[about] = signed("EdDSA", "ed", nil, c)
	}
	refused(t, world(t), tokens)
}

func TestJWTScopes(t *testing.T) {
	a := world(t)
	for about, c := range map[string]struct {
		claims obj
		want   auth.Scopes
	}{
		"words":                {obj{"scope": "read  kv:write "}, auth.Scopes{"read", "kv:write"}},
		"a list":               {obj{"scope": []string{"read", "list"}}, auth.Scopes{"read", "list"}},
		"scopes, words":        {obj{"scope": nil, "scopes": "delete"}, auth.Scopes{"delete"}},
		"scopes, a list":       {obj{"scope": nil, "scopes": []string{"ssh:write"}}, auth.Scopes{"ssh:write"}},
		"both, the same":       {obj{"scope": "list read", "scopes": []string{"read", "list", "openid"}}, auth.Scopes{"list", "read"}},
		"unknown ones":         {obj{"scope": "openid profile Read read:kv kv: :read admin"}, auth.Scopes{}},
		"known among unknown":  {obj{"scope": "openid read offline_access"}, auth.Scopes{"read"}},
		"one twice":            {obj{"scope": "read read"}, auth.Scopes{"read"}},
		"*":                    {obj{"scope": "*"}, auth.Scopes{}},
		"kv:*":                 {obj{"scope": "kv:* *:read"}, auth.Scopes{}},
		"empty":                {obj{"scope": ""}, auth.Scopes{}},
		"an empty list":        {obj{"scope": []string{}}, auth.Scopes{}},
		"none":                 {obj{"scope": nil}, auth.Scopes{}},
		"a list entry of two":  {obj{"scope": []string{"read write"}}, auth.Scopes{}},
		"tabs are no blanks":   {obj{"scope": "read\twrite"}, auth.Scopes{}},
		"scp of another world": {obj{"scope": nil, "scp": "read"}, auth.Scopes{}},
	} {
		p, err := try(t, a, signed("EdDSA", "ed", nil, claims(c.claims)))
		require.NoError(t, err, about)
		require.Equal(t, c.want, p.Scopes, about)
	}
}

// A token's id stands in records, so it is short and printable, or none.
func TestJWTCredentialID(t *testing.T) {
	a := world(t)
	for jti, want := range map[string]string{
		"id-1": "id-1", "with a blank": "with a blank", strings.Repeat("x", 64): strings.Repeat("x", 64),
		strings.Repeat("x", 65): "", "line\nbreak": "", "é": "", "\x1b[31m": "", "\u202e": "",
	} {
		p, err := try(t, a, signed("EdDSA", "ed", nil, claims(obj{"jti": jti})))
		require.NoError(t, err)
		require.Equal(t, want, p.CredentialID, "%q", jti)
	}
}

// Several issuers: each with its own keys, and its name as it stands.
func TestJWTIssuers(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.WriteFile(other, keySet(jwk("ec-other", nil)), 0o600))
	a := world(t, func(o *auth.Options) {
		o.JWT.Audiences = []string{aud}
		o.JWT.Further = secret.NewText(`[{"issuer":"` + iss + `/","jwks_file":"` + other + `"},
			{"issuer":"symmetric","audience":["x","y"],"hs256_secret":"` + hsSecret + `"}]`)
	})
	_, err := try(t, a, signed("ES256", "ec", nil, claims(nil)))
	require.NoError(t, err)
	for about, token := range map[string]string{
		"a further issuer":      signed("ES256", "ec-other", nil, claims(obj{"iss": iss + "/"})),
		"one that has a secret": sign("HS256", []byte(hsSecret), obj{"alg": "HS256"}, claims(obj{"iss": "symmetric", "aud": "y"})),
	} {
		_, err := try(t, a, token)
		require.ErrorIs(t, err, fault.Forbidden, "%s is verified, and without a rule it may do nothing", about)
	}
	refused(t, a, map[string]string{
		"the home issuer's key under another's name": signed("ES256", "ec", nil, claims(obj{"iss": iss + "/"})),
		"another's key under the home issuer's name": signed("ES256", "ec-other", nil, claims(nil)),
		"the secret of one for the other":            sign("HS256", []byte(hsSecret), obj{"alg": "HS256"}, claims(nil)),
		"the audience of the other":                  sign("HS256", []byte(hsSecret), obj{"alg": "HS256"}, claims(obj{"iss": "symmetric"})),
	})
}

func TestJWTChecksThatAreOff(t *testing.T) {
	a := world(t, func(o *auth.Options) { o.JWT.Home.AnyIssuer, o.JWT.Home.AnyAudience = true, true })
	for _, c := range []obj{{"iss": nil, "aud": nil}, {"iss": "https://other.example", "aud": "other"}} {
		p, err := try(t, a, signed("EdDSA", "ed", nil, claims(c)))
		require.NoError(t, err)
		require.Empty(t, p.Issuer)
	}
	refused(t, a, map[string]string{
		"aud of another kind": signed("EdDSA", "ed", nil, claims(obj{"aud": 5})),
		"no exp":              signed("EdDSA", "ed", nil, claims(obj{"exp": nil})),
		"another's key":       sign("ES256", signers()["ec-other"], obj{"alg": "ES256"}, claims(nil)),
	})
	off := world(t, func(o *auth.Options) { o.JWT.Accept = false })
	refused(t, off, map[string]string{"JWTs are off": signed("EdDSA", "ed", nil, claims(nil))})
	refused(t, authenticator(t, ""), map[string]string{"there is no issuer": signed("EdDSA", "ed", nil, claims(nil))})
}

// One credential: a JWT beside a key is refused whatever both are.
func TestJWTBesideAKey(t *testing.T) {
	a := world(t)
	token := signed("EdDSA", "ed", nil, claims(obj{"sub": "dev"}))
	for about, pairs := range map[string][]string{
		"a good key":             {"Authorization", "Bearer " + token, "X-API-Key", devKey},
		"the same text":          {"Authorization", "Bearer " + token, "X-API-Key", token},
		"as a key":               {"X-API-Key", token},
		"two tokens":             {"Authorization", "Bearer " + token, "Authorization", "Bearer " + token},
		"another scheme":         {"Authorization", "JWT " + token},
		"in the wrong header":    {"X-Authorization", "Bearer " + token},
		"a key bad, a token not": {"Authorization", "Bearer " + token, "X-API-Key", "unknown-key"},
	} {
		_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers(pairs...)})
		require.ErrorIs(t, err, fault.Unauthenticated, about)
	}
	_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("Authorization", "bEARER  "+token)})
	require.NoError(t, err, "the scheme has no case")
}

// Each mistake is told, with the name of its setting and without its value.
func TestJWTSettingsRefused(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte(`{"keys":[]}`), 0o600))
	_, err := auth.New(auth.Options{
		Prefix: "mcp", LaunchKey: secret.NewText("canary-key"),
		JWT: auth.JWTOptions{
			Accept: true, Launch: secret.NewText("a.canary.c"),
			Home: &auth.Issuer{Name: "can ary", OIDC: "https://canary.example?x", Secret: secret.NewText("canary"), Algorithms: []string{"RS256"}, AnyIssuer: true},
			Further: secret.NewText(`[{"issuer":"canary","audience":"*","jwks_url":"http://canary.example"},
				{"issuer":"canary","audience":"x","hs256_secret":"` + hsSecret + `","algorithms":["none"]},
				{"audience":"x","jwks_file":"` + broken + `"}, {"issuer":"y","audience":"x","jwks_file":"/canary"}, {"issuer":"z","audience":"x","jwks_file":"` + broken + `"}]`),
		},
	})
	require.ErrorIs(t, err, fault.Invalid)
	for _, want := range []string{
		"VAULT_MCP_API_KEY, VAULT_MCP_JWT and VAULT_MCP_JWT_FILE: want only one",
		"JWT_ISSUER: want at most", "OIDC_ISSUER: want the same as JWT_ISSUER", "OIDC_ISSUER: want an https URL", "JWT_AUDIENCE: it is missing",
		"JWT_ISSUER: want one source of its keys", "JWT_HS256_SECRET: want at least 32 bytes", "JWT_ALGORITHMS: want algorithms that fit", "JWT_VALIDATE_ISSUER: it can be off only",
		"ISSUERS: issuer 1: audience: want names", "ISSUERS: issuer 1: jwks_url: want an https URL",
		"ISSUERS: issuer 2: issuer: it was given before", "ISSUERS: issuer 2: algorithms: want",
		"ISSUERS: issuer 3: issuer: it is missing", "ISSUERS: issuer 4: jwks_file: there is no such file", "ISSUERS: issuer 5: jwks_file: the key set has no key",
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "canary")
	for text, want := range map[string]string{
		`{}`: "ISSUERS", `[{"canary":1}]`: "unknown member", `[{"issuer":null}]`: "null", `[{"issuer":"a","issuer":"b"}]`: "twice",
		`[{"issuer":"a","Issuer":"canary"}]`: "unknown member", `[{"oidc":"canary"}]`: "/0/oidc", `canary`: "JSON", `[{"audience":[5]}]`: "/0/audience",
		`[` + strings.Repeat(`{},`, 32) + `{}]`: "at most 32",
	} {
		_, err := auth.New(auth.Options{Prefix: "mcp", JWT: auth.JWTOptions{Accept: true, Further: secret.NewText(text)}})
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "canary")
	}
}

// FuzzJWT feeds any header and claims to the parser, signed as they should be:
// what is accepted says in plain JSON what it was taken for.
func FuzzJWT(f *testing.F) {
	good := claims(nil)
	f.Add(`{"alg":"HS256"}`, mustJSON(good))
	f.Add(`{"alg":"HS256","typ":"at+jwt","kid":"x","jwk":{}}`, mustJSON(claims(obj{"scope": []string{"read"}, "aud": []string{aud}})))
	f.Add(`{"alg":"none"}`, `{"sub":"a","sub":"b"}`)
	f.Add(`{"alg":"HS256","crit":["x"]}`, `{"exp":1e308,"nbf":-1,"iss":[],"scope":{}}`)
	a := world(f, withSecret)
	f.Fuzz(func(t *testing.T, header, body string) {
		p, err := try(t, a, sign("HS256", []byte(hsSecret), header, body))
		if err != nil {
			require.ErrorIs(t, err, fault.Unauthenticated)
			require.Nil(t, p)
			return
		}
		// Another decoder reads the same in it.
		var h, c map[string]any
		require.NoError(t, json.Unmarshal([]byte(header), &h))
		require.NoError(t, json.Unmarshal([]byte(body), &c))
		require.Equal(t, "HS256", h["alg"])
		require.NotContains(t, h, "crit")
		require.Equal(t, p.Subject, c["sub"])
		require.Equal(t, iss, c["iss"])
		require.Contains(t, fmt.Sprint(c["aud"]), aud)
		require.InDelta(t, c["exp"], p.ExpiresAt.Add(-time.Minute).Unix(), 1)
		require.True(t, p.Valid(newYear))
		for _, scope := range p.Scopes {
			require.Contains(t, fmt.Sprint(c["scope"], c["scopes"]), string(scope))
		}
	})
}

func mustJSON(v any) string {
	b, err := base64.RawURLEncoding.DecodeString(part(v))
	must(err)
	return string(b)
}
