//go:build unix

package auth_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
)

// A Redis that takes connections and never answers holds up one call for a short
// while, and no other after it; nor does a caller that has left take it for lost.
func TestRedisThatHangs(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	l, told := replica(t, r.URL())
	other, otherTold := replica(t, r.URL())
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.True(t, l.Allow(gone, "x", slow, 1).OK)
	require.True(t, fault.IsDegraded(l.Check(gone)))
	require.Empty(t, told.list(), "the caller has left, and Redis is there")

	require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(r.Pid(), syscall.SIGCONT) })
	start := time.Now()
	require.True(t, l.Allow(t.Context(), "x", slow, 1).OK)
	waited := time.Since(start)
	require.GreaterOrEqual(t, waited, auth.SharedPatience)
	require.Len(t, told.list(), 1)
	require.Contains(t, told.list()[0], "does not answer in time")

	// Readiness finds out too, while who probes it still waits.
	start = time.Now()
	err := other.Check(t.Context())
	require.Less(t, time.Since(start), 2500*time.Millisecond)
	require.ErrorIs(t, err, fault.Unavailable)
	require.True(t, fault.IsDegraded(err), "the server is ready all the same")
	require.Len(t, otherTold.list(), 1)

	// 1000 calls, of which a single one that waited again would take as long.
	start = time.Now()
	for range 1000 {
		l.Allow(t.Context(), "y", auth.Limit{Requests: 1_000_000, Window: time.Second}, 1)
	}
	require.Less(t, time.Since(start), 1000*auth.SharedPatience/10, "calls go on waiting for it")
	require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGCONT))
	inTime(t, "Redis goes on", func() bool { return len(told.list()) == 2 })
	require.NoError(t, l.Check(t.Context()))
}
