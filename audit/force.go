package audit

import (
	"errors"
	"fmt"
	"os"
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

// flush forces everything up to a record to the disk and moves the head.
// Callers that wait here together are served by one fsync.
func (t *Trail) flush(seq uint64) error {
	t.syncMu.Lock()
	defer t.syncMu.Unlock()
	t.mu.Lock()
	f, m, unsound, failed := t.f, t.mark(), t.unsound, t.syncErr
	t.mu.Unlock()
	if t.synced >= seq && (failed == nil || unsound) {
		return nil
	}
	if unsound {
		return failed
	}
	err := t.force(f)
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
	t.syncMu.Lock()
	defer t.syncMu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return errClosed
	case !t.unsound:
		return nil
	case t.waiting > 0:
		return t.syncErr // they must hear of it before a later fsync succeeds
	}
	err := t.turn(&Record{Kind: Recovery, Unsynced: t.at.seq - t.synced})
	if !t.unsound {
		t.synced = t.at.seq // all of the new file; the others will not be, and it is said
	}
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
	t.begin()
	if len(t.ends) == 0 {
		t.add(&Record{Kind: Checkpoint, Count: t.next.seq})
	}
	return t.commit()
}

// Check says whether the trail can be written. It writes nothing, except the
// record of a recovery when a failure before is over.
func (t *Trail) Check() error {
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed {
		return unavailable(errClosed)
	}
	err := t.mend()
	t.mu.Lock()
	seq, again := t.at.seq, t.syncErr != nil
	t.mu.Unlock()
	if err == nil && again {
		err = t.flush(seq)
	}
	return unavailable(err)
}
