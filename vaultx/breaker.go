package vaultx

import (
	"sync"
	"time"

	"vault-mcp/fault"
)

const (
	// breakerPause is how long calls fail at once after an outage was seen,
	// before one of them is let through to look again.
	breakerPause = 500 * time.Millisecond
	// probePatience is how long the others wait for that one, which may hang or
	// be cancelled, before the next is let through.
	probePatience = 2 * time.Second
	// maxDoubts is how many answers in a row that are no proof of an outage make
	// one. It is more than one call's attempts, so that no single call, nor one
	// path that always fails while others work, shuts Vault for everyone.
	maxDoubts = attempts + 2
)

// health is what a request says of Vault as a whole.
type health int

const (
	silent   health = iota // nothing: cancelled, out of time, broken off
	there                  // it answered
	doubtful               // 503 without a reason: overloaded, or of one path
	gone                   // further requests would fail alike
)

// breaker keeps a Vault that is down or sealed from being stormed: while it is
// open, calls fail at once, and one call in each pause is the probe that finds
// out whether Vault is back.
type breaker struct {
	mu     sync.Mutex
	era    uint64 // counts openings and closings
	open   bool
	why    string    // what to tell callers while open
	next   time.Time // when the next probe may go, while open
	doubts int       // in a row, while closed
}

// pass lets one request go. What it comes to counts only in the era in which it
// began: a slow answer from before an outage does not end the outage, and a
// slow failure does not end the recovery.
type pass struct{ era uint64 }

// enter asks to make a request. A pass that is never given back by leave costs
// an open breaker no more than probePatience.
func (b *breaker) enter() (pass, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		now := time.Now()
		if now.Before(b.next) {
			f := fault.New(fault.Unavailable, b.why)
			f.RetryAfter = breakerPause
			return pass{}, f
		}
		b.next = now.Add(probePatience)
	}
	return pass{b.era}, nil
}

// leave says what came of the request; why is for callers if it is an outage.
func (b *breaker) leave(p pass, h health, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.era != b.era {
		return
	}
	switch h {
	case silent:
		if b.open {
			b.next = time.Now() // the probe found out nothing: let another look
		}
		return
	case there:
		b.doubts = 0
		if b.open {
			b.open = false
			b.era++
		}
		return
	case doubtful:
		if b.doubts++; !b.open && b.doubts < maxDoubts {
			return
		}
	case gone:
	}
	if !b.open {
		b.open = true
		b.era++
	}
	b.doubts, b.why, b.next = 0, why, time.Now().Add(breakerPause)
}
