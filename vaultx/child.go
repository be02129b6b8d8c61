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

// child is the token of one principal.
type child struct {
	set  *children
	spec ChildSpec

	mu      sync.Mutex
	now     *minted       // nil: none
	looked  time.Time     // when the policy was last looked at
	busy    chan struct{} // closed when the work under way is done; nil: there is none
	err     error         // of the last work
	failed  time.Time
	evicted bool
}

// token implements tokens. Who comes while a good token is being replaced gets
// the one that there is.
func (c *child) token(ctx context.Context) (secret.Text, error) {
	// The work under way may have found the token good that Vault refused
	// meanwhile; the second round makes another.
	for round := 1; ; round++ {
		token, busy, err := c.ask() //nolint:contextcheck // the work that it begins belongs to no caller
		switch {
		case busy == nil:
			return token, err
		case round > 2:
			return secret.Text{}, fault.New(fault.Unavailable, msgNoChild)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return secret.Text{}, fault.From(ctx.Err())
		}
	}
}

// ask gives the token, or what to wait for, or why there is none. It begins the
// work that is due.
func (c *child) ask() (token secret.Text, busy chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	usable := c.now.usable(now)
	due := !usable || !now.Before(c.now.refresh) || now.Sub(c.looked) >= c.set.opt.Recheck
	if due && c.busy == nil && (c.err == nil || now.Sub(c.failed) >= childPause) {
		busy := make(chan struct{})
		if c.set.start(func(ctx context.Context) { c.tend(ctx, busy) }) {
			c.busy = busy
		}
	}
	switch {
	case c.set.closed.Load():
		return secret.Text{}, nil, fault.New(fault.Unavailable, "this server is ending")
	case usable:
		return c.now.token, nil, nil
	case c.busy != nil:
		return secret.Text{}, c.busy, nil
	case c.err != nil:
		return secret.Text{}, nil, c.err
	}
	return secret.Text{}, nil, fault.New(fault.Unavailable, msgNoChild)
}

// renewed implements tokens: Vault does not know a token whose parent was
// revoked, or which an operator revoked. The next one is made at once.
func (c *child) renewed(ctx context.Context, refused secret.Text) bool {
	c.mu.Lock()
	if c.now != nil && c.now.token.Reveal() == refused.Reveal() {
		// It may live all the same, where what was refused is the server's own.
		c.set.revoke.later(c.now.accessor, c.now.until)
		c.now = nil
	}
	c.mu.Unlock()
	_, err := c.token(ctx)
	return err == nil
}

// tend looks at the policy, and makes a new token if there is need of one.
func (c *child) tend(ctx context.Context, busy chan struct{}) {
	c.mu.Lock()
	had := c.now
	c.mu.Unlock()
	policy, err := c.set.look(ctx, c.spec.Policy)
	now := time.Now()
	good := had.usable(now) && now.Before(had.refresh)
	made := had
	switch {
	case err == nil && good && policy == had.policy:
	case err == nil:
		made, err = c.set.mint(ctx, c.spec, c.set.opt.TTL, policy)
	case lost(err):
		made = nil
	}
	if err != nil && !lost(err) && had.usable(now) {
		made = had // which goes on for what life it has
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set.tell(c, err)
	if c.err, c.failed = err, now; err == nil {
		c.looked = now
	}
	// The one that there was may have gone meanwhile, if Vault did not know it.
	if gone := c.now; made != had || gone == had {
		c.now = made
		if gone != nil && gone != made {
			c.set.revoke.later(gone.accessor, gone.until)
		}
	}
	if c.evicted {
		c.leave()
	}
	c.busy = nil
	close(busy)
}

// evict is told that the child is not kept any longer.
func (c *child) evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evicted = true
	if c.busy == nil {
		c.leave()
	}
}

// leave has the token revoked once those who have it in hand have used it.
func (c *child) leave() {
	if c.now != nil {
		c.set.revoke.later(c.now.accessor, c.now.until)
	}
}

// tell reports when the state of a child changes, as far as that is about the
// child: what is wrong with Vault as a whole is told elsewhere.
func (s *children) tell(c *child, err error) {
	was, is := aboutChild(c.err), aboutChild(err)
	switch {
	case was == is:
	case is != "":
		s.opt.Told(ChildEvent{Policy: c.spec.Policy, What: is, Err: fault.From(err).Err})
	case err == nil:
		s.opt.Told(ChildEvent{Policy: c.spec.Policy, What: "child tokens can be made again"})
	}
}

func aboutChild(err error) string {
	if err == nil {
		return ""
	}
	switch msg := fault.From(err).Msg; msg {
	case msgNoChild, msgWrongChild, msgNoPolicy, msgEmptyPolicy, msgNoLedger:
		return msg
	}
	return ""
}
