package auth_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

func TestReplicasShareALimit(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, aTold := replica(t, r.URL())
	b, bTold := replica(t, r.URL())
	ctx := t.Context()
	for i := range 10 {
		require.True(t, []*auth.Limiter{a, b}[i%2].Allow(ctx, "mcp/dev", slow, 1).OK, "call %d", i)
	}
	for _, l := range []*auth.Limiter{a, b} {
		d := l.Allow(ctx, "mcp/dev", slow, 1)
		require.False(t, d.OK)
		require.InDelta(t, time.Hour, d.RetryAfter, float64(time.Minute))
		require.True(t, l.Allow(ctx, "mcp/dev-bot", slow, 5).OK, "another has its own")
		require.Equal(t, auth.Decision{}, l.Allow(ctx, "mcp/other", slow, 11), "more than the burst")
		require.Equal(t, auth.Decision{}, l.Allow(ctx, "mcp/other", auth.Limit{Requests: 1}, 1), "a limit that is none allows nothing")
		require.True(t, l.Allow(ctx, "mcp/dev", auth.Limit{}, 1000).OK, "no limit")
	}
	require.False(t, a.Allow(ctx, "mcp/dev-bot", slow, 1).OK)
	require.Empty(t, append(aTold.list(), bTold.list()...))
	require.NoError(t, a.Check(ctx))
	names, err := r.Command(ctx, "EXISTS rate:vault-mcp:limit:"+idHash("mcp/dev"))
	require.NoError(t, err)
	require.Equal(t, ":1", names, "the key is a hash and has our prefix")
}

// What all have used up is refused without taking from one's own: after the time
// that it was told, a caller is served.
func TestSharedRefusalTakesNothing(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r.URL())
	b, _ := replica(t, r.URL())
	limit := auth.Limit{Requests: 2, Window: time.Second}
	require.True(t, a.Allow(t.Context(), "x", limit, 2).OK)
	var d auth.Decision
	for range 50 {
		if d = b.Allow(t.Context(), "x", limit, 1); d.OK {
			break
		}
	}
	for end := time.Now().Add(10 * time.Second); !d.OK; {
		require.Positive(t, d.RetryAfter)
		require.LessOrEqual(t, d.RetryAfter, time.Second)
		require.True(t, time.Now().Before(end))
		time.Sleep(d.RetryAfter)
		d = b.Allow(t.Context(), "x", limit, 1)
	}
}

// Redis is killed, and comes back empty: callers are limited all the time, by
// each process while it is gone, and the operator is told once each way.
func TestRedisIsLostAndBack(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, aTold := replica(t, r.URL())
	b, bTold := replica(t, r.URL())
	both := []*auth.Limiter{a, b}
	use := func(id string) (n int) {
		for range 15 {
			for _, l := range both {
				if l.Allow(t.Context(), id, slow, 1).OK {
					n++
				}
			}
		}
		return n
	}
	require.Equal(t, 10, use("before"))
	r.Kill()
	require.Equal(t, 20, use("during"), "each process for itself")
	require.Equal(t, 10, use("before"), "and no process forgets what it gave")
	for i, told := range []*changes{aTold, bTold} {
		require.Len(t, told.list(), 1)
		require.Contains(t, told.list()[0], "Redis cannot be reached")
		require.NotContains(t, told.list()[0], r.Password.Reveal())
		err := both[i].Check(t.Context())
		require.ErrorIs(t, err, fault.Unavailable)
		require.True(t, fault.IsDegraded(err), "the server is ready all the same")
	}
	require.NoError(t, r.Restart(t.Context()))
	inTime(t, "Redis is back", func() bool { return len(aTold.list()) == 2 && len(bTold.list()) == 2 })
	require.Equal(t, "back", aTold.list()[1])
	for _, l := range both {
		require.NoError(t, l.Check(t.Context()))
	}
	require.Equal(t, 10, use("after"), "one budget again")
	require.Zero(t, use("during"), "what was given meanwhile is not given again")
}

// A server that is not there at the start is no error, and readiness finds out
// without a call that one is lost.
func TestRedisIsNotThereAtTheStart(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	r.Kill()
	l, told := replica(t, r.URL())
	require.Len(t, told.list(), 1)
	require.True(t, l.Allow(t.Context(), "x", slow, 10).OK)
	require.False(t, l.Allow(t.Context(), "x", slow, 1).OK)
	require.NoError(t, r.Restart(t.Context()))
	inTime(t, "Redis is there", func() bool { return l.Check(t.Context()) == nil })
	r.Kill()
	err := l.Check(t.Context())
	require.ErrorIs(t, err, fault.Unavailable)
	require.True(t, fault.IsDegraded(err), "the server is ready all the same")
	inTime(t, "it was told", func() bool { return len(told.list()) == 3 })
}

// Whatever Redis answers, the reason is told in our words and no call fails for it.
func TestRedisThatIsNone(t *testing.T) {
	good := devstacktest.Redis(t, devstack.RedisOptions{})
	for name, tc := range map[string]struct {
		url  string
		want string
	}{
		"wrong password": {"redis://default:wrong-4711@" + good.Addr(), "refuses what is asked"},
		"no password":    {"redis://" + good.Addr(), "refuses what is asked"},
		"TLS to none":    {"rediss://" + good.Addr(), "does not answer in time"},
		"other numbers":  {"redis://" + says(t, ":1\r\n"), "does not answer as Redis does"},
		"short list":     {"redis://" + says(t, "*1\r\n:1\r\n"), "does not answer as Redis does"},
		"other types":    {"redis://" + says(t, "*4\r\n$1\r\nx\r\n:1\r\n:1\r\n:1\r\n"), "does not answer as Redis does"},
		"an error":       {"redis://" + says(t, "-ERR canary-4711\r\n"), "refuses what is asked"},
		"nonsense":       {"redis://" + says(t, "canary-4711\r\n"), "cannot be reached"},
		"nothing":        {"redis://" + says(t, ""), "does not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, told := replica(t, secret.NewText(tc.url))
			require.Len(t, told.list(), 1)
			require.Contains(t, told.list()[0], tc.want)
			require.NotContains(t, told.list()[0], "4711")
			require.True(t, l.Allow(t.Context(), "x", slow, 10).OK)
			require.False(t, l.Allow(t.Context(), "x", slow, 1).OK)
		})
	}
}

func TestBadRedisURL(t *testing.T) {
	for _, url := range []string{
		"", "canary-4711", "http://canary-4711", "redis://", "redis:///0", "redis://h?skip_verify=true", "rediss://h:6379/0?x=canary-4711",
		"redis://u:canary-4711@h/x", "redis://h/0/1", "redis://h#a", "unix:///canary-4711", "redis://u:canary-4711@h:port",
	} {
		_, err := auth.NewSharedLimiter(t.Context(), auth.SharedOptions{URL: secret.NewText(url)})
		require.ErrorIs(t, err, fault.Invalid, url)
		require.ErrorContains(t, err, "REDIS_URL", url)
		require.NotContains(t, err.Error(), "4711")
	}
}

// Over any number of callers, processes and limits: while Redis lives, all
// processes together give a caller no more than the burst and what has come back
// since; while it is gone, as many times that as there are processes.
func TestSharedBudget(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	replicas := make([]*auth.Limiter, 2)
	told := make([]*changes, 2)
	for i := range replicas {
		replicas[i], told[i] = replica(t, r.URL())
	}
	round := 0
	check := func(times int) func(*rapid.T) {
		return func(rt *rapid.T) {
			round++
			limit := auth.Limit{
				Requests: rapid.IntRange(1, 200).Draw(rt, "requests"), Burst: rapid.IntRange(1, 20).Draw(rt, "burst"), Window: time.Second,
			}
			id, took := fmt.Sprint("caller-", round), rapid.SliceOfN(rapid.IntRange(1, 3), 4, 12).Draw(rt, "calls at once")
			var got atomic.Int64
			start := time.Now()
			var all sync.WaitGroup
			for i, n := range took {
				all.Go(func() {
					for range 10 {
						if replicas[i%2].Allow(t.Context(), id, limit, n).OK {
							got.Add(int64(n))
						}
					}
				})
			}
			all.Wait()
			most := float64(limit.Burst) + float64(limit.Requests)*time.Since(start).Seconds()
			require.LessOrEqual(rt, float64(got.Load()), float64(times)*most+0.001)
		}
	}
	rapid.Check(t, check(1))
	require.Empty(t, append(told[0].list(), told[1].list()...), "Redis was there all the time")
	r.Kill()
	rapid.Check(t, check(2))
}

// A Redis behind TLS whose certificate nobody here vouches for is not trusted
// with anything.
func TestRedisCertificateIsChecked(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{TLS: true})
	_, told := replica(t, r.URL())
	require.Len(t, told.list(), 1)
	require.Contains(t, told.list()[0], "cannot be reached")
}

func TestUnsharedLimiterHasNothingToClose(t *testing.T) {
	l := auth.NewLimiter()
	require.NoError(t, l.Check(t.Context()))
	l.Close()
	require.True(t, l.Allow(t.Context(), "x", slow, 1).OK)
}
