package vaultx

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"vault-mcp/fault"
)

const (
	// revokeAgain is how long after a failure a revocation is tried again.
	revokeAgain = 30 * time.Second
	// maxRevocations bounds those that wait. A token over that ends by itself.
	maxRevocations = 20_000
	// revokers is how many are revoked at once at the end.
	revokers = 16
)

// revoker revokes tokens in the background.
type revoker struct {
	set  *children
	wake chan struct{}

	mu      sync.Mutex
	waiting []revocation
	failing bool // the last one failed
}

type revocation struct {
	accessor   string
	due, until time.Time
}

func newRevoker(s *children) *revoker { return &revoker{set: s, wake: make(chan struct{}, 1)} }

// later revokes a token when nobody has it in hand any longer.
func (r *revoker) later(accessor string, until time.Time) {
	r.add(revocation{accessor, time.Now().Add(r.set.opt.Grace), until})
}

// now revokes a token as soon as can be.
func (r *revoker) now(accessor string, until time.Time) {
	r.add(revocation{accessor, time.Now(), until})
}

func (r *revoker) add(one revocation) {
	r.mu.Lock()
	if len(r.waiting) < maxRevocations {
		r.waiting = append(r.waiting, one)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run revokes what is due, until ctx ends.
func (r *revoker) run(ctx context.Context) {
	for {
		due, next := r.take(time.Now())
		for i, one := range due {
			if !r.one(ctx, one) { // it is the same with the others
				r.again(due[i:])
				break
			}
		}
		if len(due) > 0 {
			continue // some may have become due meanwhile
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take takes those that are due, and says how long until the next one is.
func (r *revoker) take(now time.Time) (due []revocation, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next = time.Hour
	rest := r.waiting[:0]
	for _, one := range r.waiting {
		wait := one.due.Sub(now)
		if wait <= 0 {
			due = append(due, one)
			continue
		}
		rest, next = append(rest, one), min(next, wait)
	}
	r.waiting = rest
	return due, next
}

// one revokes one token, and reports whether it is over.
func (r *revoker) one(ctx context.Context, one revocation) bool {
	if ctx.Err() != nil {
		return false // the end revokes what stands in the ledger
	}
	ctx, cancel := context.WithTimeout(ctx, childWork)
	defer cancel()
	err := r.set.client.RevokeAccessor(ctx, one.accessor)
	r.tell(err)
	if err == nil || time.Now().After(one.until) {
		r.set.ledger.remove(one.accessor)
		return true
	}
	return false
}

// again has revocations wait for a better time.
func (r *revoker) again(list []revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range list {
		if one.due = time.Now().Add(revokeAgain); len(r.waiting) < maxRevocations {
			r.waiting = append(r.waiting, one)
		}
	}
}

// tell reports when revoking begins to fail, and when it works again.
func (r *revoker) tell(err error) {
	r.mu.Lock()
	was := r.failing
	r.failing = err != nil && !errors.Is(err, fault.Canceled)
	is := r.failing
	r.mu.Unlock()
	switch {
	case was == is:
	case is:
		r.set.opt.Told(ChildEvent{What: "child tokens that are no longer used cannot be revoked, and end by themselves: " + fault.From(err).Msg, Err: fault.From(err).Err})
	default:
		r.set.opt.Told(ChildEvent{What: "child tokens can be revoked again"})
	}
}

// left takes all that still wait. Some of them are in no ledger: on those hung a
// lease that is over, or that nobody got.
func (r *revoker) left() (accessors []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.waiting {
		accessors = append(accessors, one.accessor)
	}
	r.waiting = nil
	return accessors
}

// revokeAll revokes what a ledger holds, and more, as long as ctx permits. It
// reports whether nothing is left in the ledger.
func (s *children) revokeAll(ctx context.Context, book *ledger, more ...string) bool {
	accessors := make(chan string)
	var group sync.WaitGroup
	for range revokers {
		group.Go(func() {
			for accessor := range accessors {
				if ctx.Err() != nil {
					continue
				}
				err := s.client.RevokeAccessor(ctx, accessor)
				if err == nil {
					book.remove(accessor)
				}
				if ctx.Err() == nil {
					s.revoke.tell(err)
				}
			}
		})
	}
	all := append(book.held(time.Now()), more...)
	slices.Sort(all)
	for _, accessor := range slices.Compact(all) {
		accessors <- accessor
	}
	close(accessors)
	group.Wait()
	return len(book.held(time.Now())) == 0
}

// revokeForgotten revokes the tokens of processes that ended without doing it.
func (s *children) revokeForgotten(ctx context.Context) {
	pause := time.Second
	for first := true; ; first = false {
		left, err := s.ledger.forgotten()
		if err != nil && first {
			s.opt.Told(ChildEvent{What: "child tokens of an earlier process may live on to their end: its ledger in STATE_DIR cannot be read", Err: err})
		}
		done := true
		for _, book := range left {
			done = s.revokeAll(ctx, book) && done
			book.close()
		}
		if done || ctx.Err() != nil {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		pause = min(2*pause, time.Minute)
	}
}
