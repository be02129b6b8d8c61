package auth

import (
	"crypto/subtle"
	"io/fs"
)

// fileKey is a key of the file, ready to be compared.
type fileKey struct {
	identity Identity // who bears it
	digest   digest   // of the current secret
	holder   holder
	before   digest // of the secret before the last rotation
	earlier  holder // of that, whose principal ends sooner; nobody if there is none
}

// keySet is what one state of the file says, by id. It is not changed once it is
// made.
type keySet map[string]*fileKey

// watchKeys reads the file of keys for the first time; it must be right or not
// there.
func watchKeys(path string, h *home) (*Watched[*keySet], error) {
	file := NewKeyFile(path)
	return watchOne(path, func() (*keySet, fs.FileInfo, error) {
		doc, info, err := file.read()
		if err != nil {
			return nil, nil, err
		}
		set, err := h.keySet(doc)
		return &set, info, err
	})
}

// keySet makes the principals of a document's keys.
func (h *home) keySet(doc *keyDocument) (keySet, error) {
	set := make(keySet, len(doc.Keys))
	for i := range doc.Keys {
		key := &doc.Keys[i]
		id, err := key.identity()
		if err != nil {
			return nil, err
		}
		entry := &fileKey{identity: id}
		entry.digest, _ = parseDigest(key.SHA256) // checked when it was read
		if entry.holder, err = h.holder(id); err != nil {
			return nil, err
		}
		if key.Previous != nil {
			entry.before, _ = parseDigest(key.Previous.SHA256)
			id.ExpiresAt = key.Previous.Until
			if entry.earlier, err = h.holder(id); err != nil {
				return nil, err
			}
		}
		set[key.ID] = entry
	}
	return set, nil
}

// identity is who bears the key.
func (k *storedKey) identity() (Identity, error) {
	scopes, err := scopesOf(k.Scopes)
	return Identity{
		Subject: k.Subject, Method: MethodAPIKey, CredentialID: k.ID,
		Scopes: scopes, Grants: k.Grants, ExpiresAt: k.ExpiresAt, BindCiphertexts: k.BindCiphertexts,
	}, err
}

// nobody is what an unknown id is compared with, so that it takes as long as a
// known one to find a key wrong.
var nobody = &fileKey{}

// find is whom a key stands for, the zero holder if the set has no such key. It
// works on no set at all.
func (s *keySet) find(id string, d *digest) holder {
	key := nobody // whose holders are zero
	if s != nil {
		if known, ok := (*s)[id]; ok {
			key = known
		}
	}
	current := subtle.ConstantTimeCompare(key.digest[:], d[:])
	before := subtle.ConstantTimeCompare(key.before[:], d[:])
	switch {
	case current == 1:
		return key.holder
	case before == 1:
		return key.earlier // zero without a secret before
	}
	return holder{}
}
