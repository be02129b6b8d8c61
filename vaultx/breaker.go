package vaultx

import (
	"sync"
	"time"

	"vault-mcp/fault"
)

// breakerPause is how long calls fail at once after an outage was seen, before
// one of them is let through to look again.
const breakerPause = 500 * time.Millisecond

// breaker keeps a Vault that is down or sealed from being stormed: while it is
// open, calls fail at once, and one call in each pause is the probe that finds
// out whether Vault is back.
type breaker struct {
	now func() time.Time // nil: time.Now

	mu      sync.Mutex
	open    bool
	probing bool
	next    time.Time
}

func (b *breaker) clock() time.Time {
	if b.now != nil {
		return b.now()
	}
	return time.Now()
}

// enter asks to make a request. Each success is followed by one leave.
func (b *breaker) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return nil
	}
	if b.probing || b.clock().Before(b.next) {
		f := fault.New(fault.Unavailable, "Vault is not available")
		f.RetryAfter = breakerPause
		return f
	}
	b.probing = true
	return nil
}

// leave says how the request went: nil where Vault is there.
func (b *breaker) leave(outage error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	b.open = outage != nil
	if b.open {
		b.next = b.clock().Add(breakerPause)
	}
}
