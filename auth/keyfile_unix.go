//go:build unix

package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// replaceFile puts a new file of mode 0600 in the place of path, as a whole and
// so that it lasts through a power failure: a key that was revoked stays so.
func replaceFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Cleanup()) }()
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := keepOwner(file.File, path); err != nil {
		return err
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return err
	}
	return secret.SyncFolder(dir)
}

// owner is whose a file is to be that stands at path: the user of the one that
// is there, else of the folder, if we are root and so can give files away.
func owner(path string) (uid, gid int, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if os.Geteuid() != 0 {
			return os.Geteuid(), os.Getegid(), nil
		}
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return 0, 0, err
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("%s: its owner is not known", path)
	}
	return int(of.Uid), int(of.Gid), nil
}

// mayReplace refuses to replace a file of another user: what a server reads that
// runs as one user must not become the file of another. Root can keep the owner.
func mayReplace(path string) error {
	uid, _, err := owner(path)
	if err != nil {
		return err
	}
	if me := os.Geteuid(); me != 0 && me != uid {
		return fault.Newf(fault.Forbidden, "the key file belongs to the user with id %d; run this as that user", uid)
	}
	return nil
}

// keepOwner gives a file of ours the owner that a file at path is to have.
func keepOwner(file *os.File, path string) error {
	uid, gid, err := owner(path)
	if err != nil || uid == os.Geteuid() {
		return err
	}
	return file.Chown(uid, gid)
}

// openLock opens a lock file, making it if there is none. It is never removed:
// two processes could then hold locks on different files of one name.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	err = func() error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		// Whoever owns the folder could have put another's file here, for root to
		// give away.
		if of, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || of.Nlink != 1 {
			return fault.New(fault.Invalid, "it is not a regular file of one name")
		}
		return keepOwner(f, strings.TrimSuffix(path, lockSuffix))
	}()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
