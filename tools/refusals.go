package tools

import (
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// Refusals are recorded one by one up to these rates per caller; those beyond
// are counted, and the count is recorded with the caller's next one, or within a
// minute. Callers without a credential have a rate in all besides, so that not
// even many addresses fill the disk.
const (
	recordsPerSecond = 5
	recordsBurst     = 300
	maxRefused       = 4096 // callers that are told apart

	strangersPerSecond = 20
	strangersBurst     = 3000

	tellRest = time.Minute
)

// refusals decides which refusals are recorded.
type refusals struct {
	mu        sync.Mutex
	callers   map[refusedKey]*refusedCaller
	shared    map[bool]*refusedCaller // of those for whom there is no room, by whether they are known
	strangers *rate.Limiter
	pruned    time.Time
	lost      int // refusals of forgotten callers that were never recorded
}

// refusedKey is whom a refusal is counted for.
type refusedKey struct {
	id      string // of a principal, or of the network of an address
	known   bool   // a principal
	limited bool   // refused for the limit of the address
}

// refusedCaller is what one caller was refused lately.
type refusedCaller struct {
	limit     *rate.Limiter
	uncounted int // refusals since the last record
}

func newRefusedCaller() *refusedCaller {
	return &refusedCaller{limit: rate.NewLimiter(recordsPerSecond, recordsBurst)}
}

func newRefusals() *refusals {
	return &refusals{
		callers:   make(map[refusedKey]*refusedCaller),
		shared:    map[bool]*refusedCaller{false: newRefusedCaller(), true: newRefusedCaller()},
		strangers: rate.NewLimiter(strangersPerSecond, strangersBurst),
	}
}

// admit reports whether a refusal of a caller is recorded, and how many before
// it were not.
func (r *refusals) admit(key refusedKey) (ok bool, skipped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.caller(key)
	if !c.limit.Allow() || (!key.known && !r.strangers.Allow()) {
		c.uncounted++
		return false, 0
	}
	skipped, c.uncounted = c.uncounted, 0
	return true, skipped
}

func (r *refusals) caller(key refusedKey) *refusedCaller {
	if c := r.callers[key]; c != nil {
		return c
	}
	// Not for each newcomer of a flood: looking through all takes a while.
	if now := time.Now(); len(r.callers) >= maxRefused && now.Sub(r.pruned) >= time.Second {
		r.pruned = now
		r.prune()
	}
	if len(r.callers) >= maxRefused { // all of them busy
		return r.shared[key.known]
	}
	c := newRefusedCaller()
	if key.limited { // one record in a minute says so
		c.limit = rate.NewLimiter(rate.Every(time.Minute), 1)
	}
	r.callers[key] = c
	return c
}

// prune forgets callers whose allowance is whole again.
func (r *refusals) prune() {
	for key, c := range r.callers {
		if c.limit.Tokens() >= float64(c.limit.Burst()) {
			r.lost += c.uncounted
			delete(r.callers, key)
		}
	}
}

// rest is how many refusals were not recorded since it was last asked.
func (r *refusals) rest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.lost
	r.lost = 0
	for _, c := range r.callers {
		n += c.uncounted
		c.uncounted = 0
	}
	for _, c := range r.shared {
		n += c.uncounted
		c.uncounted = 0
	}
	return n
}

// admit reports whether a refusal is to be recorded, and records how many of the
// same caller were not since its last.
func (r *Runner) admit(rej Rejection) bool {
	key := refusedKey{id: auth.Network(rej.Remote), limited: errors.Is(rej.Err, fault.RateLimited)}
	if rej.Principal != nil {
		key = refusedKey{id: rej.Principal.ID(), known: true}
	}
	ok, skipped := r.refusals.admit(key)
	if ok && skipped > 0 {
		rej.Err = fault.Newf(fault.RateLimited, "%d earlier refusals of this caller were not recorded one by one", skipped)
		_ = r.reject(rej) // what the caller is told is the answer to this one
	}
	return ok
}

// WatchRefusals records from time to time how many refusals were only counted,
// and, when the returned function is called, the rest.
func (r *Runner) WatchRefusals(transport string) (end func()) {
	tick, stop, done := time.NewTicker(tellRest), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				r.recordRest(transport)
				return
			case <-tick.C:
				r.recordRest(transport)
			}
		}
	}()
	return func() {
		tick.Stop()
		close(stop)
		<-done
	}
}

func (r *Runner) recordRest(transport string) {
	if n := r.refusals.rest(); n > 0 {
		r.log.Info("refusals not recorded one by one", zap.Int("count", n))
		_ = r.reject(Rejection{ // nobody is left to be told
			Transport: transport, RequestID: NewRequestID(),
			Err: fault.Newf(fault.RateLimited, "%d refusals were not recorded one by one", n),
		})
	}
}
