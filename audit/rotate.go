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
//  2. X.next gets its first record and is forced to the disk.
//  3. X gets its rotate record, on which that of X.next follows. If nothing more
//     happens, records simply go on in X.
//  4. X is renamed to its number. From here on X.next is a part of the chain,
//     and the next start renames it to X.
//  5. X.next is renamed to X, and the head file told.
//
// If a step fails, X is written further, and rotation is tried again later.
func (t *Trail) rotate() error {
	t.turnAt = t.size + max(t.opt.MaxBytes/16, 4<<10)
	return t.turn(nil)
}

// turn does the steps. If the old file is unsound, the new one has a recovery
// record that says so.
func (t *Trail) turn(recovery *Record) error {
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
	if err := t.moveTo(f, to, recovery); err != nil {
		_ = f.Close()
		_ = os.Remove(next)
		return fmt.Errorf("audit: rotation: %w", err)
	}
	// All of the old file is on the disk, and so is the first record of the
	// new one. The head must not be there before the names are.
	if err := t.folder(filepath.Dir(t.path)); err != nil {
		t.spoil(err)
		return t.syncErr
	}
	if err := t.head.write(t.mark()); err != nil {
		t.syncErr = err
		return fmt.Errorf("audit: rotation: %w", err)
	}
	return nil
}

// moveTo does steps 2 to 5, with f as X.next. When it returns an error, f is
// not in use.
func (t *Trail) moveTo(f *os.File, to string, recovery *Record) (err error) {
	t.owe()
	if recovery != nil { // what is owed stands in the new file, which can be believed
		recovery.Refused, t.refused = t.refused, 0
		defer func() {
			if err != nil {
				t.refused += recovery.Refused
			}
		}()
	}
	t.begin()
	t.add(&Record{Kind: Rotate, File: filepath.Base(to)})
	off, lines := len(t.enc.buf), len(t.ends)
	t.add(t.opening(t.part+1, true))
	if recovery != nil {
		t.add(recovery)
	}
	after := t.next
	n, err := f.Write(t.enc.buf[off:])
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.force(f); err != nil {
		return err
	}
	t.enc.buf, t.ends = t.enc.buf[:off], t.ends[:lines]
	t.next = t.ends[lines-1].at
	if err := t.commit(); err != nil {
		return err
	}
	// Of an unsound file it does not matter what the kernel says.
	if err := t.force(t.f); err != nil && recovery == nil {
		t.spoil(err)
		return t.syncErr
	}
	if err := os.Rename(t.path, to); err != nil {
		return err
	}
	if err := os.Rename(nextPath(t.path), t.path); err != nil {
		return errors.Join(err, os.Rename(to, t.path), t.place())
	}
	_ = t.f.Close()
	t.f, t.info, t.part, t.at = f, info, t.part+1, after
	t.size, t.turnAt, t.pinned = int64(n), t.opt.MaxBytes, false
	if recovery != nil {
		t.unsound, t.syncErr = false, nil
	}
	return nil
}
