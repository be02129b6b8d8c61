package server

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// cutOffs counts the clients that did not take in time what was sent to them, on
// any stream or answer. There may be many, so the log tells of them now and then.
type cutOffs struct {
	log *zap.Logger
	say *rate.Limiter

	mu   sync.Mutex
	all  int
	told int // of them, in the log
}

func newCutOffs(log *zap.Logger) *cutOffs {
	return &cutOffs{log: log, say: rate.NewLimiter(rate.Every(time.Minute), 1)}
}

func (c *cutOffs) add(remote, requestID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all++; c.say.Allow() {
		c.log.Warn("clients were cut off that took nothing", zap.Int("cut_off", c.all-c.told),
			zap.String("last_from", remote), zap.String("last_request_id", requestID))
		c.told = c.all
	}
}

// CutOff is how many clients were cut off so far because they took nothing.
func (s *Server) CutOff() int {
	s.cutOffs.mu.Lock()
	defer s.cutOffs.mu.Unlock()
	return s.cutOffs.all
}
