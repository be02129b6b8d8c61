package server

import (
	"context"
	"sync"
)

// flight counts what is under way, and tells when the last of it has ended.
// Once it is landing, nothing more takes off.
type flight struct {
	mu      sync.Mutex
	count   int
	limit   int // 0: no limit
	landing bool
	landed  chan struct{}
}

func newFlight(limit int) *flight { return &flight{limit: limit, landed: make(chan struct{})} }

// enter counts one in. It refuses when the limit is reached or landing began.
func (f *flight) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.landing || (f.limit > 0 && f.count >= f.limit) {
		return false
	}
	f.count++
	return true
}

// leave counts one out.
func (f *flight) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count--
	if f.landing && f.count == 0 {
		close(f.landed)
	}
}

// now is how many are under way.
func (f *flight) now() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// land refuses newcomers from now on. It reports whether it did not before.
func (f *flight) land() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.landing {
		return false
	}
	f.landing = true
	if f.count == 0 {
		close(f.landed)
	}
	return true
}

// wait blocks until all have left after land, or until ctx ends. It reports
// whether all have left.
func (f *flight) wait(ctx context.Context) bool {
	select {
	case <-f.landed:
		return true
	case <-ctx.Done():
	}
	select {
	case <-f.landed:
		return true
	default:
		return false
	}
}
