package audit

import (
	"errors"
	"runtime"
	"time"
)

// checkpointInterval is how often a checkpoint is written, if there were records.
const checkpointInterval = time.Minute

// keep looks after the trail until it is told to stop: it forces to the disk
// what callers wait for, answers Check, and tends the trail from time to time.
func (t *Trail) keep() {
	defer close(t.kept)
	tick := time.NewTicker(t.opt.SyncInterval)
	defer tick.Stop()
	last, said := time.Now(), ""
	for {
		select {
		case <-t.stop:
			t.keeping.begin()
			t.serve()
			t.keeping.end()
			return
		case <-t.due:
			runtime.Gosched() // those whom the last fsync let go may have a record for this one
			t.keeping.begin()
			t.serve()
		case answer := <-t.checks:
			t.keeping.begin()
			answer <- t.look()
		case <-tick.C:
			t.keeping.begin()
			checkpoint := time.Since(last) >= checkpointInterval
			if checkpoint {
				last = time.Now()
			}
			// A failure that lasts is said once.
			err := t.tend(checkpoint)
			if err == nil {
				said = ""
			} else if said != err.Error() {
				said = err.Error()
				t.opt.LogError(err)
			}
		}
		t.keeping.end()
	}
}

// tend does what is due: it looks whether the files are still ours, recovers
// from a failure, writes a checkpoint, and forces what is new to the disk.
func (t *Trail) tend(checkpoint bool) error {
	if err := t.mend(); err != nil {
		return err
	}
	t.mu.Lock()
	var err error
	if checkpoint && t.since > 0 && !t.unsound {
		err = t.checkpoint("")
	}
	seq := t.at.seq
	t.mu.Unlock()
	if err != nil {
		return err
	}
	return t.flush(seq)
}

// look finds out whether the trail can be written.
func (t *Trail) look() error {
	err := t.mend()
	t.mu.Lock()
	seq, again := t.at.seq, t.syncErr != nil
	t.mu.Unlock()
	if err == nil && again {
		err = t.flush(seq)
	}
	return err
}

// Check says whether the trail can be written. It writes nothing, except the
// record of a recovery when a failure before is over. It waits no longer than
// Append does, and not at all while the disk does not answer.
func (t *Trail) Check() error {
	if t.queue.isClosed() {
		return unavailable(errClosed)
	}
	if t.stuck() {
		return unavailable(t.slow())
	}
	answer := make(chan error, 1)
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case t.checks <- answer:
	case <-t.kept:
		return unavailable(errClosed)
	case <-timer.C:
		return unavailable(t.slow())
	}
	select {
	case err := <-answer:
		return unavailable(err)
	case <-timer.C:
		return unavailable(t.slow())
	}
}

func (t *Trail) checkpoint(detail string) error {
	t.owe()
	t.begin()
	t.add(&Record{Kind: Checkpoint, Count: t.next.seq, Detail: detail})
	err := t.commit()
	if err == nil {
		t.since = 0
	}
	return err
}

// closedDetail stands in the last checkpoint of a process that ended properly.
const closedDetail = "closed"

// Close writes a last checkpoint, forces everything to the disk, and gives the
// lock back. Append fails from then on. Closing again returns the same. A disk
// that does not answer is waited for a little longer than Append does; then the
// lock stays with the process.
func (t *Trail) Close() error {
	t.closing.Do(func() {
		ended := make(chan error, 1)
		go func() { ended <- t.end() }()
		timer := time.NewTimer(t.patience + t.patience/5)
		defer timer.Stop()
		select {
		case t.closeErr = <-ended:
		case <-timer.C:
			t.closeErr = unavailable(t.slow())
		}
	})
	return t.closeErr
}

// end lets the writer and the keeper finish, one after the other, for the keeper
// has what the writer wrote last, and does the rest itself.
func (t *Trail) end() error {
	t.queue.close()
	<-t.written
	close(t.stop)
	<-t.kept
	err := t.mend()
	t.mu.Lock()
	if err == nil && !t.unsound {
		err = t.checkpoint(closedDetail)
	}
	seq, broken := t.at.seq, t.moved != nil
	t.mu.Unlock()
	if !broken {
		err = errors.Join(err, t.flush(seq), t.head.f.Sync())
	}
	return errors.Join(err, t.f.Close(), t.head.f.Close())
}
