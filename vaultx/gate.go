package vaultx

import (
	"context"
	"sync"
	"time"

	"vault-mcp/fault"
)

// gate bounds the requests in flight, in all and for each owner, so that one
// principal with a slow mount does not hold up the others. As many again may
// wait for a slot, and none waits long.
type gate struct {
	slots    chan struct{}
	perOwner int

	mu      sync.Mutex
	owners  map[string]int // in flight or waiting
	waiting int
}

// longestQueue is how long a call waits for a slot.
const longestQueue = 2 * time.Second

func newGate(n int) *gate {
	return &gate{slots: make(chan struct{}, n), perOwner: max(1, n/2), owners: make(map[string]int)}
}

// enter takes a slot; the caller calls leave when it has one.
func (g *gate) enter(ctx context.Context, owner string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	if g.owners[owner] >= g.perOwner {
		g.mu.Unlock()
		return nil, busy("too many calls of this principal are under way")
	}
	g.owners[owner]++
	g.mu.Unlock()
	if err := g.take(ctx); err != nil {
		g.forget(owner)
		return nil, err
	}
	return func() { <-g.slots; g.forget(owner) }, nil
}

func (g *gate) forget(owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owners[owner]--; g.owners[owner] == 0 {
		delete(g.owners, owner)
	}
}

// take waits for a slot.
func (g *gate) take(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	if !g.queue() {
		return busy("too many calls are under way")
	}
	defer g.unqueue()
	timer := time.NewTimer(longestQueue)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return busy("too many calls are under way")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) queue() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting >= cap(g.slots) {
		return false
	}
	g.waiting++
	return true
}

func (g *gate) unqueue() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
}

func busy(msg string) error {
	e := fault.New(fault.RateLimited, msg+"; try again shortly")
	e.RetryAfter = time.Second
	return e
}
