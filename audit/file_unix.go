//go:build unix

package audit

import (
	"fmt"
	"os"

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

// guarded refuses a folder in which anybody may put another file in our
// file's place.
func guarded(dir string, info os.FileInfo) error {
	if m := info.Mode(); m.Perm()&0o002 != 0 && m&os.ModeSticky == 0 {
		return fmt.Errorf("audit: the folder %s can be written by everybody (mode %04o)", dir, m.Perm())
	}
	return nil
}
