package vaultx

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Bounds of what a keeper does.
const (
	loginPatience = 10 * time.Second // a login, a renewal
	// Logins because Vault did not know a token: some at once, then one in a while.
	// A Vault that knows none of the tokens that it gives makes no more of them.
	forcedAtOnce = 3
	forcedEvery  = 10 * time.Second
	// lastWarning is how long before the end of a token that cannot be renewed, and
	// that only an operator can replace, it is told again.
	lastWarning = time.Hour
)

// Notice tells an operator what has become of the server's token. It holds no
// value.
type Notice struct {
	Alarm   bool // somebody should do something
	Routine bool // as planned; it happens again and again
	Text    string
	TTL     time.Duration // of the token, where it is known and ends
	Err     error         // the cause, for the log
}

// keeper keeps a token of the server's own alive. It implements tokens.
//
// A token is renewed when about two thirds of its life are over. When Vault
// grants less than at first (its maximum is near), or does not renew, another is
// got by a new login while the old one still serves. It is not revoked then, nor
// when the server ends: with it would end the leases that were issued under it,
// which agents use. It ends by itself.
//
// One login is under way at a time, whoever wants it: the first call, the
// background, calls whose token Vault does not know any more. After one that
// failed the next waits.
type keeper struct {
	// What is done with Vault. obtain is nil for a token that was given by hand,
	// of which there is no other.
	obtain func(context.Context) (grant, error)
	extend func(context.Context, secret.Text) (grant, error)
	look   func(context.Context, secret.Text) (grant, error)
	notify func(Notice)
	fresh  func() // another token is in force

	forced *rate.Limiter
	poke   chan struct{} // wakes the background

	mu       sync.Mutex
	held     held
	flight   *flight
	failures int          // logins, renewals or looks in a row
	next     time.Time    // no login before
	problem  *fault.Error // why the last login failed
	closed   bool
	stop     context.CancelFunc // of the background
	wg       sync.WaitGroup
}

// flight is a login that is under way.
type flight struct {
	done   chan struct{}
	cancel context.CancelFunc
	token  secret.Text
	err    error
}

func newKeeper(notify func(Notice), fresh func()) *keeper {
	if notify == nil {
		notify = func(Notice) {}
	}
	return &keeper{
		notify: notify, fresh: fresh, poke: make(chan struct{}, 1),
		forced: rate.NewLimiter(rate.Every(forcedEvery), forcedAtOnce),
	}
}

// token implements tokens. It logs in where there is no usable token.
func (k *keeper) token(ctx context.Context) (secret.Text, error) {
	k.mu.Lock()
	if k.obtain == nil || k.held.usable(time.Now()) {
		defer k.mu.Unlock()
		return k.held.token, nil
	}
	return k.await(ctx)
}

// renewed implements tokens: it logs in again, once for all who were refused.
func (k *keeper) renewed(ctx context.Context, refused secret.Text) bool {
	k.mu.Lock()
	same := k.held.token.Reveal() == refused.Reveal()
	switch {
	case k.obtain == nil:
		k.mu.Unlock()
		return false
	case !same && k.held.usable(time.Now()):
		k.mu.Unlock()
		return true
	case same && !k.held.refused:
		if !k.forced.Allow() {
			k.mu.Unlock()
			return false
		}
		k.held.refused = true
	}
	_, err := k.await(ctx)
	return err == nil
}

// await waits for a login, which it starts unless one is under way, or it is too
// early for another. The caller holds mu, which await gives back.
func (k *keeper) await(ctx context.Context) (secret.Text, error) {
	f := k.flight
	if f == nil {
		if wait := time.Until(k.next); wait > 0 && k.problem != nil {
			defer k.mu.Unlock()
			early := *k.problem
			early.RetryAfter = min(max(wait, time.Second), longestRetryAfter)
			return secret.Text{}, &early
		}
		if k.closed {
			defer k.mu.Unlock()
			return secret.Text{}, fault.New(fault.Unavailable, "the server is ending")
		}
		f = k.launch(ctx)
	}
	k.mu.Unlock()
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return secret.Text{}, fault.From(ctx.Err())
	}
}

// launch starts a login that does not end with the one who asked for it. The
// caller holds mu.
func (k *keeper) launch(ctx context.Context) *flight {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginPatience)
	f := &flight{done: make(chan struct{}), cancel: cancel}
	k.flight = f
	k.wg.Go(func() {
		defer cancel()
		began := time.Now()
		g, err := k.obtain(ctx)
		k.land(f, g, err, began)
	})
	return f
}

// land takes up what a login came to.
func (k *keeper) land(f *flight, g grant, err error, began time.Time) {
	k.mu.Lock()
	var told *Notice
	if err != nil {
		told = k.failed(fault.From(err))
	} else {
		k.held = held{token: g.token, first: g.ttl, renewable: g.renewable}
		k.held.plan(g.ttl, began)
		told = &Notice{Text: "logged in to Vault", TTL: g.ttl}
		k.failures, k.next, k.problem = 0, time.Time{}, nil
		k.fresh()
	}
	f.token, f.err = g.token, err
	k.flight = nil
	k.wake()
	k.mu.Unlock()
	if told != nil {
		k.notify(*told) // before anybody goes on, so that the log is in order
	}
	close(f.done)
}

// failed takes up that a login failed. The caller holds mu.
func (k *keeper) failed(problem *fault.Error) *Notice {
	news := k.problem == nil || k.problem.Msg != problem.Msg
	k.failures++
	k.next = time.Now().Add(max(pauseAfter(k.failures, errors.As(problem, new(deniedError))), problem.RetryAfter))
	k.problem = problem
	if !news || k.closed {
		return nil
	}
	n := &Notice{Alarm: true, Text: problem.Msg, Err: problem.Err}
	if k.held.usable(time.Now()) && !k.held.end.IsZero() {
		n.Text += "; the token that it still has serves until its end"
		n.TTL = time.Until(k.held.end).Round(time.Second)
	}
	return n
}

// trouble is why calls may fail soon though they do not yet: the last login
// failed, and the token that is still there ends.
func (k *keeper) trouble() *fault.Error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.problem
}

// wake has the background look what there is to do. The caller holds mu.
func (k *keeper) wake() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// start begins the background.
func (k *keeper) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop != nil || k.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	k.wg.Go(func() { k.run(ctx) })
}

// close ends the background and a login that is under way, and waits for both.
func (k *keeper) close() {
	k.mu.Lock()
	k.closed = true
	if k.stop != nil {
		k.stop()
	}
	if k.flight != nil {
		k.flight.cancel()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

// loggedIn is the token that a login gave, if there is one.
func (k *keeper) loggedIn() secret.Text {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.obtain == nil || !k.held.usable(time.Now()) {
		return secret.Text{}
	}
	return k.held.token
}
