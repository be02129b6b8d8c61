// Package gate bounds the requests in flight to one upstream, in all and for each
// principal: so that one with a slow mount, or a noisy one where an upstream
// counts all requests together, does not hold up or starve the others.
//
//	g := gate.New(64)
//	leave, err := g.Enter(ctx, owner)   // a *fault.Error of kind rate_limited, or the context's
//	defer leave()
package gate

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"vault-mcp/fault"
)

// longestQueue is how long a request waits for a slot.
const longestQueue = 2 * time.Second

// Gate has so many slots, of which an owner has at most half. As many requests
// again may wait for one, and none waits long. It is safe for concurrent use.
type Gate struct {
	slots    *semaphore.Weighted
	perOwner int
	most     int // under way or waiting

	mu     sync.Mutex
	owners map[string]int // under way or waiting
	all    int
}

// New makes a Gate of n slots.
func New(n int) *Gate {
	return &Gate{slots: semaphore.NewWeighted(int64(n)), perOwner: max(1, n/2), most: 2 * n, owners: make(map[string]int)}
}

// Enter takes a slot; the caller calls leave, once, when its request has ended.
func (g *Gate) Enter(ctx context.Context, owner string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := g.register(owner); err != nil {
		return nil, err
	}
	if !g.slots.TryAcquire(1) { // no timer where there is no queue
		if err := g.wait(ctx); err != nil {
			g.forget(owner)
			return nil, err
		}
	}
	return func() { g.slots.Release(1); g.forget(owner) }, nil
}

func (g *Gate) wait(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, longestQueue)
	defer cancel()
	err := g.slots.Acquire(waiting, 1)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return busy("too many calls are under way")
	}
	return err
}

func (g *Gate) register(owner string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owners[owner] >= g.perOwner {
		return busy("too many calls of this principal are under way")
	}
	if g.all >= g.most {
		return busy("too many calls are under way")
	}
	g.owners[owner]++
	g.all++
	return nil
}

func (g *Gate) forget(owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.owners[owner]--; g.owners[owner] == 0 {
		delete(g.owners, owner)
	}
}

func busy(msg string) error {
	e := fault.New(fault.RateLimited, msg+"; try again shortly")
	e.RetryAfter = time.Second
	return e
}
