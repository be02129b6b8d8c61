package auth

import (
	"context"
	"time"
)

// Decision is a limiter's answer.
type Decision struct {
	OK         bool
	RetryAfter time.Duration // how long to wait, where it is not OK; 0: waiting does not help
}

// Limiter holds callers to their limits, in memory and in bounded space: see
// buckets. Each process counts for itself.
type Limiter struct{ buckets *buckets }

// NewLimiter makes a Limiter.
func NewLimiter() *Limiter { return &Limiter{newBuckets(defaultBuckets, nil)} }

// Allow takes n calls of a principal out of its bucket, all or none. More calls
// at once than the burst are never OK. The zero Limit does not limit; one that
// is not usable allows nothing.
func (l *Limiter) Allow(_ context.Context, id string, limit Limit, n int) Decision {
	switch {
	case limit == Limit{}:
		return Decision{OK: true}
	case !limit.usable():
		return Decision{}
	}
	return l.buckets.take(l.buckets.key(id), newRate(limit), max(n, 1))
}

func (l Limit) usable() bool { return l.Requests > 0 && l.Window > 0 && l.Burst >= 0 }
