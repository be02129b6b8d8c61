package vaultx

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// step is what a keeper's background does next.
type step int

const (
	nothing step = iota
	logIn
	renew
	lookUp
	warn
)

// run is the background: it does what is due, until ctx ends.
func (k *keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		k.mu.Lock()
		what, at := k.agenda()
		k.mu.Unlock()
		if what == nothing {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return
		case <-k.poke:
			continue // things may have changed
		case <-timer.C:
		}
		k.act(ctx, what)
	}
}

// agenda is what is to be done next, and when. The caller holds mu.
func (k *keeper) agenda() (step, time.Time) {
	h := &k.held
	switch {
	case k.flight != nil:
		return nothing, time.Time{} // its end wakes us
	case h.unknown:
		return lookUp, h.due
	case k.obtain != nil && !h.usable(time.Now()):
		return logIn, k.next
	case h.due.IsZero() || h.refused:
		return nothing, time.Time{}
	case h.renewable:
		return renew, h.due
	case k.obtain == nil:
		return warn, h.due
	}
	if k.next.After(h.due) {
		return logIn, k.next
	}
	return logIn, h.due
}

// act does a step.
func (k *keeper) act(ctx context.Context, what step) {
	switch what {
	case logIn:
		k.mu.Lock()
		_, _ = k.await(ctx) // what comes of it is told and kept
	case renew:
		k.ask(ctx, k.extend, k.extended)
	case lookUp:
		k.ask(ctx, k.look, k.looked)
	case warn:
		k.mu.Lock()
		k.held.due = time.Time{}
		left := time.Until(k.held.end).Round(time.Second)
		k.mu.Unlock()
		k.notify(Notice{Alarm: true, Text: "the Vault token ends soon and cannot be renewed: give another in VAULT_TOKEN", TTL: left})
	case nothing:
	}
}

// ask puts a question about the token in force, and takes up the answer unless
// there is another token by then.
func (k *keeper) ask(ctx context.Context, question func(context.Context, secret.Text) (grant, error),
	answered func(g grant, err error, began time.Time) *Notice,
) {
	k.mu.Lock()
	token := k.held.token
	k.mu.Unlock()
	asking, cancel := context.WithTimeout(ctx, loginPatience)
	defer cancel()
	began := time.Now()
	g, err := question(asking, token)
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	var told *Notice
	if k.held.token == token {
		told = answered(g, err, began)
	}
	k.mu.Unlock()
	if told != nil {
		k.notify(*told)
	}
}

// extended takes up what a renewal came to. The caller holds mu.
func (k *keeper) extended(g grant, err error, began time.Time) *Notice {
	h := &k.held
	if err != nil {
		return k.notExtended(err)
	}
	k.failures = 0
	h.renewable = g.renewable
	if g.ttl == 0 && !h.end.IsZero() { // less than a second is left
		h.renewable, h.due = false, began
	} else {
		h.plan(g.ttl, began)
	}
	if h.renewable || k.obtain != nil {
		return &Notice{Routine: true, Text: "renewed the Vault token", TTL: g.ttl}
	}
	return k.lastWords(g.ttl)
}

// notExtended takes up that a renewal failed: it is tried again where Vault could
// not be asked, and else there must be another token.
func (k *keeper) notExtended(err error) *Notice {
	h := &k.held
	f := fault.From(err)
	var unknown refusedError
	switch {
	case errors.As(err, &unknown):
		h.refused = true
		return &Notice{Alarm: k.obtain == nil, Text: "Vault does not know the token any more", Err: f.Err}
	case !errors.As(err, new(answeredError)) || !final(f):
		k.failures++
		h.due = time.Now().Add(pauseAfter(k.failures, false))
		if k.failures > 1 {
			return nil
		}
		return &Notice{Alarm: true, Text: "cannot renew the Vault token now: " + f.Msg, TTL: time.Until(h.end).Round(time.Second), Err: f.Err}
	}
	k.failures = 0
	h.renewable = false
	if k.obtain == nil {
		n := k.lastWords(time.Until(h.end))
		n.Err = f.Err
		return n
	}
	h.due = time.Now()
	return &Notice{Alarm: true, Text: "Vault does not renew the token: logging in anew", TTL: time.Until(h.end).Round(time.Second), Err: f.Err}
}

// final reports whether the same request would come to the same.
func final(f *fault.Error) bool {
	switch f.Kind {
	case fault.Invalid, fault.Forbidden, fault.NotFound, fault.Internal, fault.Conflict:
		return true
	default:
		return false
	}
}

// looked takes up what is known of a token that was given by hand.
func (k *keeper) looked(g grant, err error, began time.Time) *Notice {
	h := &k.held
	var unknown refusedError
	switch {
	case err == nil:
	case errors.As(err, &unknown), final(fault.From(err)):
		// It is not good, which calls and readiness say, or may not look itself up.
		h.unknown, h.due = false, time.Time{}
		return &Notice{Alarm: true, Text: "what the Vault token is cannot be looked up, so it is not renewed", Err: fault.From(err).Err}
	default:
		k.failures++
		h.due = time.Now().Add(pauseAfter(k.failures, false))
		return nil
	}
	k.failures = 0
	h.unknown, h.first, h.renewable = false, g.ttl, g.renewable
	h.plan(g.ttl, began)
	if g.ttl == 0 || g.renewable {
		return &Notice{Text: "the Vault token is in use", TTL: g.ttl}
	}
	return k.lastWords(g.ttl)
}

// lastWords are about a token that was given by hand and goes to its end. They
// come again shortly before. The caller holds mu.
func (k *keeper) lastWords(left time.Duration) *Notice {
	k.held.renewable = false
	k.held.due = k.held.end.Add(-min(lastWarning, left/3))
	return &Notice{Alarm: true, Text: "the Vault token cannot be renewed beyond its end: give another in VAULT_TOKEN before", TTL: left.Round(time.Second)}
}

const (
	firstPause = 2 * time.Second
	// longestPause is for logins that Vault denies: each may count against us.
	longestPause = 5 * time.Minute
	// outagePause is for a Vault that cannot be asked, which should be used again
	// soon after it is back.
	outagePause = 4 * time.Second
)

// pauseAfter is how long to wait after so many failures in a row: from a second,
// twice as long each time, to a longest.
func pauseAfter(failures int, denied bool) time.Duration {
	longest := outagePause
	if denied {
		longest = longestPause
	}
	pause := min(firstPause<<min(failures-1, 10), longest)
	return pause/2 + rand.N(pause/2) //nolint:gosec // jitter is no secret
}

// jittered is a time a little shorter or as long, so that replicas do not all
// come at once.
func jittered(d time.Duration) time.Duration {
	if d <= 0 {
		return d
	}
	return d - rand.N(d/10+1) //nolint:gosec // jitter is no secret
}
