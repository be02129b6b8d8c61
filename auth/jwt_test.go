package auth_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// refused demands that each token is refused, without a word of it.
func refused(t *testing.T, a *auth.Authenticator, tokens map[string]string) {
	t.Helper()
	for about, token := range tokens {
		p, err := try(t, a, token)
		require.Nil(t, p, about)
		require.ErrorIs(t, err, fault.Unauthenticated, about)
		require.NotContains(t, strings.ToLower(err.Error()), "canary", about)
	}
}

func TestJWTAccepted(t *testing.T) {
	a := world(t)
	for about, token := range map[string]string{
		"RS256":                        signed("RS256", "rsa", nil, claims(nil)),
		"RS384":                        signed("RS384", "rsa", nil, claims(nil)),
		"RS512":                        signed("RS512", "rsa", nil, claims(nil)),
		"PS256":                        signed("PS256", "rsa", nil, claims(nil)),
		"ES256":                        signed("ES256", "ec", nil, claims(nil)),
		"ES384":                        signed("ES384", "ec384", nil, claims(nil)),
		"EdDSA":                        signed("EdDSA", "ed", nil, claims(nil)),
		"the alg of its key":           signed("RS512", "rsa-rs512", nil, claims(nil)),
		"no kid, one key fits":         signed("ES384", "ec384", obj{"kid": nil}, claims(nil)),
		"no kid, several keys fit":     signed("RS256", "rsa", obj{"kid": nil}, claims(nil)),
		"one of two keys of one kid":   sign("RS256", signers()["rsa-other"], obj{"alg": "RS256", "kid": "twin"}, claims(nil)),
		"the other of them":            sign("RS256", signers()["rsa"], obj{"alg": "RS256", "kid": "twin"}, claims(nil)),
		"one of another kind":          sign("ES256", signers()["ec"], obj{"alg": "ES256", "kid": "twin"}, claims(nil)),
		"no typ":                       signed("EdDSA", "ed", obj{"typ": nil}, claims(nil)),
		"typ in another case":          signed("EdDSA", "ed", obj{"typ": "jWt"}, claims(nil)),
		"typ of an access token":       signed("EdDSA", "ed", obj{"typ": "application/AT+jwt"}, claims(nil)),
		"keys that it brings":          signed("EdDSA", "ed", obj{"jwk": jwk("ec-other", nil), "jku": "http://169.254.169.254/", "x5u": "http://169.254.169.254/", "x5c": []string{"canary"}}, claims(nil)),
		"aud is a list with ours":      signed("EdDSA", "ed", nil, claims(obj{"aud": []string{"other", aud}})),
		"no iat":                       signed("EdDSA", "ed", nil, claims(obj{"iat": nil})),
		"exp with a fraction":          signed("EdDSA", "ed", nil, claims(obj{"exp": 1767229200.5})),
		"exp past by 59 s":             signed("EdDSA", "ed", nil, claims(obj{"exp": newYear.Unix() - 59})),
		"nbf in the future by 59 s":    signed("EdDSA", "ed", nil, claims(obj{"nbf": newYear.Unix() + 59, "iat": newYear.Unix() + 59})),
		"claims that nobody heeds":     signed("EdDSA", "ed", nil, claims(obj{"Email": "x", "email": "x", "nested": obj{"sub": "x"}})),
		"the twin of its signature":    twin(t, signed("ES256", "ec", nil, claims(nil))), // ECDSA has two for each; nothing is keyed by one
		"the same token a second time": signed("EdDSA", "ed", nil, claims(obj{"jti": "one"})),
		"and a third":                  signed("EdDSA", "ed", nil, claims(obj{"jti": "one"})), // a bearer token is used many times
	} {
		p, err := try(t, a, token)
		require.NoError(t, err, about)
		require.Equal(t, "mcp/dev-bot", p.Prefix, about)
		require.Equal(t, auth.MethodJWT, p.Method)
		require.Empty(t, p.Issuer, "the home issuer's subjects are the operator's own")
		require.Equal(t, auth.Scopes{"kv:read", "list"}, p.Scopes, about)
		require.False(t, p.ExpiresAt.IsZero())
	}
	b := world(t, withSecret)
	p, err := try(t, b, sign("HS256", []byte(hsSecret), obj{"alg": "HS256", "kid": "whatever"}, claims(obj{"jti": "canary-1"})))
	require.NoError(t, err)
	require.Equal(t, "canary-1", p.CredentialID)
	require.Equal(t, newYear.Add(time.Hour+time.Minute), p.ExpiresAt.UTC(), "to the end that is checked, with the leeway")
}

// twin is a token with the other ECDSA signature of the same text: n-s for s.
func twin(t *testing.T, token string) string {
	t.Helper()
	at := strings.LastIndexByte(token, '.') + 1
	sig, err := base64.RawURLEncoding.DecodeString(token[at:])
	require.NoError(t, err)
	key, ok := signers()["ec"].(*ecdsa.PrivateKey)
	require.True(t, ok)
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(key.Params().N, s).FillBytes(sig[32:])
	return token[:at] + base64.RawURLEncoding.EncodeToString(sig)
}

// signature replaces the signature of a token.
func signature(token string, sig []byte) string {
	return token[:strings.LastIndexByte(token, '.')+1] + base64.RawURLEncoding.EncodeToString(sig)
}

func TestJWTSignatureRefused(t *testing.T) {
	rsaDER, err := x509.MarshalPKIXPublicKey(signers()["rsa"].Public())
	require.NoError(t, err)
	ecDER, err := x509.MarshalPKIXPublicKey(signers()["ec"].Public())
	require.NoError(t, err)
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: rsaDER})
	good := signed("ES256", "ec", nil, claims(nil))
	asn1, err := ecdsa.SignASN1(rand.Reader, signers()["ec"].(*ecdsa.PrivateKey), make([]byte, 32))
	require.NoError(t, err)
	none := func(alg any) string { return part(obj{"alg": alg, "typ": "JWT"}) + "." + part(claims(nil)) + "." }
	hmac := func(key []byte, kid string) string {
		return sign("HS256", key, obj{"alg": "HS256", "kid": kid}, claims(nil))
	}
	for name, a := range map[string]*auth.Authenticator{
		"keys": world(t), "secret": world(t, withSecret),
		"algorithms": world(t, func(o *auth.Options) { o.JWT.Home.Algorithms = []string{"RS256"} }),
	} {
		tokens := map[string]string{
			"alg none": none("none"), "alg None": none("None"), "alg nOnE": none("nOnE"), "alg empty": none(""), "alg null": none(nil), "alg a number": none(5),
			"no alg":                       part(obj{"typ": "JWT"}) + "." + part(claims(nil)) + "." + part("canary"),
			"alg none, with a signature":   none("none") + part("canary"),
			"HS256 with the RSA key, PEM":  hmac(rsaPEM, "rsa"),
			"HS256 with it, no line end":   hmac([]byte(strings.TrimSpace(string(rsaPEM))), "rsa"),
			"HS256 with it, DER":           hmac(rsaDER, "rsa"),
			"HS256 with the EC key, DER":   hmac(ecDER, "ec"),
			"HS256 with nothing":           hmac([]byte{}, "rsa"),
			"HS384":                        sign("HS384", []byte(hsSecret), obj{"alg": "HS384"}, claims(nil)),
			"another alg than it says":     sign("PS256", signers()["rsa"], obj{"alg": "RS256", "kid": "rsa"}, claims(nil)),
			"ES256 in DER":                 signature(good, asn1),
			"ES256 with r = s = 0":         signature(good, make([]byte, 64)),
			"ES256 cut short":              signature(good, make([]byte, 63)),
			"no signature":                 signature(good, nil),
			"another's signature":          sign("ES256", signers()["ec-other"], obj{"alg": "ES256", "kid": "ec"}, claims(nil)),
			"ES384 by a key of P-256":      part(obj{"alg": "ES384", "kid": "ec"}) + "." + part(claims(nil)) + "." + part(strings.Repeat("c", 96)),
			"ES512":                        signed("ES512", "ec521", nil, claims(nil)),
			"PS512":                        signed("PS512", "rsa", nil, claims(nil)),
			"RS256 of 1024 bits":           signed("RS256", "rsa-weak", nil, claims(nil)),
			"a key of 512 bits":            signed("RS256", "rsa", obj{"kid": "tiny"}, claims(nil)),
			"a key for encryption":         sign("ES256", signers()["ec-other"], obj{"alg": "ES256", "kid": "enc"}, claims(nil)),
			"a key of other operations":    sign("RS256", signers()["rsa-other"], obj{"alg": "RS256", "kid": "sign-only"}, claims(nil)),
			"a key for another alg":        signed("RS256", "rsa-rs512", nil, claims(nil)),
			"a key that was given away":    sign("RS256", signers()["rsa-other"], obj{"alg": "RS256", "kid": "private"}, claims(nil)),
			"a point that is on no curve":  sign("ES256", signers()["ec"], obj{"alg": "ES256", "kid": "off-curve"}, claims(nil)),
			"the key of another kid":       signed("RS256", "rsa", obj{"kid": "rsa-rs512"}, claims(nil)),
			"an unknown kid":               signed("RS256", "rsa", obj{"kid": "canary"}, claims(nil)),
			"kid in another case":          signed("RS256", "rsa", obj{"kid": "RSA"}, claims(nil)),
			"kid empty":                    signed("RS256", "rsa", obj{"kid": ""}, claims(nil)),
			"kid a number":                 signed("RS256", "rsa", obj{"kid": 1}, claims(nil)),
			"kid null":                     signed("RS256", "rsa", `{"alg":"RS256","kid":null}`, claims(nil)),
			"kid a path":                   signed("RS256", "rsa", obj{"kid": "../../etc/passwd"}, claims(nil)),
			"kid with quotes":              signed("RS256", "rsa", obj{"kid": "' OR 1=1"}, claims(nil)),
			"kid of 1 MiB":                 signed("RS256", "rsa", obj{"kid": strings.Repeat("canary", 1<<18)}, claims(nil)),
			"a key that it brings":         sign("ES256", signers()["ec-other"], obj{"alg": "ES256", "jwk": jwk("ec-other", nil)}, claims(nil)),
			"a key at a URL that it names": sign("ES256", signers()["ec-other"], obj{"alg": "ES256", "kid": "ec-other", "jku": "https://issuer.example/canary"}, claims(nil)),
			"crit":                         signed("RS256", "rsa", obj{"crit": []string{"canary"}}, claims(nil)),
			"crit of nothing":              signed("RS256", "rsa", obj{"crit": []string{}}, claims(nil)),
			"b64 false":                    signed("RS256", "rsa", obj{"b64": false, "crit": []string{"b64"}}, claims(nil)),
			"b64 without crit":             signed("RS256", "rsa", obj{"b64": false}, claims(nil)),
			"zip":                          signed("RS256", "rsa", obj{"zip": "DEF"}, claims(nil)),
			"typ of something else":        signed("RS256", "rsa", obj{"typ": "dpop+jwt"}, claims(nil)),
			"typ of a logout":              signed("RS256", "rsa", obj{"typ": "logout+jwt"}, claims(nil)),
			"typ a list":                   signed("RS256", "rsa", obj{"typ": []string{"JWT"}}, claims(nil)),
			"alg twice":                    signed("RS256", "rsa", `{"alg":"none","alg":"RS256","kid":"rsa"}`, claims(nil)),
			"alg in two cases":             signed("RS256", "rsa", `{"Alg":"none","alg":"RS256","kid":"rsa"}`, claims(nil)),
			"kid with the Kelvin sign":     signed("RS256", "rsa", `{"alg":"RS256","kid":"rsa","`+"\u212a"+`id":"x"}`, claims(nil)),
			"a header that is a list":      signed("RS256", "rsa", `["RS256"]`, claims(nil)),
			"a header with more behind":    signed("RS256", "rsa", `{"alg":"RS256","kid":"rsa"} {}`, claims(nil)),
			"a header that does not end":   signed("RS256", "rsa", `{"alg":"RS256","kid":"rsa"`, claims(nil)),
			"a header that is not UTF-8":   signed("RS256", "rsa", "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"x\":\"\xff\"}", claims(nil)),
			"a byte order mark":            signed("RS256", "rsa", "\ufeff"+`{"alg":"RS256","kid":"rsa"}`, claims(nil)),
		}
		t.Run(name, func(t *testing.T) { refused(t, a, tokens) })
	}
	refused(t, world(t, withSecret), map[string]string{
		"RS256 where a secret signs": signed("RS256", "rsa", nil, claims(nil)),
		"another secret":             sign("HS256", []byte(strings.ToUpper(hsSecret)), obj{"alg": "HS256"}, claims(nil)),
	})
	refused(t, world(t, func(o *auth.Options) { o.JWT.Home.Algorithms = []string{"RS256"} }), map[string]string{
		"PS256, not allowed": signed("PS256", "rsa", nil, claims(nil)),
		"ES256, not allowed": signed("ES256", "ec", nil, claims(nil)),
	})
	refused(t, world(t, func(o *auth.Options) { o.JWT.Home.RequireKID = true }), map[string]string{
		"no kid": signed("RS256", "rsa", obj{"kid": nil}, claims(nil)),
	})
}

func TestJWTFormRefused(t *testing.T) {
	good := signed("EdDSA", "ed", nil, claims(nil))
	parts := strings.Split(good, ".")
	padded := parts[1] + strings.Repeat("=", 4-len(parts[1])%4)
	// The last character of a part holds bits that mean nothing.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, good[len(good)-1])
	loose := good[:len(good)-1] + string(alphabet[last^1])
	_, err := jwt.NewParser().DecodeSegment(loose[strings.LastIndexByte(loose, '.')+1:])
	require.NoError(t, err, "a decoder that is not strict takes it")
	standard := strings.Split(signed("EdDSA", "ed", nil, claims(obj{"x": "ÿÿÿ>>>???"})), ".")
	standard[1] = strings.NewReplacer("-", "+", "_", "/").Replace(standard[1])
	refused(t, world(t), map[string]string{
		"a JWE":                       strings.Repeat(part("{}")+".", 4) + part("canary"),
		"two parts":                   parts[0] + "." + parts[1],
		"a point at the end":          good + ".",
		"a point before":              "." + good,
		"points alone":                "..",
		"many points":                 strings.Repeat(".", 8000),
		"1e5 points":                  strings.Repeat(".", 100_000),
		"1 MiB":                       signed("EdDSA", "ed", nil, claims(obj{"x": strings.Repeat("canary", 1<<18)})),
		"over the bound":              signed("EdDSA", "ed", nil, claims(obj{"x": strings.Repeat("c", 8<<10)})),
		"padding":                     parts[0] + "." + padded + "." + parts[2],
		"a blank within":              parts[0] + ". " + parts[1] + "." + parts[2],
		"a line break within":         parts[0] + "." + parts[1] + ".\r\n" + parts[2],
		"a tab at the end":            good + "\t",
		"the standard alphabet":       strings.Join(standard, "."),
		"a signature of other bits":   loose,
		"an empty header":             "." + parts[1] + "." + parts[2],
		"empty claims":                parts[0] + ".." + parts[2],
		"a part that is not base64":   parts[0] + ".%7B%7D." + parts[2],
		"two tokens":                  good + "," + good,
		"the header of another token": part(obj{"alg": "EdDSA", "kid": "ed"}) + "." + parts[1] + "." + parts[2],
		"the claims of another token": parts[0] + "." + part(claims(obj{"sub": "admin"})) + "." + parts[2],
	})
}
