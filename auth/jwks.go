package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"io/fs"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Bounds on a key set and its keys.
const (
	maxJWKS    = 256 << 10 // bytes
	maxJWKSet  = 64        // keys
	minRSABits = 2048
	maxRSABits = 8192 // more costs milliseconds of each check
	maxTrials  = 4    // keys that one token may be checked with
)

// jwks is a set of public keys, as an issuer publishes them. It is not changed
// once it is made.
type jwks struct{ keys []publicKey }

// publicKey is one key with the algorithms that it is for.
type publicKey struct {
	kid  string
	algs []string
	key  any // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// parseJWKS reads a JSON Web Key Set. A key that we cannot use, or that is for
// something else, is passed over, as RFC 7517 wants it: sets hold keys of many
// kinds. A set without any key that we can use is an error.
func parseJWKS(data []byte) (*jwks, error) {
	var doc struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fault.New(fault.Invalid, "not a JSON Web Key Set: an object with a list of keys")
	}
	if len(doc.Keys) > maxJWKSet {
		return nil, fault.Newf(fault.Invalid, "a key set has at most %d keys", maxJWKSet)
	}
	set := &jwks{}
	for _, raw := range doc.Keys {
		if key, ok := parseJWK(raw); ok {
			set.keys = append(set.keys, key)
		}
	}
	if len(set.keys) == 0 {
		return nil, fault.Newf(fault.Invalid, "the key set has no key to check signatures with: want RSA of %d to %d bits, P-256, P-384 or Ed25519", minRSABits, maxRSABits)
	}
	return set, nil
}

// parseJWK reads one key. A symmetric key is none here, wherever it comes from:
// what is published is no secret. Neither is one whose private part is published
// with it.
func parseJWK(raw jsontext.Value) (publicKey, bool) {
	var m jwkset.JWKMarshal
	if json.Unmarshal(raw, &m) != nil || m.D != "" || m.K != "" {
		return publicKey{}, false
	}
	if m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return publicKey{}, false
	}
	m.X5C, m.X5U, m.X5T, m.X5TS256 = nil, "", "", "" // certificates say nothing here
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return publicKey{}, false
	}
	key := publicKey{kid: m.KID, key: jwk.Key(), algs: algorithmsOf(jwk.Key())}
	if m.ALG != "" {
		if !slices.Contains(key.algs, m.ALG.String()) {
			return publicKey{}, false
		}
		key.algs = []string{m.ALG.String()}
	}
	return key, len(key.algs) > 0
}

// algorithmsOf binds a key to the algorithms that it can be for. A key that is
// too weak, or not on its curve, is for none.
func algorithmsOf(key any) []string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSABits && bits <= maxRSABits && key.E >= 3 && key.E&1 == 1 {
			return []string{"RS256", "RS384", "RS512", "PS256"}
		}
	case *ecdsa.PublicKey:
		if _, err := key.ECDH(); err != nil { // which looks whether it is on the curve
			return nil
		}
		switch key.Curve {
		case elliptic.P256():
			return []string{"ES256"}
		case elliptic.P384():
			return []string{"ES384"}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}

// find gives the keys for an algorithm: those of the named id, or all where no
// id is named. Several keys may share an id; each is the issuer's own.
func (s *jwks) find(alg string, h *jwtHeader) []any {
	var found []any
	for i := range s.keys {
		if k := &s.keys[i]; slices.Contains(k.algs, alg) && (!h.hasKID || k.kid == h.kid) {
			found = append(found, k.key)
		}
	}
	return found
}

// watchJWKS is a key set in a file that is read again when it changes.
func watchJWKS(path string) (*Watched[*jwks], error) {
	return watchOne(path, func() (*jwks, fs.FileInfo, error) {
		data, info, err := readUnforged(path, maxJWKS)
		if err != nil {
			return nil, nil, err
		}
		set, err := parseJWKS(data)
		if err != nil {
			return nil, nil, err
		}
		return set, info, nil
	})
}

// readUnforged is secret.ReadUnforged with words for whoever has to mend the file.
func readUnforged(path string, most int64) ([]byte, fs.FileInfo, error) {
	data, info, err := secret.ReadUnforged(path, most)
	system := new(fs.PathError)
	switch {
	case err == nil:
		return data, info, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fault.Wrap(fault.Invalid, "there is no such file", err)
	case errors.As(err, &system):
		return nil, nil, fault.Wrap(fault.Invalid, "the file cannot be read", err)
	}
	return nil, nil, fault.New(fault.Invalid, "the file cannot be used: "+err.Error())
}
