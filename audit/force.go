package audit

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// What follows an fsync that failed. The kernel tells of a page that it could
// not write once; then it calls the page clean, and the next fsync succeeds
// although the page is not on the disk, and may not be in memory any more
// either. So the file is unsound: no success of a later fsync of it counts, and
// nothing more is written to it. Whoever waits for a record in it is told that it
// failed, calls are refused, and within a second a new file is begun, if it can
// be forced to the disk. Its recovery record says for how many records the fsync
// failed and how many were refused since. A disk that was full recovers in this
// way by itself.

// serve forces the records to the disk that callers wait for: all that were
// written before it began, with one fsync.
func (t *Trail) serve() {
	t.mu.Lock()
	records := t.unforced
	t.unforced = nil
	t.mu.Unlock()
	if len(records) == 0 {
		return
	}
	err := t.flush(records[len(records)-1].seq)
	for _, p := range records {
		t.answer(p, err)
	}
	t.mu.Lock()
	t.waiting -= len(records)
	t.mu.Unlock()
}

// flush forces everything up to a record to the disk and moves the head. Only
// the keeper does it.
func (t *Trail) flush(seq uint64) error {
	t.mu.Lock()
	f, m, unsound, failed, force := t.f, t.mark(), t.unsound, t.syncErr, t.force
	t.mu.Unlock()
	if t.synced >= seq && (failed == nil || unsound) {
		return nil
	}
	if unsound {
		return failed
	}
	err := force(f)
	if errors.Is(err, os.ErrClosed) {
		err = nil // rotated meanwhile: the rotation has done it
	}
	t.mu.Lock()
	switch {
	case err != nil:
		t.spoil(err)
	case t.unsound:
		err = t.syncErr // the kernel told the rotation, not us
	}
	t.mu.Unlock()
	if err != nil {
		return err
	}
	err = t.head.write(m)
	if err == nil {
		t.synced = m.Seq
	}
	t.mu.Lock()
	if !t.unsound {
		t.syncErr = err
	}
	t.mu.Unlock()
	return err
}

// spoil takes note of an fsync that failed. The caller holds mu.
func (t *Trail) spoil(err error) {
	t.unsound, t.syncErr = true, fmt.Errorf("audit: forcing to the disk: %w", err)
}

// renew turns to a new file when the current one is unsound.
func (t *Trail) renew() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.unsound:
		return nil
	case t.waiting > 0:
		return t.syncErr // they must hear of it before a later fsync succeeds
	case time.Now().Before(t.renewAt):
		return t.syncErr // each of these tries leaves a file behind
	}
	part := t.part
	err := t.turn(&Record{Kind: Recovery, Unsynced: t.at.seq - t.synced})
	if t.unsound && t.part == part {
		return err // it is where it was
	}
	if t.unsound {
		t.renewWait = min(max(2*t.renewWait, t.opt.SyncInterval), time.Minute)
		t.renewAt = time.Now().Add(t.renewWait)
		return err
	}
	t.renewWait = 0
	t.synced = t.at.seq // all of the new file; the others will not be, and it is said
	return err
}

// mend looks whether the files are still ours, and tries to go on after a
// failure.
func (t *Trail) mend() error {
	t.mu.Lock()
	err := t.place()
	unsound := t.unsound
	if err == nil && !unsound {
		err = t.heal()
	}
	t.mu.Unlock()
	if err == nil && unsound {
		err = t.renew()
	}
	return err
}

// heal tries to write again after a failure. What it writes is the recovery
// record that is owed, or a checkpoint if none is; while the failure lasts it
// leaves nothing behind.
func (t *Trail) heal() error {
	if t.broken == nil {
		return nil
	}
	t.owe()
	t.begin()
	if len(t.ends) == 0 {
		t.add(&Record{Kind: Checkpoint, Count: t.next.seq})
	}
	return t.commit()
}
