//go:build windows

package audit

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Files are opened so that they can be renamed while they are open, which
// os.OpenFile does not do on this system.
func open(path string, access, disposition uint32) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, access,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, disposition, windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// openAppend opens a file that is only added to.
func openAppend(path string, flags int) (*os.File, error) {
	disposition := uint32(windows.OPEN_EXISTING)
	switch {
	case flags&os.O_EXCL != 0:
		disposition = windows.CREATE_NEW
	case flags&os.O_CREATE != 0:
		disposition = windows.OPEN_ALWAYS
	}
	return open(path, windows.FILE_APPEND_DATA|windows.FILE_READ_ATTRIBUTES|windows.SYNCHRONIZE, disposition)
}

// openHead opens a head file, making it if there is none.
func openHead(path string) (*os.File, error) {
	return open(path, windows.GENERIC_READ|windows.GENERIC_WRITE, windows.OPEN_ALWAYS)
}

func openRead(path string) (*os.File, error) {
	return open(path, windows.GENERIC_READ, windows.OPEN_EXISTING)
}

// lock takes the writer's lock of a chain, without waiting. It ends with the
// process, or when the file is closed.
func lock(f *os.File) (bool, error) { return lockFile(f, windows.LOCKFILE_EXCLUSIVE_LOCK) }

// lockShared is free exactly when no process writes the chain.
func lockShared(f *os.File) (bool, error) { return lockFile(f, 0) }

// lockFile locks a byte far behind the contents: locks are mandatory here, and
// the contents must stay readable.
func lockFile(f *os.File, flags uint32) (bool, error) {
	at := &windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

// private and guarded do not judge: what keeps others away here are the access
// lists that the folder hands down, which a mode does not show.
func private(string, os.FileInfo) error { return nil }

func guarded(string, os.FileInfo) error { return nil }

// syncDir does nothing: names are journalled.
func syncDir(string) error { return nil }
