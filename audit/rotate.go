package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// rotate gives the file its number and goes on in a new one. The order of the
// steps lets a crash fall between any two of them:
//
//  1. X.next is made. Left behind, it is taken away at the next start.
//  2. X gets its rotate record. If nothing follows, records simply go on in X.
//  3. X.next gets its first record and is forced to the disk.
//  4. X is renamed to its number. From here on X.next is a part of the chain,
//     and the next start renames it to X.
//  5. X.next is renamed to X, and the head file told.
//
// If a step fails, X is written further, and rotation is tried again later.
func (t *Trail) rotate() error {
	t.turnAt = t.size + max(t.opt.MaxBytes/16, 4<<10)
	to, next := partPath(t.path, t.part), nextPath(t.path)
	if there, err := exists(to); there || err != nil {
		return fmt.Errorf("audit: rotation: %w", errors.Join(err, fmt.Errorf("%s is there already", to)))
	}
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("audit: rotation: %w", err)
	}
	f, err := openAppend(next, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return fmt.Errorf("audit: rotation: %w", err)
	}
	if err := t.moveTo(f, to); err != nil {
		_ = f.Close()
		_ = os.Remove(next)
		return fmt.Errorf("audit: rotation: %w", err)
	}
	// All of the old file is on the disk, and so is the first record of the
	// new one. The head must not be there before the names are.
	err = syncDir(t.path)
	if err == nil {
		err = t.head.write(t.mark())
	}
	if err != nil {
		return fmt.Errorf("audit: rotation: %w", err)
	}
	return nil
}

// moveTo does steps 2 to 5, with f as X.next. When it returns an error, f is
// not in use.
func (t *Trail) moveTo(f *os.File, to string) error {
	t.begin()
	t.add(&Record{Kind: Rotate, File: filepath.Base(to)})
	if err := t.commit(); err != nil {
		return err
	}
	if err := t.f.Sync(); err != nil {
		return err
	}
	t.begin()
	t.add(t.opening(t.part+1, true))
	n, err := f.Write(t.enc.buf)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(t.path, to); err != nil {
		return err
	}
	if err := os.Rename(nextPath(t.path), t.path); err != nil {
		return errors.Join(err, os.Rename(to, t.path), t.place())
	}
	_ = t.f.Close()
	t.f, t.info, t.part, t.at = f, info, t.part+1, t.next
	t.size, t.turnAt, t.pinned = int64(n), t.opt.MaxBytes, false
	return nil
}
