//go:build windows

package secret

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// Open opens a file for reading, so that it can be replaced or renamed while it
// is open, which os.Open does not do on this system.
func Open(path string) (*os.File, error) {
	return OpenShared(path, windows.GENERIC_READ, windows.OPEN_EXISTING, 0)
}

// OpenShared opens a file with the access, the disposition and the flags that
// CreateFile has, so that it can be replaced or renamed while it is open.
func OpenShared(path string, access, disposition, flags uint32) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, access,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, disposition, windows.FILE_ATTRIBUTE_NORMAL|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// private does not judge: what keeps others away here are the access lists that
// the folder hands down, which a mode does not show.
func private(fs.FileInfo) error { return nil }

// unforged does not judge either.
func unforged(fs.FileInfo) error { return nil }

// SyncFolder does nothing: names are journalled.
func SyncFolder(string) error { return nil }

// TryLock takes the lock of a file, without waiting: the one lock of it, or one
// of the shared ones that are free while nobody has that. It ends when the file
// is closed, or with the process. Locks are mandatory here, so it locks a byte
// far behind the contents, which stay readable.
func TryLock(f *os.File, shared bool) (bool, error) {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !shared {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	at := &windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
