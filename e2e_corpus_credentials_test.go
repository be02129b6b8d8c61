package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// badCredential is a request that nobody may make.
type badCredential struct {
	about  string
	header http.Header
	query  string
	status int // 0: 401
}

// wayIn sends a read of a secret with any credential.
type wayIn struct {
	name string
	send func(t *testing.T, query string, credential http.Header) raw
}

// waysIn are those over HTTP. The credential is one that may open a session,
// which the later requests of the older revisions then show.
func waysIn(t *testing.T, url string, credential http.Header) []wayIn {
	t.Helper()
	frame := toolCall(`"kv.read"`, `{"path":"app/config"}`)
	plain, modern := strings.ReplaceAll(frame, metaHole, ""), strings.ReplaceAll(frame, metaHole, modernMeta)
	opened := post(t, url+"/mcp", hello, credential)
	session := opened.header.Get("Mcp-Session-Id")
	require.NotEmpty(t, session, opened.body)
	to := func(path, body string, header map[string]string) func(*testing.T, string, http.Header) raw {
		return func(t *testing.T, query string, credential http.Header) raw {
			t.Helper()
			all := credential.Clone()
			for name, value := range header {
				all.Set(name, value)
			}
			return post(t, url+path+query, body, all)
		}
	}
	return []wayIn{
		{"rpc", to("/mcp/rpc", plain, nil)},
		{"legacy", to("/mcp", plain, map[string]string{"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-06-18"})},
		{"legacy hello", to("/mcp", hello, nil)},
		{"modern", to("/mcp", modern, modernHeaders(modern))},
	}
}

// requireRefused holds an answer to what every refused credential gets: its
// status, one challenge with a 401, one record, and nothing of what was sent.
func requireRefused(t *testing.T, row *badCredential, got raw, trail *trailReader, seen *devstacktest.Rec) {
	t.Helper()
	status, outcome := row.status, "forbidden"
	if status == 0 {
		status, outcome = http.StatusUnauthorized, "unauthenticated"
	}
	require.Equal(t, status, got.status, got.body)
	challenges := got.header["Www-Authenticate"]
	if status == http.StatusUnauthorized {
		require.Len(t, challenges, 1)
		require.Regexp(t, `^Bearer realm="vault-mcp", resource_metadata="http://127\.0\.0\.1:\d+/\.well-known/oauth-protected-resource/mcp"(, error="invalid_token")?, scope="read list"$`, challenges[0])
		has := len(row.header["Authorization"])+len(row.header["X-Api-Key"]) > 0
		require.Equal(t, has, strings.Contains(challenges[0], "invalid_token"), "%v", challenges)
	} else {
		require.Empty(t, challenges, "another token would not do")
	}
	record := trail.ended(t, verdict{code: outcome, id: judge(t, got.body).id}, row.about)
	require.Equal(t, audit.Reject, record.Kind)
	require.Empty(t, seen.Requests(), "it reached Vault")
	for _, value := range append(row.header["Authorization"], row.header["X-Api-Key"]...) {
		for part := range strings.SplitSeq(strings.TrimPrefix(value, "Bearer "), ".") {
			if len(part) > 20 {
				require.NotContains(t, got.all(), part)
				require.NotContains(t, fmt.Sprintf("%+v", record), part)
			}
		}
	}
}

// TestBadCredentials sends every credential of the corpus over each way in. None
// gets further than the door, and each leaves its one record there.
func TestBadCredentials(t *testing.T) {
	seen := devstacktest.Recorder(t, devstacktest.Shared(t).Addr)
	home, stranger := newIssuer(t, "https://issuer.example/realm"), newIssuer(t, "https://issuer.example/other")
	env := settings(t, devstacktest.Shared(t), append(home.home(), "VAULT_ADDR="+seen.URL, stranger.further(),
		"OAUTH_AUTHORIZATION_SERVERS="+home.name, "AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=127.0.0.1",
		`PRINCIPALS=[{"subject":"stopped","disabled":true}]`)...)
	p, trail := startHTTP(t, env), readTrail(env)
	client := 0
	// Whose credentials fail is held back by its address; each request here comes
	// from another one.
	from := func(header http.Header) http.Header {
		client++
		header = header.Clone()
		header.Set("X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", client/250, client%250+1))
		return header
	}
	good := home.token(nil)
	rows := badProxyHeaders()
	for about, token := range badTokens(t, home) {
		rows = append(rows, badCredential{about: about, header: withToken(token)})
	}
	rows = append(rows, badPlaces(good)...)
	for subject, i := range map[string]*issuer{"dev": stranger, "stopped": home} {
		rows = append(rows, badCredential{about: "of " + subject + " by " + i.name, header: withToken(i.token(obj{"sub": subject})), status: http.StatusForbidden})
	}
	for _, way := range waysIn(t, p.url, from(withToken(good))) {
		require.Equal(t, http.StatusOK, way.send(t, "", from(withToken(good))).status, "the token that all of them vary")
		for _, row := range rows {
			t.Run(way.name+"/"+row.about, func(t *testing.T) {
				trail.more(t)
				seen.Reset()
				requireRefused(t, &row, way.send(t, row.query, from(row.header)), trail, seen)
			})
		}
	}
	p.stop(t)
	require.NotContains(t, p.stderr(), "panic")
	require.NotContains(t, p.stderr()+everythingBelow(t, setting(env, "STATE_DIR")), good[strings.LastIndex(good, "."):])
}

// badTokens are the tokens of the corpus that are never one of the issuer's.
func badTokens(t *testing.T, i *issuer) map[string]string {
	t.Helper()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	require.NoError(t, err)
	spki := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	now := time.Now()
	attacker := (&issuer{key: other}).jwk()
	good := i.token(nil)
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	require.NoError(t, err)
	rows := map[string]string{
		"another's key":           signJWT(jwt.SigningMethodRS256, other, i.header(nil), i.claims(nil)),
		"HS256 with the PEM":      signJWT(jwt.SigningMethodHS256, spki, i.header(obj{"alg": "HS256"}), i.claims(nil)),
		"HS256 with the bare PEM": signJWT(jwt.SigningMethodHS256, []byte(strings.TrimSpace(string(spki))), i.header(obj{"alg": "HS256"}), i.claims(nil)),
		"HS256 with the DER":      signJWT(jwt.SigningMethodHS256, der, i.header(obj{"alg": "HS256"}), i.claims(nil)),
		"ES256":                   signJWT(jwt.SigningMethodES256, ec, i.header(obj{"alg": "ES256"}), i.claims(nil)),
		"RS512 of an RS256 key":   signJWT(jwt.SigningMethodRS512, i.key, i.header(obj{"alg": "RS512"}), i.claims(nil)),
		"PS256 of an RS256 key":   signJWT(jwt.SigningMethodPS256, i.key, i.header(obj{"alg": "PS256"}), i.claims(nil)),
		"no signature":            head + "." + body + ".",
		"other claims":            head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + signature,
		"trailing dot":            good + ".",
		"padding":                 good + "==",
		"standard alphabet":       head + "." + body + "." + base64.StdEncoding.EncodeToString(raw) + "+/",
		"whitespace":              head + ". " + rest,
		"five parts":              good + "." + signature + "." + signature,
		"dots":                    strings.Repeat(".", 10_000),
		"huge":                    i.token(obj{"pad": strings.Repeat("a", 12<<10)}),
		"claims with a twin":      signJWT(jwt.SigningMethodRS256, i.key, i.header(nil), fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":%d,"sub":"dev","sub":"root"}`, i.name, jwtAudience, now.Add(time.Hour).Unix())),
		"claims with a case twin": signJWT(jwt.SigningMethodRS256, i.key, i.header(nil), i.claims(obj{"SUB": "root"})),
		"claims that are a list":  signJWT(jwt.SigningMethodRS256, i.key, i.header(nil), `[]`),
		"header with a twin":      signJWT(jwt.SigningMethodRS256, i.key, `{"alg":"RS256","alg":"none","kid":"signing"}`, i.claims(nil)),
	}
	for _, alg := range []any{"none", "None", "nOnE", "", nil, 5, []string{"RS256"}} {
		rows[fmt.Sprint("alg ", alg)] = signJWT(jwt.SigningMethodRS256, i.key, i.header(obj{"alg": alg}), i.claims(nil))
		rows[fmt.Sprint("unsigned, alg ", alg)] = signJWT(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, i.header(obj{"alg": alg}), i.claims(nil))
	}
	for about, header := range map[string]obj{
		"crit":                    {"crit": []string{"x"}, "x": 1},
		"b64":                     {"b64": false, "crit": []string{"b64"}},
		"zip":                     {"zip": "DEF"},
		"typ":                     {"typ": "dpop+jwt"},
		"kid that is not there":   {"kid": "other"},
		"kid that is a path":      {"kid": "../../../../etc/passwd"},
		"kid that is a statement": {"kid": "' OR 1=1 --"},
		"kid that is no text":     {"kid": 1},
	} {
		rows[about] = signJWT(jwt.SigningMethodRS256, i.key, i.header(header), i.claims(nil))
	}
	for about, header := range map[string]obj{
		"jwk": {"jwk": attacker, "kid": nil}, "jku": {"jku": "http://169.254.169.254/jwks"},
		"x5u": {"x5u": "http://169.254.169.254/x5u"}, "x5c": {"x5c": []string{base64.StdEncoding.EncodeToString(der)}},
	} {
		rows["a key that it brings by "+about] = signJWT(jwt.SigningMethodRS256, other, i.header(header), i.claims(nil))
	}
	for about, claims := range map[string]obj{
		"aud missing": {"aud": nil}, "aud other": {"aud": "https://other.example/mcp"}, "aud *": {"aud": "*"}, "aud with a slash": {"aud": jwtAudience + "/"},
		"aud in other case": {"aud": strings.ToUpper(jwtAudience)}, "aud list of others": {"aud": []string{"a", "b"}}, "aud empty list": {"aud": []string{}},
		"iss missing": {"iss": nil}, "iss other": {"iss": "https://evil.example"}, "iss with a slash": {"iss": i.name + "/"}, "iss in other case": {"iss": strings.ToUpper(i.name)},
		"iss by http": {"iss": strings.Replace(i.name, "https", "http", 1)}, "exp missing": {"exp": nil}, "exp 0": {"exp": 0}, "exp negative": {"exp": -1},
		"exp a text": {"exp": fmt.Sprint(now.Add(time.Hour).Unix())}, "exp of a minute ago": {"exp": now.Add(-62 * time.Second).Unix()},
		"nbf to come": {"nbf": now.Add(2 * time.Minute).Unix()}, "iat to come": {"iat": now.Add(2 * time.Minute).Unix()},
		"sub missing": {"sub": nil}, "sub empty": {"sub": ""}, "sub a number": {"sub": 1}, "sub true": {"sub": true}, "sub a list": {"sub": []string{"dev"}}, "sub null": {"sub": (*string)(nil)},
		"sub too long": {"sub": strings.Repeat("a", 129)}, "scope a number": {"scope": 1}, "two scopes that differ": {"scopes": []string{"read"}},
	} {
		rows[about] = i.token(claims)
	}
	return rows
}

// badPlaces are good credentials where or as they do not count.
func badPlaces(good string) []badCredential {
	return []badCredential{
		{about: "two tokens", header: http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}},
		{about: "a token and nonsense", header: http.Header{"Authorization": {"Bearer " + good, "Basic YTpi"}}},
		{about: "a token in X-API-Key", header: withKey(good)},
		{about: "a token in both places", header: merged(withToken(good), withKey(good))},
		{about: "a token and a key", header: merged(withToken(good), withKey(devKey))},
		{about: "two keys", header: http.Header{"X-Api-Key": {devKey, devKey}}},
		{about: "two keys of two", header: merged(withToken(botKey), withKey(devKey))},
		{about: "another scheme", header: http.Header{"Authorization": {"DPoP " + good}}},
		{about: "no scheme", header: http.Header{"Authorization": {good}}},
		{about: "a token in the query", header: http.Header{}, query: "?access_token=" + good},
		{about: "a key in the query", header: http.Header{}, query: "?api_key=" + devKey},
		{about: "a token in a cookie", header: http.Header{"Cookie": {"Authorization=Bearer " + good}}},
		{about: "a token for a proxy", header: http.Header{"Proxy-Authorization": {"Bearer " + good}}},
		{about: "nothing", header: http.Header{}},
	}
}

func merged(headers ...http.Header) http.Header {
	all := http.Header{}
	for _, h := range headers {
		maps.Copy(all, h)
	}
	return all
}

// badProxyHeaders are those of a trusted proxy that has let through, or made of
// a certificate, what names nobody.
func badProxyHeaders() (rows []badCredential) {
	told := func(about, verify, dn string) {
		rows = append(rows, badCredential{about: about, header: http.Header{"X-Ssl-Client-Verify": {verify}, "X-Ssl-Client-S-Dn": {dn}}})
	}
	for _, verify := range []string{"NONE", "FAILED:unable to verify", "FAILED", "success", "SUCCESS, NONE", "SUCCESS;", "", "0", "true"} {
		told("verify "+verify, verify, "CN=dev")
	}
	for _, dn := range []string{
		"", "dev", "O=dev", "CN=", "CN=dev,CN=root", "CN=dev+UID=root,CN=root", "/C=US/CN=a/CN=admin", `CN=dev\`, `CN=dev\00root`, "CN=dev,", "CN=" + strings.Repeat("a", 16<<10),
	} {
		told("DN "+short(dn), "SUCCESS", dn)
	}
	return append(
		rows,
		badCredential{about: "verify twice", header: http.Header{"X-Ssl-Client-Verify": {"SUCCESS", "SUCCESS"}, "X-Ssl-Client-S-Dn": {"CN=dev"}}},
		badCredential{about: "DN twice", header: http.Header{"X-Ssl-Client-Verify": {"SUCCESS"}, "X-Ssl-Client-S-Dn": {"CN=dev", "CN=root"}}},
		badCredential{about: "verify alone", header: http.Header{"X-Ssl-Client-Verify": {"SUCCESS"}}},
		badCredential{about: "DN alone", header: http.Header{"X-Ssl-Client-S-Dn": {"CN=dev"}}},
		badCredential{about: "hop by hop", header: http.Header{"X-Ssl-Client-Verify": {"SUCCESS"}, "X-Ssl-Client-S-Dn": {"CN=dev"}, "Connection": {"X-SSL-Client-Verify"}}},
		badCredential{about: "a bad certificate and a good key", header: http.Header{"X-Ssl-Client-Verify": {"FAILED"}, "X-Ssl-Client-S-Dn": {"CN=dev"}, "X-Api-Key": {devKey}}},
	)
}

// TestForgedProxyHeaders: what only a proxy may say is nothing from anybody else,
// however it is spelled.
func TestForgedProxyHeaders(t *testing.T) {
	seen := devstacktest.Recorder(t, devstacktest.Shared(t).Addr)
	home := newIssuer(t, "https://issuer.example")
	env := settings(t, devstacktest.Shared(t), append(home.home(), "VAULT_ADDR="+seen.URL, "AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=192.0.2.1",
		"OAUTH_AUTHORIZATION_SERVERS="+home.name)...)
	p, trail := startHTTP(t, env), readTrail(env)
	rows := []badCredential{
		{about: "underscores", header: http.Header{"X_SSL_Client_Verify": {"SUCCESS"}, "X_SSL_Client_S_DN": {"CN=dev"}}},
		{about: "small letters", header: http.Header{"x-ssl-client-verify": {"SUCCESS"}, "x-ssl-client-s-dn": {"CN=dev"}}},
		{about: "from a trusted place", header: http.Header{"X-Ssl-Client-Verify": {"SUCCESS"}, "X-Ssl-Client-S-Dn": {"CN=dev"}, "X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}, "X-Real-Ip": {"192.0.2.1"}}},
		{about: "hop by hop", header: http.Header{"X-Ssl-Client-Verify": {"SUCCESS"}, "X-Ssl-Client-S-Dn": {"CN=dev"}, "Connection": {"X-SSL-Client-Verify"}}},
		{about: "RFC 9440", header: http.Header{"Client-Cert": {":AAAA:"}, "X-Ssl-Client-Verify": {"SUCCESS"}}},
		{about: "a subject", header: http.Header{"X-Remote-User": {"dev"}, "X-Forwarded-User": {"dev"}}},
	}
	for _, way := range waysIn(t, p.url, withKey(devKey)) {
		require.Equal(t, http.StatusOK, way.send(t, "", merged(rows[2].header, withKey(devKey))).status, "they do not count beside a key")
		for _, row := range rows {
			t.Run(way.name+"/"+row.about, func(t *testing.T) {
				trail.more(t)
				seen.Reset()
				requireRefused(t, &row, way.send(t, row.query, row.header), trail, seen)
			})
		}
	}
	for _, record := range readTrail(env).ends(t) {
		require.Equal(t, "127.0.0.1", record.Remote, "nobody chooses where it comes from")
	}
}
