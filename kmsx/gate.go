package kmsx

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"vault-mcp/fault"
)

// gate bounds the requests in flight, in all and for each principal: AWS counts
// all of an account's requests together, so that one noisy principal could
// starve the others. As many again may wait for a slot, and none waits long.
type gate struct {
	slots    *semaphore.Weighted
	perOwner int
	most     int // under way or waiting

	mu     sync.Mutex
	owners map[string]int // under way or waiting
	all    int
}

// longestQueue is how long a call waits for a slot.
const longestQueue = 2 * time.Second

func newGate(n int) *gate {
	return &gate{slots: semaphore.NewWeighted(int64(n)), perOwner: max(1, n/2), most: 2 * n, owners: make(map[string]int)}
}

// enter takes a slot; the caller calls leave when it has one.
func (g *gate) enter(ctx context.Context, owner string) (leave func(), err error) {
	if err := g.register(owner); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, longestQueue)
	defer cancel()
	if err := g.slots.Acquire(waiting, 1); err != nil {
		g.forget(owner)
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, busy("too many calls are under way")
		}
		return nil, err
	}
	return func() { g.slots.Release(1); g.forget(owner) }, nil
}

func (g *gate) register(owner string) error {
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

func (g *gate) forget(owner string) {
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
