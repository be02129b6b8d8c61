package server

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// cutOffs counts the clients that did not take in time what was sent to them.
type cutOffs struct {
	log *zap.Logger
	say *rate.Limiter

	mu    sync.Mutex
	count int // since it was last logged
}

func newCutOffs(log *zap.Logger) *cutOffs {
	return &cutOffs{log: log, say: rate.NewLimiter(rate.Every(time.Minute), 1)}
}

func (c *cutOffs) add(remote, requestID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count++; c.say.Allow() {
		c.log.Warn("clients were cut off that took nothing", zap.Int("cut_off", c.count),
			zap.String("last_from", remote), zap.String("last_request_id", requestID))
		c.count = 0
	}
}
