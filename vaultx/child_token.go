package vaultx

import (
	"context"
	"sync"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

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
