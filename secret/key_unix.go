//go:build unix

package secret

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// openKey opens a file for reading; it does not wait for the other end of a
// FIFO.
func openKey(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// private reports whether nobody else can read or write a file of this mode.
func private(perm fs.FileMode) bool { return perm&0o077 == 0 }

// syncFolder makes the names in a folder last through a power failure.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
