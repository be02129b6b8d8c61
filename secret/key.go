package secret

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KeySize is the size in bytes of the server's own keys.
const KeySize = 32

// LoadOrCreateKey returns the 32-byte key kept in hex in a file, making the
// file (mode 0600, its folder 0700) if there is none. Any number of processes
// may start at once: the key is written to a file of its own and linked into
// place, so exactly one wins and all return the winner's key. A file that
// others may read or write, or that does not hold a key, is an error.
func LoadOrCreateKey(path string) ([]byte, error) {
	key, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := MakeFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.WriteString(RandomHex(KeySize) + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	// Link fails if the name exists: unlike a rename it cannot replace a key
	// that another process made in the meantime.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := SyncFolder(filepath.Dir(path)); err != nil { // what is sealed with it lasts, so must it
		return nil, err
	}
	return LoadKey(path)
}

// RandomHex is n random bytes in hex.
func RandomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return hex.EncodeToString(b)
}

// ParseKey reads a key given as a setting: 64 hexadecimal digits.
func ParseKey(t Text) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(t.Reveal()))
	if err != nil || len(key) != KeySize {
		return nil, fmt.Errorf("want %d hexadecimal digits", 2*KeySize)
	}
	return key, nil
}

// LoadKey returns the key kept in a file, as LoadOrCreateKey does, but makes
// none.
func LoadKey(path string) ([]byte, error) {
	text, _, err := ReadPrivate(path, 2*KeySize+2) // and a line end
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var key []byte
	if err == nil {
		key, err = ParseKey(NewText(string(text)))
	}
	if err != nil {
		return nil, fmt.Errorf("%s does not hold a key: %w", path, err)
	}
	return key, nil
}
