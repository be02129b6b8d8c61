package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"vault-mcp/fault"
	"vault-mcp/redisx"
	"vault-mcp/secret"
)

// SharedOptions say where replicas share their limits.
type SharedOptions struct {
	URL secret.Text // of a Redis: redis:// or rediss://, which is TLS

	// Changed is told when Redis is lost, and nil when it is back, and must not
	// block. nil: nobody is told.
	Changed func(error)
}

const (
	// sharedPatience is how long a call waits for Redis.
	sharedPatience = 100 * time.Millisecond
	// probeEvery is the pause between two looks at a Redis that was lost.
	probeEvery = time.Second
	// sharedConnections bounds the connections to Redis.
	sharedConnections = 64

	// limitKeys is what the names of our keys in Redis begin with; redis_rate puts
	// "rate:" before it.
	limitKeys = "vault-mcp:limit:"
)

// shared are limits that several processes have in common, in Redis.
//
// When a call finds that Redis does not answer, Redis is lost: from then on no
// call asks it, so that each costs nothing, and one goroutine looks now and then
// whether it is back.
type shared struct {
	client  *redis.Client
	limiter *redis_rate.Limiter
	changed func(error)
	lost    atomic.Bool

	ctx    context.Context //nolint:containedctx // its end ends the goroutine
	cancel context.CancelFunc
	mu     sync.Mutex // guards what follows, and changes of lost
	closed bool
	watch  sync.WaitGroup
}

// NewSharedLimiter makes a Limiter whose limits are shared by all processes that
// use the same Redis. Each process holds every caller to its own buckets besides:
// so while Redis is lost, a caller gets at most its limit from each process, and
// a Redis that has forgotten everything gives it no more. A Redis that is not
// there is no error; it waits for it a second at most.
func NewSharedLimiter(ctx context.Context, opt SharedOptions) (*Limiter, error) {
	settings, err := redisx.Options(opt.URL)
	if err != nil {
		return nil, err
	}
	settings.PoolTimeout, settings.PoolSize = sharedPatience, sharedConnections
	// One more try, for a connection that had been closed while nobody used it.
	settings.MaxRetries, settings.MinRetryBackoff, settings.MaxRetryBackoff = 1, time.Millisecond, 2*time.Millisecond
	s := &shared{client: redis.NewClient(settings), changed: opt.Changed}
	s.limiter = redis_rate.NewLimiter(s.client)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.probe(ctx); err != nil {
		s.lose(err)
	}
	l := NewLimiter()
	l.shared = s
	return l, nil
}

// take takes n calls out of the bucket that all processes share; ok is false
// where Redis did not say.
func (s *shared) take(ctx context.Context, id string, limit Limit, burst, n int) (d Decision, ok bool) {
	if s.lost.Load() {
		return Decision{}, false
	}
	// A caller that leaves is no sign that Redis is lost, and is counted.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sharedPatience)
	defer cancel()
	sum := sha256.Sum256([]byte(id))
	d, err := s.ask(ctx, hex.EncodeToString(sum[:16]), redis_rate.Limit{Rate: limit.Requests, Period: limit.Window, Burst: burst}, n)
	if err != nil {
		s.lose(err)
		return Decision{}, false
	}
	return d, true
}

// ask asks Redis. The library takes the shape of an answer for granted.
func (s *shared) ask(ctx context.Context, key string, limit redis_rate.Limit, n int) (d Decision, err error) {
	defer func() {
		if recover() != nil {
			d, err = Decision{}, redisx.ErrBadAnswer
		}
	}()
	res, err := s.limiter.AllowN(ctx, limitKeys+key, limit, n)
	switch {
	case err != nil:
		return Decision{}, err
	case res.Allowed >= n:
		return Decision{OK: true}, nil
	}
	// It counts in microseconds: never told too little.
	return Decision{RetryAfter: max(res.RetryAfter, 0).Truncate(time.Millisecond) + time.Millisecond}, nil
}

// probe does what a call does, with a limit that nobody reaches.
func (s *shared) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisx.Patience)
	defer cancel()
	_, err := s.ask(ctx, "probe", redis_rate.PerSecond(1_000_000), 1)
	return err
}

// lose notes that Redis does not answer, and starts to look for it.
func (s *shared) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.lost.Load() {
		return
	}
	s.lost.Store(true)
	s.tell(lostRedis(err))
	s.watch.Go(s.await)
}

// await looks for Redis until it is back.
func (s *shared) await() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		if s.probe(s.ctx) != nil {
			continue
		}
		s.mu.Lock()
		s.lost.Store(false)
		s.tell(nil)
		s.mu.Unlock()
		return
	}
}

func (s *shared) tell(err error) {
	if s.changed != nil {
		s.changed(err)
	}
}

// lostRedis is what is said of a Redis that does not answer as it should.
func lostRedis(err error) *fault.Error { return redisx.Lost(err, eachForItself) }

const eachForItself = "each process limits callers for itself until it is back"

// Check reports that the limits are not shared though they should be. Calls are
// served all the same, so whatever it finds is degraded.
func (l *Limiter) Check(ctx context.Context) error {
	s := l.shared
	if s == nil {
		return nil
	}
	if s.lost.Load() {
		return fault.Degraded(fault.New(fault.Unavailable, "Redis does not answer as it should: "+eachForItself))
	}
	err := s.probe(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // who asked has left, which says nothing of Redis
		return fault.Degraded(fault.From(ctx.Err()))
	}
	s.lose(err)
	return fault.Degraded(lostRedis(err))
}

// Close ends what a shared Limiter has under way. A Limiter that is not shared
// has nothing.
func (l *Limiter) Close() {
	s := l.shared
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.watch.Wait()
	_ = s.client.Close() // its connections end in any case
}
