package auth

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// recheck is how old a look at a watched file may be. After twice this time no
// call goes on without a new look.
const recheck = time.Second

// patience is how long what a file said before is in force while it cannot be
// read or is not right. After it nothing is, until it is mended.
const patience = time.Minute

// watched is what a file says as it stands. It needs no goroutine: a call that
// finds the last look too old takes the next one. A file that cannot be read or
// is not right leaves what it said before in force, and says so in err, so that a
// slip of the editor does not lock everybody out; but only for patience, since it
// may be a revocation that cannot be read.
type watched[T any] struct {
	path string
	read func() (*T, fs.FileInfo, error) // no info: there is no file, which may be right
	set  atomic.Pointer[T]               // nil: nothing is in force

	start  time.Time    // of the monotonic clock that looked counts on
	looked atomic.Int64 // when the last look began, in nanoseconds after start

	mu      sync.Mutex // held while looking
	seen    fs.FileInfo
	settled bool // seen cannot have changed since without a new time of change
	err     error
	since   time.Time // when err was first seen
}

// watch reads the file for the first time; it must be right.
func watch[T any](path string, read func() (*T, fs.FileInfo, error)) (*watched[T], error) {
	w := &watched[T]{path: path, read: read, start: time.Now()}
	w.look()
	return w, w.err
}

// current is what the file says, looked at no longer ago than twice recheck. One
// call looks when it is time; the others need not wait for it unless it is late.
func (w *watched[T]) current() *T {
	switch age := w.age(); {
	case age < recheck:
	case age < 2*recheck:
		if w.mu.TryLock() {
			w.lookIfDue()
			w.mu.Unlock()
		}
	default:
		w.mu.Lock()
		w.lookIfDue()
		w.mu.Unlock()
	}
	return w.set.Load()
}

// latest is what the file says after a look, whether one is due or not.
func (w *watched[T]) latest() *T {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
	return w.set.Load()
}

// failure is what is wrong with the file, after a look if one is due.
func (w *watched[T]) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookIfDue()
	return w.err
}

func (w *watched[T]) age() time.Duration {
	return time.Since(w.start) - time.Duration(w.looked.Load())
}

func (w *watched[T]) lookIfDue() {
	if w.age() >= recheck {
		w.look()
	}
}

// look takes up what changed. The caller holds mu, or is alone.
func (w *watched[T]) look() {
	began := time.Since(w.start)
	defer func() {
		switch {
		case w.err == nil:
			w.since = time.Time{}
		case w.since.IsZero():
			w.since = time.Now()
		case time.Since(w.since) >= patience:
			w.set.Store(nil)
		}
		w.looked.Store(int64(began))
	}()
	info, err := os.Stat(w.path)
	if err == nil && w.err == nil && w.settled && same(info, w.seen) {
		return
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.err = err
		return
	}
	set, info, err := w.read()
	if err != nil {
		w.err = err
		return
	}
	w.set.Store(set)
	w.seen, w.err = info, nil
	// File systems tell time in steps. Within one, a file can change again and
	// keep its time; so a file that is so young is read again.
	w.settled = info != nil && time.Since(info.ModTime()) > 2*time.Second
}

func same(a, b fs.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}
