package audit

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// What calls wait for. A write or an fsync of a disk that does not answer (a
// network's, a failing one's) cannot be taken back, so no caller does one
// itself: the writer writes the records (writer.go), the keeper forces them to
// the disk and looks after the files (background.go), and callers wait for them
// for no longer than the trail's patience. A record that is not on time is
// refused. If the writer has not begun with it, it is never written; otherwise it
// may still get into the chain, in its place. The next recovery record counts it
// as refused either way. While one of the two has been at the same thing for
// longer than that, no more records are taken.

const (
	patience   = 5 * time.Second // how long a caller waits
	maxPending = 4096            // records that are waited for at the same time
)

var (
	errClosed = errors.New("audit: the trail is closed")
	errMany   = fmt.Errorf("audit: %d records are waiting to be written", maxPending)
)

// slow is the error for a disk that does not answer.
func (t *Trail) slow() error {
	return fmt.Errorf("audit: the disk has not answered within %s", t.patience)
}

// pending is a record for which a caller waits.
type pending struct {
	rec   Record
	seq   uint64      // the record's, and that of a checkpoint behind it
	over  atomic.Bool // answered, or given up: whoever sets it decides
	done  chan error  // has room for the answer
	timer *time.Timer
}

// answer tells the caller, unless it has given up. Whoever has a pending record
// in hand answers it once, and does not look at it any more.
func (t *Trail) answer(p *pending, err error) bool {
	t.taken.Add(-1)
	first := p.over.CompareAndSwap(false, true)
	if first {
		p.done <- err
	}
	return first
}

// queue is what the writer has to do.
type queue struct {
	mu      sync.Mutex
	records []*pending
	closed  bool
	more    chan struct{} // has room for one
}

// put adds a record, or nothing if the queue is closed.
func (q *queue) put(p *pending) bool {
	q.mu.Lock()
	closed, first := q.closed, len(q.records) == 0
	if !closed {
		q.records = append(q.records, p)
	}
	q.mu.Unlock()
	if first && !closed {
		wake(q.more)
	}
	return !closed
}

// take waits for records, and returns none when the queue is closed and empty.
// spare is a slice to fill next.
func (q *queue) take(spare []*pending) []*pending {
	for {
		q.mu.Lock()
		records, closed := q.records, q.closed
		if len(records) > 0 {
			q.records = spare
		}
		q.mu.Unlock()
		if len(records) > 0 || closed {
			return records
		}
		<-q.more
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	wake(q.more)
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// wake leaves a sign for a goroutine that waits for c.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one
	}
}

// watch tells how long a goroutine has been at the same thing.
type watch struct {
	made  time.Time
	since atomic.Int64 // on its clock; 0 while there is nothing to do
}

func newWatch() watch { return watch{made: time.Now()} }

// now is never 0.
func (w *watch) now() int64 { return int64(time.Since(w.made)) + 1 }

func (w *watch) begin() { w.since.Store(w.now()) }
func (w *watch) end()   { w.since.Store(0) }

// over reports whether a bound is reached.
func (w *watch) over(bound time.Duration) bool {
	since := w.since.Load()
	return since != 0 && w.now()-since >= int64(bound)
}

// stuck reports whether the disk has not answered for too long.
func (t *Trail) stuck() bool {
	return t.writing.over(t.patience) || t.keeping.over(t.patience)
}

// Append writes a record. When it returns nil, the record has been handed to
// the kernel (or is on the disk, with Options.Sync Always). When it returns an
// error, a *fault.Error of kind Unavailable, the call that the record is about
// must be refused, or its result withheld. It waits for a bounded time only, and
// the trail goes on by itself once it can be written again. What the record
// refers to must not be changed any more.
func (t *Trail) Append(r Record) error {
	if r.Kind == "" || r.Kind.own() {
		return unavailable(fmt.Errorf("audit: %q is not a kind that callers write", r.Kind))
	}
	r.Chain, r.Key, r.Part, r.File, r.Chains = "", "", 0, "", nil
	r.Count, r.Cut, r.Torn, r.Unsynced, r.Refused = 0, 0, 0, 0, 0

	if t.stuck() {
		t.late.Add(1)
		return unavailable(t.slow())
	}
	if t.taken.Add(1) > maxPending {
		t.taken.Add(-1)
		t.late.Add(1)
		return unavailable(errMany)
	}
	p := t.newPending(&r)
	if !t.queue.put(p) {
		t.taken.Add(-1)
		t.reuse(p)
		return unavailable(errClosed)
	}
	select {
	case err := <-p.done:
		t.reuse(p)
		return unavailable(err)
	case <-p.timer.C:
	}
	if p.over.CompareAndSwap(false, true) {
		t.late.Add(1)
		return unavailable(t.slow())
	}
	return unavailable(<-p.done) // it came at the same moment
}

// newPending makes one, or takes one that is over.
func (t *Trail) newPending(r *Record) *pending {
	p, ok := t.spent.Get().(*pending)
	if ok {
		p.over.Store(false)
		p.timer.Reset(t.patience)
	} else {
		p = &pending{done: make(chan error, 1), timer: time.NewTimer(t.patience)}
	}
	p.rec = *r
	return p
}

// reuse keeps one for the next record. One that was given up is not kept: the
// writer or the keeper may still have it.
func (t *Trail) reuse(p *pending) {
	p.timer.Stop()
	p.rec = Record{}
	t.spent.Put(p)
}
