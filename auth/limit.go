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
// buckets. Each process counts for itself, unless it was made to share: see
// NewSharedLimiter.
type Limiter struct {
	buckets *buckets
	shared  *shared // nil: not shared
}

// NewLimiter makes a Limiter.
func NewLimiter() *Limiter { return &Limiter{buckets: newBuckets(defaultBuckets, nil)} }

// Allow takes n calls of a principal out of its bucket, all or none. More calls
// at once than the burst are never OK. The zero Limit does not limit; one that
// is not usable allows nothing.
func (l *Limiter) Allow(ctx context.Context, id string, limit Limit, n int) Decision {
	switch {
	case limit == Limit{}:
		return Decision{OK: true}
	case !limit.usable():
		return Decision{}
	}
	key, r := l.buckets.key(id), newRate(limit)
	n = max(n, 1)
	own := l.buckets.take(key, r, n)
	if !own.OK || l.shared == nil {
		return own
	}
	all, ok := l.shared.take(ctx, id, limit, r.burst, n)
	if !ok {
		return own
	}
	if !all.OK {
		l.buckets.giveBack(key, r, n)
	}
	return all
}

func (l Limit) usable() bool { return l.Requests > 0 && l.Window > 0 && l.Burst >= 0 }
