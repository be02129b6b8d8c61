package auth

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"vault-mcp/fault"
)

// check holds what was read from a key file against its rules. The file may
// have been written by hand; errors name a key by its number.
func (d *keyDocument) check() error {
	switch {
	case d.Version != keyVersion:
		return fault.Newf(fault.Invalid, "its version is not %d, the only one known here", keyVersion)
	case len(d.Keys) > maxKeys:
		return fault.Newf(fault.Invalid, "it has over %d keys", maxKeys)
	}
	seen := make(map[string]bool, len(d.Keys))
	for i := range d.Keys {
		key := &d.Keys[i]
		if err := key.check(); err != nil {
			return fault.Newf(fault.Invalid, "key %d: %s", i+1, fault.From(err).Msg)
		}
		if seen[key.ID] {
			return fault.Newf(fault.Invalid, "key %d: its id was given before", i+1)
		}
		seen[key.ID] = true
	}
	return nil
}

func (k *storedKey) check() error {
	if !isKeyID(k.ID) {
		return fault.Newf(fault.Invalid, "an id has %d hexadecimal digits in lower case", 2*keyIDBytes)
	}
	if _, err := Slug(k.Subject); err != nil {
		return err
	}
	if _, ok := parseDigest(k.SHA256); !ok {
		return fault.New(fault.Invalid, "sha256 has 64 hexadecimal digits in lower case")
	}
	if k.Previous != nil {
		if !k.ExpiresAt.IsZero() && k.Previous.Until.After(k.ExpiresAt) {
			return fault.New(fault.Invalid, "previous.until is not after expires_at: the secret before a rotation does not outlive its key")
		}
		if _, ok := parseDigest(k.Previous.SHA256); !ok || k.Previous.Until.IsZero() {
			return fault.New(fault.Invalid, "previous has sha256, 64 hexadecimal digits in lower case, and until, a time")
		}
	}
	if _, err := scopesOf(k.Scopes); err != nil {
		return err
	}
	if err := k.Grants.check(); err != nil {
		return err
	}
	if !k.ExpiresAt.IsZero() && k.CreatedAt.IsZero() {
		return fault.New(fault.Invalid, "expires_at wants created_at, since rotation gives a key its lifetime anew")
	}
	if !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(k.CreatedAt) {
		return fault.New(fault.Invalid, "expires_at is after created_at")
	}
	// A note is shown in terminals and tables.
	if len(k.Note) > maxNote || !utf8.ValidString(k.Note) || strings.ContainsFunc(k.Note, unprintable) {
		return fault.Newf(fault.Invalid, "a note has at most %d bytes of printable text", maxNote)
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func parseDigest(s string) (d digest, ok bool) {
	if len(s) != 2*len(d) || strings.ToLower(s) != s {
		return d, false
	}
	_, err := hex.Decode(d[:], []byte(s))
	return d, err == nil
}

// record is what may be known of k.
func (k *storedKey) record() KeyRecord {
	r := KeyRecord{
		ID: k.ID, Subject: k.Subject, Scopes: k.Scopes, Grants: k.Grants, Note: k.Note, BindCiphertexts: k.BindCiphertexts,
		CreatedAt: k.CreatedAt, RotatedAt: k.RotatedAt, ExpiresAt: k.ExpiresAt,
	}
	if k.Scopes == nil {
		r.Scopes = texts(AllScopes())
	}
	if k.Previous != nil && k.Previous.Until.After(now()) {
		r.PreviousUntil = k.Previous.Until
	}
	return r
}
