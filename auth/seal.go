package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Purpose is what a handle is for. It stands in clear at the handle's beginning,
// so that people can tell one from a key or a Vault id.
type Purpose string

// LeaseHandle names a lease of Vault.
const LeaseHandle Purpose = "lease"

// Bounds of handles.
const (
	maxSealed    = 1024 // bytes of content
	maxPurpose   = 16   // bytes of the word at the beginning
	MaxHandle    = 1456 // bytes of the text
	saltSize     = 24
	expirySize   = 8 // seconds since 1970, before the content
	overhead     = saltSize + expirySize + 16
	deriveSuffix = " handle of vault-mcp, version 1"
)

// Handle is a text that travels through a client and comes back: only Seal
// makes one, so that what has this type holds nothing in clear.
type Handle struct{ text string }

// String is the handle's text.
func (h Handle) String() string { return h.text }

// IsZero reports whether there is no handle.
func (h Handle) IsZero() bool { return h.text == "" }

// Sealer makes handles and opens them. It keeps nothing: a handle is as good
// after a restart, and on each server that has the same key. It is safe for
// concurrent use.
//
// A handle is PURPOSE_BASE64, of 24 random bytes and what AES-256-GCM makes of
// expiry and content, with the purpose and the principal as associated data.
// Key and nonce are derived from the server's key, the purpose and the random
// bytes, so that no two handles share them, however many are made.
type Sealer struct{ key []byte }

// NewSealer makes a Sealer with the server's key, of secret.KeySize bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != secret.KeySize {
		return nil, errors.New("auth: the key of handles has the wrong size")
	}
	return &Sealer{key: append([]byte(nil), key...)}, nil
}

// Seal makes a handle that this principal alone can use, for this purpose, until
// it expires.
func (s *Sealer) Seal(purpose Purpose, p *Principal, expires time.Time, content []byte) (Handle, error) {
	if len(content) > maxSealed || !purpose.valid() || p.ID() == "" {
		return Handle{}, errors.New("auth: this cannot be sealed: the content, the purpose or the principal is out of bounds")
	}
	sealed := make([]byte, saltSize, overhead+len(content))
	_, _ = rand.Read(sealed) // never fails
	aead, nonce, err := s.cipher(purpose, sealed)
	if err != nil {
		return Handle{}, err
	}
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, expirySize+len(content)), uint64(max(0, expires.Unix())))
	sealed = aead.Seal(sealed, nonce, append(plain, content...), associated(purpose, p))
	return Handle{string(purpose) + "_" + handleText.EncodeToString(sealed)}, nil
}

// handleText is strict, so that one handle has one spelling.
var handleText = base64.RawURLEncoding.Strict()

// Open gives a handle's content back. An error is a *fault.Error: Invalid for
// what has not the form of a handle, Forbidden for one that this server did not
// make for this principal and purpose, whichever of these it is, and NotFound
// for one that has expired.
func (s *Sealer) Open(purpose Purpose, p *Principal, now time.Time, text string) ([]byte, error) {
	word, body, found := strings.Cut(text, "_")
	if !found || len(text) > MaxHandle || !Purpose(word).valid() {
		return nil, notAHandle(purpose)
	}
	sealed, err := handleText.DecodeString(body)
	if err != nil || len(sealed) < overhead || strings.ContainsAny(body, "\r\n") {
		return nil, notAHandle(purpose)
	}
	aead, nonce, err := s.cipher(purpose, sealed[:saltSize])
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nonce, sealed[saltSize:], associated(purpose, p))
	if err != nil || Purpose(word) != purpose {
		return nil, fault.New(fault.Forbidden, "this handle was not given to this principal for this purpose")
	}
	if uint64(max(0, now.Unix())) >= binary.BigEndian.Uint64(plain) {
		return nil, fault.New(fault.NotFound, "this handle has expired")
	}
	return plain[expirySize:], nil
}

func notAHandle(purpose Purpose) error {
	return fault.Newf(fault.Invalid, "must be a handle as this server gives it, beginning with %s_ and unchanged", purpose)
}

// valid reports whether a purpose is a short word of small letters, and so ends
// at the first "_" of a handle.
func (p Purpose) valid() bool {
	return p != "" && len(p) <= maxPurpose && strings.Trim(string(p), "abcdefghijklmnopqrstuvwxyz") == ""
}

// cipher makes what one handle is sealed with.
func (s *Sealer) cipher(purpose Purpose, salt []byte) (cipher.AEAD, []byte, error) {
	const keySize, nonceSize = 32, 12
	derived, err := hkdf.Key(sha256.New, s.key, salt, string(purpose)+deriveSuffix, keySize+nonceSize)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(derived[:keySize])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, derived[keySize:], err
}

// associated is what a handle is bound to besides its content. A purpose has no
// zero byte, so no two pairs read alike.
func associated(purpose Purpose, p *Principal) []byte {
	return []byte(string(purpose) + "\x00" + p.ID())
}
