package audit

import (
	"errors"
	"time"
)

// run looks after the trail until Close.
func (t *Trail) run() {
	defer close(t.done)
	tick := time.NewTicker(t.opt.SyncInterval)
	defer tick.Stop()
	last, said := time.Now(), ""
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		checkpoint := time.Since(last) >= t.opt.CheckpointInterval
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

func (t *Trail) checkpoint(detail string) error {
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
// lock back. Append fails from then on. Closing again returns the same.
func (t *Trail) Close() error {
	t.closing.Do(func() {
		close(t.stop)
		<-t.done
		err := t.mend()
		t.mu.Lock()
		t.closed = true
		if err == nil && !t.unsound {
			err = t.checkpoint(closedDetail)
		}
		seq, broken := t.at.seq, t.moved != nil
		t.mu.Unlock()
		if !broken {
			err = errors.Join(err, t.flush(seq), t.head.f.Sync())
		}
		// An Append that began before may still wait for its fsync.
		t.syncMu.Lock()
		defer t.syncMu.Unlock()
		t.closeErr = errors.Join(err, t.f.Close(), t.head.f.Close())
	})
	return t.closeErr
}
