package auth_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-mcp/auth"
)

// clock is a clock that stands until it is moved.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Duration             { return time.Duration(c.at.Load()) }
func (c *clock) move(d time.Duration)           { c.at.Add(int64(d)) }
func (c *clock) limiter(room int) *auth.Limiter { return auth.NewTestLimiter(room, c.now) }

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, limit := auth.NewLimiter(), auth.Limit{Requests: 60, Window: time.Minute, Burst: 3}
		take := func(id string, n int) auth.Decision { return l.Allow(t.Context(), id, limit, n) }
		for range 3 {
			require.Equal(t, auth.Decision{OK: true}, take("a", 1))
		}
		require.Equal(t, auth.Decision{RetryAfter: time.Second}, take("a", 1))
		require.Equal(t, auth.Decision{RetryAfter: 3 * time.Second}, take("a", 3))
		require.True(t, take("b", 3).OK, "another has its own")

		time.Sleep(time.Second - 1)
		require.Equal(t, auth.Decision{RetryAfter: 1}, take("a", 1), "a refusal took nothing")
		time.Sleep(time.Nanosecond)
		require.True(t, take("a", 1).OK, "after the time that it was told")
		require.False(t, take("a", 1).OK)

		time.Sleep(time.Hour)
		require.Equal(t, auth.Decision{}, take("a", 4), "more than the burst is never had, however long one waits")
		require.True(t, take("a", 3).OK)
		require.False(t, take("a", 1).OK)
	})
}

func TestLimitEdges(t *testing.T) {
	c := &clock{}
	l := c.limiter(100)
	allow := func(limit auth.Limit, n int) bool {
		return l.Allow(t.Context(), fmt.Sprint(limit), limit, n).OK
	}
	require.True(t, allow(auth.Limit{}, math.MaxInt), "the zero limit does not limit")
	require.False(t, allow(auth.Limit{Requests: 1}, 1))
	require.False(t, allow(auth.Limit{Window: time.Second}, 1))
	require.False(t, allow(auth.Limit{Requests: -1, Window: time.Second}, 1))
	require.False(t, allow(auth.Limit{Requests: 1, Window: time.Second, Burst: -1}, 1))

	five := auth.Limit{Requests: 5, Window: time.Second}
	require.True(t, allow(five, 5), "without a burst it is the requests")
	require.False(t, allow(five, 1))
	require.False(t, allow(auth.Limit{Requests: 5, Window: time.Second, Burst: 2}, 3))

	once := auth.Limit{Requests: 1, Window: time.Second, Burst: 1}
	require.True(t, allow(once, 0), "none counts as one")
	require.False(t, allow(once, -5))

	// As far as the settings go: a burst that takes longer than time has bits.
	far := auth.Limit{Requests: 1, Window: 24 * time.Hour, Burst: 1_000_000}
	require.True(t, allow(far, 1_000_000))
	require.False(t, allow(far, 1))
	longest := auth.Limit{Requests: 1, Window: math.MaxInt64, Burst: math.MaxInt}
	require.True(t, allow(longest, 1))
	require.False(t, allow(longest, 1))
}

// A limit that changes counts at once, for what was taken under another too.
func TestLimitChanges(t *testing.T) {
	c := &clock{}
	l := c.limiter(100)
	wide, narrow := auth.Limit{Requests: 10, Window: 10 * time.Second}, auth.Limit{Requests: 1, Window: time.Second}
	require.True(t, l.Allow(t.Context(), "a", wide, 10).OK)
	require.False(t, l.Allow(t.Context(), "a", narrow, 1).OK)
	c.move(10 * time.Second)
	require.True(t, l.Allow(t.Context(), "a", narrow, 1).OK)
}

// Whatever comes when, in any stretch of time a caller gets no more than the
// burst and what came back in that stretch; also when the table is so small
// that callers push one another out, and share the overflow.
func TestNeverMoreThanTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{}
		l := c.limiter(1) // one bucket in each shard
		limit := auth.Limit{
			Requests: rapid.IntRange(1, 20).Draw(t, "requests"),
			// Of few nanoseconds too, where rounding is plain to see.
			Window: time.Duration(rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(1, int64(time.Second))).Draw(t, "window")),
			Burst:  rapid.IntRange(1, 10).Draw(t, "burst"),
		}
		callers := rapid.IntRange(1, 400).Draw(t, "callers")
		type taken struct {
			at time.Duration
			n  int
		}
		history := map[string][]taken{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			c.move(time.Duration(rapid.IntRange(0, int(2*limit.Window)/limit.Requests+1).Draw(t, "pause")))
			id := strconv.Itoa(rapid.IntRange(1, callers).Draw(t, "caller"))
			n := rapid.IntRange(1, limit.Burst+1).Draw(t, "n")
			d := l.Allow(t.Context(), id, limit, n)
			require.False(t, d.OK && n > limit.Burst)
			if d.OK {
				history[id] = append(history[id], taken{c.now(), n})
			}
		}
		for id, calls := range history {
			for first := range calls {
				sum := 0
				for _, call := range calls[first:] {
					sum += call.n
					// sum <= burst + rate * time, without a division.
					back := int64(limit.Requests) * int64(call.at-calls[first].at)
					require.LessOrEqual(t, int64(sum-limit.Burst)*int64(limit.Window), back, "caller %s", id)
				}
			}
		}
	})
}

// A caller who waits as told is let through, and one moment sooner is not.
func TestRetryAfterIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{}
		l := c.limiter(1000)
		limit := auth.Limit{
			Requests: rapid.IntRange(1, 1000).Draw(t, "requests"),
			Window:   time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "window")),
			Burst:    rapid.IntRange(1, 50).Draw(t, "burst"),
		}
		for range 20 {
			n := rapid.IntRange(1, limit.Burst).Draw(t, "n")
			d := l.Allow(t.Context(), "a", limit, n)
			if d.OK {
				continue
			}
			require.Positive(t, d.RetryAfter)
			c.move(d.RetryAfter - 1)
			require.False(t, l.Allow(t.Context(), "a", limit, n).OK)
			c.move(1)
			require.True(t, l.Allow(t.Context(), "a", limit, n).OK)
		}
	})
}

// Many at once get exactly the burst while the clock stands, and exactly what
// came back when it has moved.
func TestLimitAtOnce(t *testing.T) {
	c := &clock{}
	l, limit := c.limiter(1000), auth.Limit{Requests: 10, Window: time.Second, Burst: 100}
	rush := func() int64 {
		var got atomic.Int64
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for range 50 {
					if l.Allow(t.Context(), "a", limit, 1).OK {
						got.Add(1)
					}
				}
			})
		}
		all.Wait()
		return got.Load()
	}
	require.EqualValues(t, 100, rush())
	c.move(time.Second)
	require.EqualValues(t, 10, rush())
}

// A million subjects take bounded space, and those who are held back stay so:
// their buckets are not given away.
func TestAMillionSubjects(t *testing.T) {
	c := &clock{}
	const room = 100_000
	l, limit := c.limiter(room), auth.Limit{Requests: 60, Window: time.Minute}
	require.True(t, l.Allow(t.Context(), "greedy", limit, 60).OK)
	before := heap()
	for i := range 1_000_000 {
		if !l.Allow(t.Context(), "mcp/agent-"+strconv.Itoa(i), limit, 1).OK {
			require.FailNow(t, "refused without need", "subject %d", i)
		}
		c.move(20 * time.Microsecond) // so 50 000 in the second after which a bucket is full again
	}
	require.Less(t, heap()-before, int64(24<<20))
	require.LessOrEqual(t, l.Buckets(), room+64)
	require.Greater(t, l.Buckets(), room/2)
	// 20 s have passed, and given back 20.
	require.False(t, l.Allow(t.Context(), "greedy", limit, 21).OK)
	require.True(t, l.Allow(t.Context(), "greedy", limit, 20).OK)
	runtime.KeepAlive(l)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// When no bucket can be given up, newcomers share what one of them would have;
// when the rush is over, each has its own again.
func TestOverflow(t *testing.T) {
	c := &clock{}
	l, limit := c.limiter(64), auth.Limit{Requests: 1, Window: time.Second, Burst: 2}
	for i := 0; l.Buckets() < 64; i++ { // one in each shard, every one in use
		l.Allow(t.Context(), "early-"+strconv.Itoa(i), limit, 2)
	}
	got := 0
	for i := range 10_000 {
		if l.Allow(t.Context(), "late-"+strconv.Itoa(i), limit, 1).OK {
			got++
		}
	}
	require.LessOrEqual(t, got, 2*64, "ten thousand newcomers share one bucket in each shard")
	require.Equal(t, 64, l.Buckets())
	c.move(time.Minute)
	got = 0
	for i := range 1000 {
		if l.Allow(t.Context(), "later-"+strconv.Itoa(i), limit, 1).OK {
			got++
		}
		c.move(time.Second)
	}
	require.Equal(t, 1000, got)
}

func BenchmarkLimiter(b *testing.B) {
	l, limit := auth.NewLimiter(), auth.Limit{Requests: 1_000_000, Window: time.Second}
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = "mcp/agent-" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(ids)); pb.Next(); i++ {
			l.Allow(b.Context(), ids[i%len(ids)], limit, 1)
		}
	})
}
