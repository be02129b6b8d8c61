//go:build unix

package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a file for reading; it does not wait for the other end of a FIFO,
// and on every system the file can be replaced or renamed while it is open.
func Open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// private refuses a file that somebody else can read or write.
func private(info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("it is open to others (mode %04o); want 0600", perm)
	}
	return nil
}

// unforged refuses a file that everybody can write.
func unforged(info fs.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o002 != 0 {
		return fmt.Errorf("everybody can write it (mode %04o)", perm)
	}
	return nil
}

// SyncFolder makes the names in a folder last through a power failure.
func SyncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// TryLock takes the lock of a file, without waiting: the one lock of it, or one
// of the shared ones that are free while nobody has that. It ends when the file
// is closed, or with the process.
func TryLock(f *os.File, shared bool) (bool, error) {
	how := unix.LOCK_EX | unix.LOCK_NB
	if shared {
		how = unix.LOCK_SH | unix.LOCK_NB
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("flock: %w", err)
		}
	}
}
