package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// SigningKey makes JWTs, for development and for those who have no issuer.
type SigningKey struct {
	alg string
	kid string // empty: of a secret
	key any    // crypto.Signer, or the bytes of a secret
}

// signingBits is the size of the RSA keys that we make.
const signingBits = 3072

// NewSigningKey makes a key pair: rsa, ec (P-256) or ed25519.
func NewSigningKey(kind string) (*SigningKey, error) {
	var key crypto.Signer
	var err error
	switch kind {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, signingBits)
	case "ec":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fault.New(fault.Invalid, "want a kind of key: rsa, ec or ed25519")
	}
	if err != nil {
		return nil, err
	}
	return signingKey(key)
}

// ParseSigningKey reads a private key in PEM.
func ParseSigningKey(text secret.Text) (*SigningKey, error) {
	want := fault.New(fault.Invalid, "want a private key in PEM (PKCS #8): RSA of 2048 bits or more, P-256, P-384 or Ed25519")
	block, rest := pem.Decode([]byte(text.Reveal()))
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return nil, want
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, want
	}
	made, err := signingKey(signer)
	if err != nil {
		return nil, want
	}
	return made, nil
}

// SecretSigningKey signs by HS256.
func SecretSigningKey(text secret.Text) (*SigningKey, error) {
	if len(text.Reveal()) < minJWTSecret {
		return nil, fault.Newf(fault.Invalid, "want a secret of at least %d bytes", minJWTSecret)
	}
	return &SigningKey{alg: "HS256", key: []byte(text.Reveal())}, nil
}

func signingKey(key crypto.Signer) (*SigningKey, error) {
	algs := algorithmsOf(key.Public())
	if len(algs) == 0 {
		return nil, fault.New(fault.Invalid, "a key of a kind that is not accepted")
	}
	k := &SigningKey{alg: algs[0], key: key}
	m, err := k.public()
	if err != nil {
		return nil, err
	}
	// Its id is its thumbprint (RFC 7638), so that it need not be kept anywhere.
	members := map[string]string{"kty": m.KTY.String(), "crv": m.CRV.String(), "x": m.X, "y": m.Y, "n": m.N, "e": m.E}
	maps.DeleteFunc(members, func(_, value string) bool { return value == "" })
	text, err := json.Marshal(members, json.Deterministic(true))
	sum := sha256.Sum256(text)
	k.kid = base64.RawURLEncoding.EncodeToString(sum[:])
	return k, err
}

func (k *SigningKey) public() (jwkset.JWKMarshal, error) {
	signer, ok := k.key.(crypto.Signer)
	if !ok {
		return jwkset.JWKMarshal{}, fault.New(fault.Invalid, "a secret has no public part")
	}
	jwk, err := jwkset.NewJWKFromKey(signer.Public(), jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(k.alg), KID: k.kid, USE: jwkset.UseSig},
	})
	return jwk.Marshal(), err
}

// ID is the key's id, empty for a secret.
func (k *SigningKey) ID() string { return k.kid }

// PEM is the private key.
func (k *SigningKey) PEM() (secret.Text, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		return secret.Text{}, err
	}
	return secret.NewText(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), nil
}

// JWKS is the key set with the public key, for JWT_JWKS_FILE.
func (k *SigningKey) JWKS() ([]byte, error) {
	m, err := k.public()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{m}}, jsontext.WithIndent("  "))
	return append(text, '\n'), err
}

// NewJWT is what a token is to say.
type NewJWT struct {
	Issuer, Subject string
	Audience        []string
	Scopes          Scopes
	Lifetime        time.Duration
	Claims          map[string]string // more of them
}

// Issue signs a token. Its id is random.
func (k *SigningKey) Issue(n NewJWT, now time.Time) (secret.Text, error) {
	if _, err := Slug(n.Subject); err != nil {
		return secret.Text{}, err
	}
	if n.Lifetime <= 0 {
		return secret.Text{}, fault.New(fault.Invalid, "a token cannot have expired before it is made")
	}
	claims := jwt.MapClaims{}
	for name, value := range n.Claims {
		claims[name] = value
	}
	at := now.Unix()
	maps.Copy(claims, jwt.MapClaims{
		"sub": n.Subject, "iat": at, "exp": at + int64(n.Lifetime/time.Second),
		"jti": secret.RandomHex(8), "scope": strings.Join(texts(n.Scopes), " "),
	})
	if n.Issuer != "" {
		claims["iss"] = n.Issuer
	}
	if len(n.Audience) > 0 {
		claims["aud"] = n.Audience
	}
	token := jwt.NewWithClaims(jwt.GetSigningMethod(k.alg), claims)
	if k.kid != "" {
		token.Header["kid"] = k.kid
	}
	text, err := token.SignedString(k.key)
	if err == nil && len(text) > maxCredential {
		err = fault.New(fault.Invalid, "the token would be too long")
	}
	return secret.NewText(text), err
}
