//go:build unix

package events_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
)

// A Redis that takes connections and never answers: publishing does not wait for
// it, what is published is heard here, and when it goes on, everybody is told of a
// gap.
func TestRedisThatHangs(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, aTold := replica(t, r, events.Options{})
	b, _ := replica(t, r, events.Options{})
	atA, atB := listen(t, a, everything("mcp/dev")), listen(t, b, everything("mcp/dev"))
	require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(r.Pid(), syscall.SIGCONT) })
	start := time.Now()
	for n := range 1000 {
		a.Publish(change("mcp/dev", "x", n))
	}
	require.Less(t, time.Since(start), time.Second, "it waits for Redis")
	inTime(t, "it is heard here", func() bool { all := atA.take(); return len(all) > 0 && all[len(all)-1] == 999 })
	require.Equal(t, gap, atA.all[0])
	require.Len(t, atA.all, 1001)
	require.Contains(t, aTold.list()[0], "does not answer in time")

	// What waits for an answer does not hold up what is published meanwhile.
	atA.all = nil
	for n := range 20 {
		a.Publish(change("mcp/dev", "x", n))
		atA.hears(t, n)
	}
	require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGCONT))
	atA.hears(t, gap)
	inTime(t, "a gap", func() bool { return len(atB.take()) > 0 })
	require.Equal(t, gap, atB.all[0])
	inTime(t, "it is back", func() bool { return a.Check(t.Context()) == nil && b.Check(t.Context()) == nil })
}

// Closing does not wait for a Redis that hangs.
func TestCloseWhileRedisHangs(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	for _, alone := range []bool{false, true} {
		b, told := replica(t, r, events.Options{})
		require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGSTOP))
		b.Publish(change("mcp/dev", "x", 1))
		if alone {
			inTime(t, "it is lost", func() bool { return len(told.list()) > 0 })
		}
		start := time.Now()
		b.Close()
		require.Less(t, time.Since(start), 5*time.Second)
		require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGCONT))
	}
}
