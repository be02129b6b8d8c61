package main_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// jwtAudience is whom the tests' tokens are for.
const jwtAudience = "https://vault-mcp.example/mcp"

// issuer is one of whom a test has the signing key.
type issuer struct {
	name string
	key  *rsa.PrivateKey
	jwks string // file of its public key
}

const issuerKID = "signing"

func newIssuer(t testing.TB, name string) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	i := &issuer{name, key, filepath.Join(t.TempDir(), "jwks.json")}
	set, err := json.Marshal(obj{"keys": []obj{i.jwk()}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(i.jwks, set, 0o600))
	return i
}

// jwk is its public key.
func (i *issuer) jwk() obj {
	return obj{
		"kty": "RSA", "kid": issuerKID, "use": "sig", "alg": "RS256",
		"n": base64.RawURLEncoding.EncodeToString(i.key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(i.key.E)).Bytes()),
	}
}

// home are the settings by which it is the operator's own issuer.
func (i *issuer) home() []string {
	return []string{"JWT_ISSUER=" + i.name, "JWT_AUDIENCE=" + jwtAudience, "JWT_JWKS_FILE=" + i.jwks}
}

// further is the setting by which it is a further one.
func (i *issuer) further() string {
	list, _ := json.Marshal([]obj{{"issuer": i.name, "audience": jwtAudience, "jwks_file": i.jwks}})
	return "ISSUERS=" + string(list)
}

// claims are those of a good token of an hour, with some changed or, where nil,
// left out.
func (i *issuer) claims(change obj) obj {
	return changed(obj{
		"iss": i.name, "aud": jwtAudience, "sub": "dev", "scope": "read write delete list",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}, change)
}

// token is a token with such claims.
func (i *issuer) token(change obj) string {
	return signJWT(jwt.SigningMethodRS256, i.key, i.header(nil), i.claims(change))
}

func (i *issuer) header(change obj) obj {
	return changed(obj{"alg": "RS256", "typ": "JWT", "kid": issuerKID}, change)
}

func changed(o, change obj) obj {
	for name, value := range change {
		if o[name] = value; value == nil {
			delete(o, name)
		}
	}
	return o
}

// signJWT signs any header and claims; a string is taken for the JSON itself.
func signJWT(method jwt.SigningMethod, key any, header, claims any) string {
	part := func(what any) string {
		text, is := what.(string)
		if !is {
			b, _ := json.Marshal(what)
			text = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	signed := part(header) + "." + part(claims)
	signature, err := method.Sign(signed, key)
	if err != nil {
		panic(err) // a mistake of the test
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}
