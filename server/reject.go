package server

import (
	"sync"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// Refusals are recorded one by one up to these rates per caller; a flood
// beyond them is counted, and the count is recorded when the flood is over. So
// a caller without a credential cannot fill the disk.
const (
	recordsPerSecond = 5
	recordsBurst     = 300
	maxRefused       = 4096 // callers that are told apart
)

// refusals decides which refusals are recorded.
type refusals struct {
	mu      sync.Mutex
	callers map[string]*refusedCaller
}

// refusedCaller is what one caller was refused lately.
type refusedCaller struct {
	limit     *rate.Limiter
	uncounted int // refusals since the last record
}

func newRefusals() *refusals { return &refusals{callers: make(map[string]*refusedCaller)} }

// admit reports whether a refusal of a caller is recorded, and how many before
// it were not.
func (r *refusals) admit(key string, every rate.Limit, burst int) (ok bool, skipped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.callers[key]
	if c == nil {
		if len(r.callers) >= maxRefused {
			r.prune()
		}
		if len(r.callers) >= maxRefused { // all of them busy: the rest share one
			key = ""
		}
		if c = r.callers[key]; c == nil {
			c = &refusedCaller{limit: rate.NewLimiter(every, burst)}
			r.callers[key] = c
		}
	}
	if !c.limit.Allow() {
		c.uncounted++
		return false, 0
	}
	skipped, c.uncounted = c.uncounted, 0
	return true, skipped
}

// prune forgets callers that lost nothing by it: their allowance is whole again
// and nothing is left to tell.
func (r *refusals) prune() {
	for key, c := range r.callers {
		if c.uncounted == 0 && c.limit.Tokens() >= float64(c.limit.Burst()) {
			delete(r.callers, key)
		}
	}
}

// rest is how many refusals were never recorded.
func (r *refusals) rest() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.callers {
		n += c.uncounted
		c.uncounted = 0
	}
	return n
}

// reject records that a request was refused before it became a call, and
// returns what its caller is told.
func (s *Server) reject(c *caller, p *auth.Principal, err error) *fault.Error {
	key := c.remote
	if p != nil {
		key = p.ID()
	}
	return s.record(key, recordsPerSecond, recordsBurst, c, p, err)
}

// rejectLimited is reject for a caller whose address is over its limit: one
// record in a minute says so, with the number of those that it stands for.
func (s *Server) rejectLimited(c *caller, err error) *fault.Error {
	return s.record("limit "+c.remote, rate.Limit(1.0/60), 1, c, nil, err)
}

func (s *Server) record(key string, every rate.Limit, burst int, c *caller, p *auth.Principal, err error) *fault.Error {
	ok, skipped := s.refusals.admit(key, every, burst)
	if !ok {
		return fault.From(err)
	}
	rej := tools.Rejection{Principal: p, Transport: c.transport, Remote: c.remote, RequestID: c.requestID, Err: err}
	if skipped > 0 {
		more := rej
		more.Err = fault.Newf(fault.RateLimited, "%d earlier refusals of this caller were not recorded one by one", skipped)
		_ = s.opt.Runner.Reject(more) // what the caller is told is the answer to the next one
	}
	return s.opt.Runner.Reject(rej)
}

// recordRest records, at the end, what was only counted.
func (s *Server) recordRest(transport string) {
	if n := s.refusals.rest(); n > 0 {
		s.log.Info("refusals not recorded one by one", zap.Int("count", n))
		_ = s.opt.Runner.Reject(tools.Rejection{ // nobody is left to be told
			Transport: transport, RequestID: tools.NewRequestID(),
			Err: fault.Newf(fault.RateLimited, "%d refusals were not recorded one by one", n),
		})
	}
}
