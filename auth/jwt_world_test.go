package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/secret"
)

// The world of the tables about JWTs: one issuer, one audience, one clock.
const (
	iss      = "https://issuer.example/realm"
	aud      = "https://mcp.example"
	hsSecret = "canary-secret-of-thirty-two-bytes!"
)

var newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type obj = map[string]any

// signers are the keys of the world by their kid. Making RSA keys takes long, so
// they are made once.
var signers = sync.OnceValue(func() map[string]crypto.Signer {
	made := map[string]crypto.Signer{}
	ec := func(kid string, curve elliptic.Curve) {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
		made[kid] = key
	}
	for kid, bits := range map[string]int{"rsa": 2048, "rsa-rs512": 2048, "rsa-weak": 1024, "rsa-other": 2048} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		must(err)
		made[kid] = key
	}
	ec("ec", elliptic.P256())
	ec("ec-other", elliptic.P256())
	ec("ec384", elliptic.P384())
	ec("ec521", elliptic.P521())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	made["ed"] = ed
	return made
})

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// jwk is a public key as a member of a key set.
func jwk(kid string, more obj) obj {
	b := base64.RawURLEncoding.EncodeToString
	m := obj{"kid": kid}
	switch key := signers()[kid].Public().(type) {
	case *rsa.PublicKey:
		maps.Copy(m, obj{"kty": "RSA", "n": b(key.N.Bytes()), "e": "AQAB"})
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		must(err)
		half := len(point) / 2
		maps.Copy(m, obj{"kty": "EC", "crv": key.Params().Name, "x": b(point[1 : 1+half]), "y": b(point[1+half:])})
	case ed25519.PublicKey:
		maps.Copy(m, obj{"kty": "OKP", "crv": "Ed25519", "x": b(key)})
	}
	maps.Copy(m, more)
	return m
}

// keySet is the document of a key set.
func keySet(keys ...obj) []byte {
	text, err := json.Marshal(obj{"keys": keys})
	must(err)
	return text
}

// worldKeys is the key set of the world: good keys, and such that are there and
// not to be used.
func worldKeys() []byte {
	octet := obj{"kty": "oct", "kid": "oct", "k": base64.RawURLEncoding.EncodeToString([]byte(hsSecret))}
	return keySet(
		jwk("rsa", nil), jwk("ec", obj{"use": "sig"}), jwk("ec384", nil), jwk("ed", obj{"key_ops": []string{"verify"}}),
		jwk("rsa-rs512", obj{"alg": "RS512"}), jwk("ec521", nil), jwk("rsa-weak", nil), octet,
		jwk("ec-other", obj{"kid": "enc", "use": "enc"}), jwk("rsa-other", obj{"kid": "sign-only", "key_ops": []string{"encrypt"}}),
		jwk("rsa", obj{"kid": "twin"}), jwk("rsa-other", obj{"kid": "twin"}), jwk("ec", obj{"kid": "twin"}),
		jwk("rsa-other", obj{"kid": "private", "d": "AQAB"}), jwk("ec", obj{"kid": "off-curve", "y": jwk("ec-other", nil)["y"]}),
		obj{"kty": "RSA", "kid": "tiny", "n": base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "e": "AQAB"},
		obj{"kty": "quantum", "kid": "quantum"}, obj{"kty": 5},
	)
}

// world makes an Authenticator with the issuer of the world and its key file,
// and with whatever change makes of that.
func world(t testing.TB, change ...func(*auth.Options)) *auth.Authenticator {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(path, worldKeys(), 0o600))
	a := authenticator(t, `{"`+devKey+`": "dev"}`, append([]func(*auth.Options){func(o *auth.Options) {
		o.Now = func() time.Time { return newYear }
		o.JWT = auth.JWTOptions{Accept: true, Home: &auth.Issuer{Name: iss, Audiences: []string{aud}, JWKSFile: path}}
	}}, change...)...)
	t.Cleanup(a.Close)
	return a
}

// withSecret makes the issuer one that signs by HS256.
func withSecret(o *auth.Options) {
	o.JWT.Home.JWKSFile, o.JWT.Home.Secret = "", secret.NewText(hsSecret)
}

// claims are those of a good token, changed; nil takes one away.
func claims(change obj) obj {
	c := obj{"iss": iss, "aud": aud, "sub": "dev-bot", "exp": newYear.Add(time.Hour).Unix(), "iat": newYear.Unix(), "scope": "kv:read list"}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// part is a part of a token; a string is taken as it stands.
func part(what any) string {
	text, isText := what.(string)
	if !isText {
		b, err := json.Marshal(what)
		must(err)
		text = string(b)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// sign makes a token of a header and claims, which may be texts.
func sign(alg string, key, header, claims any) string {
	signed := part(header) + "." + part(claims)
	signature, err := jwt.GetSigningMethod(alg).Sign(signed, key)
	if err != nil {
		panic(fmt.Sprint("signing by ", alg, ": ", err))
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// signed is sign with a key of the world and its usual header, changed.
func signed(alg, kid string, header, claims any) string {
	h := obj{"alg": alg, "kid": kid, "typ": "JWT"}
	if change, ok := header.(obj); ok {
		for name, value := range change {
			if h[name] = value; value == nil {
				delete(h, name)
			}
		}
		header = h
	}
	if header == nil {
		header = h
	}
	return sign(alg, signers()[kid], header, claims)
}

// try presents a token.
func try(t testing.TB, a *auth.Authenticator, token string) (*auth.Principal, error) {
	t.Helper()
	return a.Authenticate(t.Context(), auth.Presented{Header: headers("Authorization", "Bearer "+token)})
}
