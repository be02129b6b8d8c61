package auth

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// The format of a key file, and its bounds.
const (
	keyVersion = 1 // of its format
	maxKeyFile = 8 << 20
	maxKeys    = 10_000
	maxNote    = 200
	lockWait   = 30 * time.Second
)

// KeyFile is the file in which the hashed API keys stand. Any number of
// processes may change it at once: a change is made under a lock file and
// replaces the file as a whole, so that a reader sees either the old keys or
// the new ones and no change is lost.
//
// A file that others may read or write is refused. No file means no keys.
type KeyFile struct{ path string }

// NewKeyFile names a key file; it need not exist yet.
func NewKeyFile(path string) *KeyFile { return &KeyFile{path: path} }

// KeyRecord is what may be known of a key.
type KeyRecord struct {
	ID            string    `json:"id"`
	Subject       string    `json:"subject"`
	Scopes        []string  `json:"scopes"`
	Grants        Grants    `json:"grants,omitempty"`
	Note          string    `json:"note,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	RotatedAt     time.Time `json:"rotated_at,omitzero"`     // of the last rotation
	ExpiresAt     time.Time `json:"expires_at,omitzero"`     // zero: never
	PreviousUntil time.Time `json:"previous_until,omitzero"` // end of the secret before the last rotation

	BindCiphertexts bool `json:"bind_ciphertexts,omitzero"` // see Principal
}

// KeyOptions are what a new key can be given besides its subject.
type KeyOptions struct {
	Scopes   Scopes        // nil: all four
	Grants   Grants        // besides those of every principal
	Note     string        // for people
	Lifetime time.Duration // 0: the key does not expire

	BindCiphertexts bool // see Principal
}

// storedKey is one key as it stands in the file. The file says neither a key nor
// anything from which one could be had.
type storedKey struct {
	ID        string          `json:"id"`
	Subject   string          `json:"subject"`
	SHA256    string          `json:"sha256"`
	Scopes    []string        `json:"scopes"`
	Grants    Grants          `json:"grants,omitempty"`
	Note      string          `json:"note,omitempty"`
	CreatedAt time.Time       `json:"created_at,omitzero"`
	RotatedAt time.Time       `json:"rotated_at,omitzero"`
	ExpiresAt time.Time       `json:"expires_at,omitzero"`
	Previous  *previousSecret `json:"previous,omitempty"`

	BindCiphertexts bool `json:"bind_ciphertexts,omitzero"`
}

// previousSecret is the secret before a rotation, while it lives on.
type previousSecret struct {
	SHA256 string    `json:"sha256"`
	Until  time.Time `json:"until"`
}

// keyDocument is the file.
type keyDocument struct {
	Version int         `json:"version"`
	Keys    []storedKey `json:"keys"`
}

// Create makes a key for a subject. The key is returned this once; the file
// holds its digest.
func (f *KeyFile) Create(subject string, opt KeyOptions) (secret.Text, KeyRecord, error) {
	switch _, err := Slug(subject); {
	case err != nil:
		return secret.Text{}, KeyRecord{}, err
	case !utf8.ValidString(subject):
		return secret.Text{}, KeyRecord{}, fault.New(fault.Invalid, "the subject of a key in a file is valid UTF-8")
	case opt.Lifetime < 0:
		return secret.Text{}, KeyRecord{}, fault.New(fault.Invalid, "a key cannot have expired before it is made")
	}
	if opt.Scopes == nil {
		opt.Scopes = AllScopes()
	}
	key := storedKey{
		ID: secret.RandomHex(keyIDBytes), Subject: subject, Scopes: texts(opt.Scopes), Grants: opt.Grants, Note: opt.Note,
		BindCiphertexts: opt.BindCiphertexts,
		CreatedAt:       now(),
	}
	if opt.Lifetime > 0 {
		key.ExpiresAt = key.CreatedAt.Add(opt.Lifetime)
	}
	text := newKey(key.ID)
	key.SHA256 = hexDigest(text)
	if err := key.check(); err != nil {
		return secret.Text{}, KeyRecord{}, err
	}
	err := f.update(func(doc *keyDocument) error {
		if len(doc.Keys) >= maxKeys {
			return fault.Newf(fault.Conflict, "the file holds %d keys and takes no more; revoke some", maxKeys)
		}
		if doc.find(key.ID) != nil {
			return fault.New(fault.Conflict, "the new key's id is taken; try again")
		}
		doc.Keys = append(doc.Keys, key)
		return nil
	})
	if err != nil {
		return secret.Text{}, KeyRecord{}, err
	}
	return secret.NewText(text), key.record(), nil
}

// List returns the keys, the oldest first.
func (f *KeyFile) List() ([]KeyRecord, error) {
	doc, _, err := f.read()
	if err != nil {
		return nil, err
	}
	list := make([]KeyRecord, len(doc.Keys))
	for i := range doc.Keys {
		list[i] = doc.Keys[i].record()
	}
	slices.SortStableFunc(list, func(a, b KeyRecord) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}

// Rotate gives a key a new secret under its old id, so that records go on under
// one name. The secret before it lives on for the overlap, never past its own
// end; the one before that ends at once. A key that expires gets its lifetime
// anew.
func (f *KeyFile) Rotate(id string, overlap time.Duration) (secret.Text, KeyRecord, error) {
	if overlap < 0 {
		return secret.Text{}, KeyRecord{}, fault.New(fault.Invalid, "an overlap is not negative")
	}
	text := newKey(id)
	var record KeyRecord
	err := f.update(func(doc *keyDocument) error {
		key := doc.find(id)
		if key == nil {
			return errNoSuchKey()
		}
		at := now()
		old := &previousSecret{SHA256: key.SHA256, Until: at.Add(overlap)}
		if !key.ExpiresAt.IsZero() {
			if old.Until.After(key.ExpiresAt) {
				old.Until = key.ExpiresAt
			}
			issued := key.CreatedAt
			if !key.RotatedAt.IsZero() {
				issued = key.RotatedAt
			}
			lifetime := key.ExpiresAt.Sub(issued)
			if lifetime <= 0 { // somebody ended it by hand
				return fault.New(fault.Conflict, "the key's end was set before its last rotation; create a new key")
			}
			key.ExpiresAt = at.Add(lifetime)
		}
		key.Previous = nil
		if old.Until.After(at) {
			key.Previous = old
		}
		key.SHA256, key.RotatedAt = hexDigest(text), at
		record = key.record()
		return nil
	})
	if err != nil {
		return secret.Text{}, KeyRecord{}, err
	}
	return secret.NewText(text), record, nil
}

// Revoke takes a key out of the file, with both its secrets. A running server
// that can read the file refuses it within two seconds; see Watched for one
// that cannot.
func (f *KeyFile) Revoke(id string) error {
	return f.update(func(doc *keyDocument) error {
		if doc.find(id) == nil {
			return errNoSuchKey()
		}
		doc.Keys = slices.DeleteFunc(doc.Keys, func(k storedKey) bool { return k.ID == id })
		return nil
	})
}

func errNoSuchKey() error {
	return fault.New(fault.NotFound, "there is no key with this id in the file")
}

func (d *keyDocument) find(id string) *storedKey {
	for i := range d.Keys {
		if d.Keys[i].ID == id {
			return &d.Keys[i]
		}
	}
	return nil
}

// now is the time in whole seconds, as the file and its readers show it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func hexDigest(key string) string {
	sum := digestOf(key)
	return hex.EncodeToString(sum[:])
}

func texts(scopes Scopes) []string {
	list := make([]string, len(scopes))
	for i, s := range scopes {
		list[i] = string(s)
	}
	return list
}
