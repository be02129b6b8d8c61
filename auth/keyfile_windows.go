//go:build windows

package auth

import (
	"errors"
	"os"
	"path/filepath"
)

// mayReplace does not judge: the folder hands down access to a new file.
func mayReplace(string) error { return nil }

// replaceFile puts a new file in the place of path, as a whole.
func replaceFile(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".api-keys-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// openLock opens a lock file, making it if there is none.
func openLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
