//go:build unix

package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openAppend opens a file that is only added to. It never follows a symbolic
// link, and does not wait for the other end of a FIFO.
func openAppend(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0o600)
}

// openHead opens a head file, making it if there is none.
func openHead(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
}

func openRead(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// lock takes the writer's lock of a chain, without waiting. It ends with the
// process, or when the file is closed.
func lock(f *os.File) (bool, error) { return flock(f, unix.LOCK_EX) }

// lockShared is free exactly when no process writes the chain.
func lockShared(f *os.File) (bool, error) { return flock(f, unix.LOCK_SH) }

func flock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, err
		}
	}
}

// private refuses a file that somebody else can read or write.
func private(path string, info os.FileInfo) error {
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("audit: %s is open to others (mode %04o); want 0600", path, perm)
	}
	return nil
}

// guarded refuses a folder in which anybody may put another file in our
// file's place.
func guarded(dir string, info os.FileInfo) error {
	if m := info.Mode(); m.Perm()&0o002 != 0 && m&os.ModeSticky == 0 {
		return fmt.Errorf("audit: the folder %s can be written by everybody (mode %04o)", dir, m.Perm())
	}
	return nil
}

// syncDir makes names in the folder of path last through a power failure.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
