package auth

import (
	"context"
	"sync"
	"time"

	budget "golang.org/x/time/rate"

	"vault-mcp/fault"
)

// The schedule of fetching keys.
const (
	fetchTimeout  = 5 * time.Second
	fetchRetry    = 10 * time.Second // after a fetch that failed
	unknownEvery  = 10 * time.Second // between fetches for keys that are not known
	unknownAtOnce = 3                // of those
	maxStale      = 24 * time.Hour   // how long the last good keys are in force
)

// remoteKeys are the keys of an issuer at a URL. They are fetched when they are
// wanted and too old; no call waits for that while there are keys that are good
// enough. A fetch belongs to no caller: it goes on when the one that began it
// leaves, there is one at a time, and close ends it.
//
// A token that names an unknown key makes a fetch due, for the issuer may have a
// new one. Such fetches have a budget that all tokens share: a flood of made-up
// names costs the issuer no more than that, and does not keep a good new key out,
// since each fetch that the flood causes brings it in.
//
// A fetch that fails leaves the last good keys in force for maxStale; then there
// are none.
type remoteKeys struct {
	fetch func(context.Context) (*jwks, error)
	every time.Duration // how old keys may be

	ctx    context.Context //nolint:containedctx // of all fetches: its end ends them
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	set     *jwks         // nil: none
	good    time.Time     // when the fetch of set began
	tried   time.Time     // when the last fetch began
	err     error         // of the last fetch
	flight  chan struct{} // closed at the end of the fetch under way; nil: none is
	unknown *budget.Limiter
}

func newRemoteKeys(every time.Duration, fetch func(context.Context) (*jwks, error)) *remoteKeys {
	r := &remoteKeys{fetch: fetch, every: every, unknown: budget.NewLimiter(budget.Every(unknownEvery), unknownAtOnce)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// close ends the fetch under way, and all fetching.
func (r *remoteKeys) close() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.wg.Wait()
}

// current are the keys in force.
func (r *remoteKeys) current(ctx context.Context) (*jwks, error) {
	r.mu.Lock()
	age := time.Since(r.good)
	if r.set != nil && age >= maxStale {
		r.set = nil
	}
	if r.set != nil && age < r.every {
		defer r.mu.Unlock()
		return r.set, nil
	}
	if r.flight == nil && (r.err == nil || time.Since(r.tried) >= min(fetchRetry, r.every)) {
		r.start() //nolint:contextcheck // a fetch belongs to no caller
	}
	// Keys that nobody wanted for long are not good enough: one may have been
	// taken back since. Where the issuer cannot be reached they have to be.
	if r.set != nil && (age < 2*r.every || r.err != nil) || r.flight == nil {
		defer r.mu.Unlock()
		return r.inForce()
	}
	return r.await(ctx)
}

// newer are the keys after those, which lacked one; the same if there are none.
func (r *remoteKeys) newer(ctx context.Context, than *jwks) (*jwks, error) {
	r.mu.Lock()
	if r.set == than && r.flight == nil && r.unknown.Allow() {
		r.start() //nolint:contextcheck // a fetch belongs to no caller
	}
	if r.set != than || r.flight == nil {
		defer r.mu.Unlock()
		return r.inForce()
	}
	return r.await(ctx)
}

// failure says that there are no keys.
func (r *remoteKeys) failure(ctx context.Context) error {
	_, err := r.current(ctx)
	return err
}

// start begins a fetch. The caller holds mu.
func (r *remoteKeys) start() {
	if r.ctx.Err() != nil {
		return
	}
	done, began := make(chan struct{}), time.Now()
	r.flight, r.tried = done, began
	r.wg.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
		defer cancel()
		set, err := r.fetch(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err = err; err == nil {
			r.set, r.good = set, began
		}
		r.flight = nil
		close(done)
	})
}

// await waits for the fetch under way. The caller holds mu, which await gives
// back.
func (r *remoteKeys) await(ctx context.Context) (*jwks, error) {
	flight := r.flight
	r.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
		return nil, fault.From(ctx.Err())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inForce()
}

// inForce are the keys that there are. The caller holds mu.
func (r *remoteKeys) inForce() (*jwks, error) {
	if r.set != nil {
		return r.set, nil
	}
	err := fault.Wrap(fault.Unavailable, "the keys of the JWT's issuer cannot be had at present", r.err)
	if r.err != nil {
		err.Msg += ": " + fault.From(r.err).Msg
	}
	err.RetryAfter = fetchRetry
	return nil, err
}
