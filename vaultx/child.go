package vaultx

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// ChildSpec says as whom an operation is done: with a token that has just one
// policy. The zero ChildSpec is the server itself.
type ChildSpec struct {
	ID     string // of the principal
	Policy string // the name of its policy
	Name   string // its slug, for Vault's own trail
	// Leases says that the operation gives a lease. What Vault gives ends with the
	// token that asked for it, so such an operation has a token of its own.
	Leases bool
}

// ChildOptions turn child tokens on.
type ChildOptions struct {
	TTL      time.Duration // of a token
	LeaseTTL time.Duration // of one that a lease hangs on: as long as a lease may live
	Role     string        // token role; empty: children of the server's own token
	Folder   string        // where accessors are kept, one file for each process
	Key      []byte        // of 32 bytes, which seals them
	Told     func(ChildEvent)
	Max      int           // principals whose tokens are kept, default 10 000
	Recheck  time.Duration // how old a look at a policy may be, default 30 s
	Grace    time.Duration // how long a token that is no longer given out lives on, for those who have it in hand; default 10 s
}

// ChildEvent is something that an operator wants to know.
type ChildEvent struct {
	Policy string // empty: it is about none
	What   string
	Err    error // nil: it is well again
}

const (
	// childPause is how long a token that could not be made is not asked for again.
	childPause = time.Second
	// childWork is how long making one may take.
	childWork = 10 * time.Second
	// mintingEnd is how long the end of the process waits for one that is being made.
	mintingEnd = 2 * time.Second
	// childrenEnd is how long it then waits for all to be revoked.
	childrenEnd = 5 * time.Second
)

// children are the tokens of principals. A token is made when it is first asked
// for, and the next one while there is a third of its life left; it is never
// renewed, so that what it has is what its policy and role say now. Tokens that
// are no longer used are revoked by their accessors, which stand in a ledger on
// disk, so that the next process can do it if this one is killed.
type children struct {
	client *Client
	opt    ChildOptions
	ledger *ledger
	revoke *revoker

	ctx    context.Context //nolint:containedctx // of the work in the background, which outlives the call that began it
	cancel context.CancelFunc
	loops  context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	kept   map[ChildSpec]*list.Element
	recent *list.List // of *child, the one that was used last first
	closed atomic.Bool
}

// StartChildren turns child tokens on. Close ends it.
func (c *Client) StartChildren(opt ChildOptions) error {
	if opt.Max <= 0 {
		opt.Max = 10_000
	}
	if opt.Recheck <= 0 {
		opt.Recheck = 30 * time.Second
	}
	if opt.Grace <= 0 {
		opt.Grace = 10 * time.Second
	}
	if opt.Told == nil {
		opt.Told = func(ChildEvent) {}
	}
	book, err := openLedger(opt.Folder, opt.Key, c.base.String()+"\n"+c.cfg.Namespace)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	loops, endLoops := context.WithCancel(ctx)
	set := &children{client: c, opt: opt, ledger: book, ctx: ctx, cancel: cancel, loops: endLoops, kept: make(map[ChildSpec]*list.Element), recent: list.New()}
	set.revoke = newRevoker(set)
	c.children = set
	set.work.Go(func() { set.revoke.run(loops) })
	set.work.Go(func() { set.revokeForgotten(loops) })
	return nil
}

// childSource is where the tokens of a principal come from.
func (c *Client) childSource(spec ChildSpec) tokens {
	switch {
	case c.children == nil:
		return noChildren{}
	case spec.Leases:
		return &leaseChild{set: c.children, spec: spec}
	}
	return c.children.of(spec)
}

// noChildren is where child tokens are wanted and not turned on: nothing goes on
// with the server's token instead.
type noChildren struct{}

func (noChildren) token(context.Context) (secret.Text, error) {
	return secret.Text{}, fault.New(fault.Internal, fault.MsgInternal)
}
func (noChildren) renewed(context.Context, secret.Text) bool { return false }

// of is the child of a principal, which becomes the most recent one.
func (s *children) of(spec ChildSpec) *child {
	c, over := s.place(spec)
	for _, old := range over {
		old.evict() // not under the lock of all, which a child takes under its own
	}
	return c
}

// place is of, with those who have to leave for it.
func (s *children) place(spec ChildSpec) (c *child, over []*child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.kept[spec]; ok {
		s.recent.MoveToFront(at)
		return at.Value.(*child), nil
	}
	c = &child{set: s, spec: spec}
	s.kept[spec] = s.recent.PushFront(c)
	for s.recent.Len() > s.opt.Max {
		old := s.recent.Remove(s.recent.Back()).(*child)
		delete(s.kept, old.spec)
		over = append(over, old)
	}
	return c, over
}

// start begins work in the background, unless it is the end.
func (s *children) start(work func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return false
	}
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, childWork)
		defer cancel()
		work(ctx)
	})
	return true
}

// end revokes all that are left; what the time does not suffice for, the next
// process does. A token that is being made is waited for, since one that Vault
// makes after that could not be revoked.
func (s *children) end() {
	s.mu.Lock()
	s.closed.Store(true)
	s.mu.Unlock()
	s.loops()
	patience := time.AfterFunc(mintingEnd, s.cancel)
	s.work.Wait()
	patience.Stop()
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), childrenEnd)
	defer cancel()
	s.revokeAll(ctx, s.ledger, s.revoke.left()...)
	s.ledger.close()
}
