package auth

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// buckets is a bounded table of token buckets.
//
// A bucket is one number: the time at which it will be full again (the generic
// cell rate algorithm, which decides exactly as a token bucket does). To take n
// tokens moves that time n intervals on; it may lie a burst's worth ahead of
// now and no further. A bucket whose time has passed is full, and to forget it
// loses nothing. Nothing but the monotonic clock is read, so that a jump of the
// wall clock changes no answer, and a call that read the clock a little before
// another gets no more for it.
//
// When the table is full, a new caller takes the place of a full bucket, found
// by a hand that goes a few places on with each newcomer. Where it finds none,
// the caller shares its shard's overflow bucket. Every new bucket begins where
// the overflow bucket stands, so that nobody gains by moving from the one to
// the other.
type buckets struct {
	clock  func() time.Duration // monotonic, from any beginning
	seeds  [2]maphash.Seed
	shards [shards]shard
	room   int // buckets in each shard
}

const (
	shards   = 64
	handStep = 8 // places that a newcomer looks at

	// defaultBuckets is room for a hundred thousand callers who have called so
	// lately that their buckets are not full; about 8 MB.
	defaultBuckets = 100_000

	// farthest is how far ahead a bucket's time may lie at most: 73 years, which
	// keeps the arithmetic within 64 bits.
	farthest = time.Duration(math.MaxInt64 / 4)
)

// bucketKey stands for a caller: 128 bits of a hash that is seeded anew in each
// process, so that names of any length take 16 bytes, and nobody can choose two
// that meet.
type bucketKey [2]uint64

type shard struct {
	mu       sync.Mutex
	full     map[bucketKey]time.Duration // when each bucket is full again
	places   []bucketKey                 // the keys of full
	hand     int
	overflow time.Duration
	_        [64]byte // keep neighbours off this cache line
}

func newBuckets(room int, clock func() time.Duration) *buckets {
	if clock == nil {
		start := time.Now()
		clock = func() time.Duration { return time.Since(start) }
	}
	b := &buckets{clock: clock, room: max(1, (room+shards-1)/shards)}
	b.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].full = make(map[bucketKey]time.Duration)
	}
	return b
}

func (b *buckets) key(name string) bucketKey {
	return bucketKey{maphash.String(b.seeds[0], name), maphash.String(b.seeds[1], name)}
}

func (b *buckets) shard(key bucketKey) *shard { return &b.shards[key[0]%shards] }

// rate is a Limit in terms of time.
type rate struct {
	interval time.Duration // in which one token comes back
	ahead    time.Duration // how far ahead a bucket's time may lie: burst intervals
	burst    int
}

// newRate rounds the interval up: never more than was allowed.
func newRate(l Limit) rate {
	burst := l.Burst
	if burst == 0 {
		burst = l.Requests
	}
	interval := (l.Window-1)/time.Duration(l.Requests) + 1
	return rate{interval: interval, ahead: times(interval, burst), burst: burst}
}

func times(interval time.Duration, n int) time.Duration {
	if interval > farthest/time.Duration(n) {
		return farthest
	}
	return interval * time.Duration(n)
}

// take takes n tokens, or none if there are fewer. n is at least 1.
func (b *buckets) take(key bucketKey, r rate, n int) Decision {
	if n > r.burst {
		return Decision{} // waiting would not help
	}
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := b.clock()
	full, own := s.full[key]
	if !own {
		full, own = s.overflow, s.makeRoom(now, b.room)
		if own {
			s.places[s.hand] = key
			s.full[key] = full
			s.hand = (s.hand + 1) % len(s.places)
		}
	}
	next := max(full, now) + times(r.interval, n)
	if wait := next - now - r.ahead; wait > 0 {
		return Decision{RetryAfter: wait}
	}
	if own {
		s.full[key] = next
	} else {
		s.overflow = next
	}
	return Decision{OK: true}
}

// giveBack undoes a take that came to nothing.
func (b *buckets) giveBack(key bucketKey, r rate, n int) {
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if full, own := s.full[key]; own {
		s.full[key] = full - times(r.interval, n)
		return
	}
	s.overflow -= times(r.interval, n)
}

// makeRoom leaves a free place at the hand, if one can be had.
func (s *shard) makeRoom(now time.Duration, room int) bool {
	if len(s.places) < room {
		s.hand = len(s.places)
		s.places = append(s.places, bucketKey{})
		return true
	}
	for range min(handStep, room) {
		if old := s.places[s.hand]; s.full[old] <= now {
			delete(s.full, old)
			return true
		}
		s.hand = (s.hand + 1) % len(s.places)
	}
	return false
}

// empty reports whether a caller's own bucket has no token left. Who has no
// bucket of its own has done nothing yet.
func (b *buckets) empty(key bucketKey, r rate) bool {
	s := b.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	full, own := s.full[key]
	now := b.clock()
	return own && max(full, now)+r.interval-now > r.ahead
}
