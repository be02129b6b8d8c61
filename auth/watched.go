package auth

import (
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// recheck is how old a look at watched files may be. After twice this time nobody
// goes on without a new look.
const recheck = time.Second

// patience is how long what files said before is in force while it may be a
// revocation that cannot be read. After it nothing is, until they are mended.
const patience = time.Minute

// Watched is what some files say, as they stand: keys, certificates, authorities.
// It needs no goroutine. Who asks for it when the last look at the files is a
// second old takes the next one; the others go on with what there is, unless that
// look is late.
//
// Files that cannot be read, or are not right, leave in force what they said
// before, so that a slip of the editor locks nobody out, and Failure says so.
type Watched[T any] struct {
	files    []string
	read     reader[T]
	patience time.Duration
	told     func(error)

	value  atomic.Pointer[T] // never nil
	start  time.Time         // of the monotonic clock that looked counts on
	looked atomic.Int64      // when the last look began, in nanoseconds after start

	mu      sync.Mutex // held while looking
	seen    []fs.FileInfo
	settled bool // seen cannot have changed since without a new time of change
	err     error
	since   time.Time // when err was first seen
}

// reader reads files and says what they were when they were open. No info at all:
// what they were before, which is never newer than what was read. A nil one: there
// is no such file, which may be right.
type reader[T any] func() (T, []fs.FileInfo, error)

// WatchOptions are those of Watch.
type WatchOptions struct {
	// Patience is how long what the files said before is in force while they
	// cannot be read or are not right; after it, the zero value is. 0: without
	// end.
	Patience time.Duration
	// Told hears of each change: nil when something new was taken up, else what
	// is wrong. It must not ask the Watched.
	Told func(error)
}

// Watch reads the files for the first time; they must be right.
func Watch[T any](files []string, read func() (T, error), opt WatchOptions) (*Watched[T], error) {
	return watch(files, func() (T, []fs.FileInfo, error) {
		value, err := read()
		return value, nil, err
	}, opt)
}

// watchOne watches one file, of which read tells what it was when it was open. As
// it may hold a revocation, patience has an end.
func watchOne[T any](path string, read func() (T, fs.FileInfo, error)) (*Watched[T], error) {
	return watch([]string{path}, func() (T, []fs.FileInfo, error) {
		value, info, err := read()
		return value, []fs.FileInfo{info}, err
	}, WatchOptions{Patience: patience})
}

func watch[T any](files []string, read reader[T], opt WatchOptions) (*Watched[T], error) {
	w := &Watched[T]{files: files, read: read, patience: opt.Patience, start: time.Now()}
	w.value.Store(new(T))
	w.look()
	w.told = opt.Told // of what changes from now on
	return w, w.err
}

// Current is what is in force, looked at no longer ago than twice recheck.
func (w *Watched[T]) Current() T {
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
	return *w.value.Load()
}

// latest is what the files say after a look, whether one is due or not.
func (w *Watched[T]) latest() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
	return *w.value.Load()
}

// Failure is what is wrong with the files, after a look if one is due.
func (w *Watched[T]) Failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookIfDue()
	return w.err
}

func (w *Watched[T]) age() time.Duration {
	return time.Since(w.start) - time.Duration(w.looked.Load())
}

func (w *Watched[T]) lookIfDue() {
	if w.age() >= recheck {
		w.look()
	}
}

// look takes up what changed. The caller holds mu, or is alone.
func (w *Watched[T]) look() {
	began := time.Since(w.start)
	before := w.err
	if w.takeUp() || !sameText(before, w.err) {
		if w.told != nil {
			w.told(w.err)
		}
	}
	switch {
	case w.err == nil:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since = time.Now()
	case w.patience > 0 && time.Since(w.since) >= w.patience:
		w.value.Store(new(T))
	}
	w.looked.Store(int64(began))
}

// takeUp reads the files if they changed, and reports whether something new is
// in force.
func (w *Watched[T]) takeUp() bool {
	infos := make([]fs.FileInfo, len(w.files))
	for i, name := range w.files {
		infos[i], _ = os.Stat(name) // what cannot be found, read will tell
	}
	if w.err == nil && w.settled && sameFiles(infos, w.seen) {
		return false
	}
	value, opened, err := w.read()
	w.err = err
	if err != nil {
		return false
	}
	if opened != nil {
		infos = opened
	}
	// What was read stood there before if it was only read again for being young,
	// or if there is still no file.
	again := w.seen != nil && sameFiles(infos, w.seen)
	w.value.Store(&value)
	w.seen, w.settled = infos, true
	for _, info := range infos {
		// File systems tell time in steps. Within one, a file can change again
		// and keep its time; so a file that is so young is read again.
		w.settled = w.settled && info != nil && time.Since(info.ModTime()) > 2*time.Second
	}
	return !again
}

func sameFiles(a, b []fs.FileInfo) bool { return slices.EqualFunc(a, b, same) }

func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

func sameText(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Error() == b.Error()
}
