package events_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
	"vault-mcp/fault"
)

func handlesAt(t testing.TB, r *devstack.Redis) *events.Handles {
	t.Helper()
	h, err := events.NewHandles(r.URL())
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

// What one replica keeps, all have, until it expires.
func TestHandlesAreShared(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, b := handlesAt(t, r), handlesAt(t, r)
	record := []byte("\x00\xff\r\nsealed")
	require.NoError(t, a.Put(t.Context(), "one", "dev", record, time.Now().Add(time.Minute)))
	got, err := b.Get(t.Context(), "one")
	require.NoError(t, err)
	require.Equal(t, record, got)
	got, err = b.Get(t.Context(), "two")
	require.NoError(t, err)
	require.Empty(t, got)

	require.NoError(t, a.Put(t.Context(), "brief", "dev", record, time.Now().Add(200*time.Millisecond)))
	inTime(t, "it has expired", func() bool {
		got, err := b.Get(t.Context(), "brief")
		require.NoError(t, err)
		return got == nil
	})
}

// Each owner has so many and no more, at all replicas together; one that expires
// makes room.
func TestHandlesAreBounded(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, b := handlesAt(t, r), handlesAt(t, r)
	put := func(h *events.Handles, owner, name string, life time.Duration) error {
		return h.Put(t.Context(), owner+name, owner, []byte("x"), time.Now().Add(life))
	}
	for i := range 63 {
		require.NoError(t, put(a, "dev", strconv.Itoa(i), time.Minute))
	}
	require.NoError(t, put(b, "dev", "brief", 300*time.Millisecond))
	for _, h := range []*events.Handles{a, b} {
		err := put(h, "dev", "more", time.Minute)
		require.ErrorIs(t, err, fault.RateLimited)
		require.NotZero(t, fault.From(err).RetryAfter)
	}
	require.NoError(t, put(b, "dev-bot", "one", time.Minute))
	inTime(t, "there is room", func() bool { return put(b, "dev", "more", time.Minute) == nil })
	for i := range 4096 {
		err := put(a, "p"+strconv.Itoa(i/50), strconv.Itoa(i), time.Minute)
		if err != nil {
			require.ErrorIs(t, err, fault.Unavailable)
			require.Equal(t, 4096-65, i)
			return
		}
	}
	t.Fatal("there is no bound on all of them")
}

// Without Redis, nothing is made or opened, and it is said why.
func TestHandlesWithoutRedis(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	h := handlesAt(t, r)
	require.NoError(t, h.Put(t.Context(), "one", "dev", []byte("x"), time.Now().Add(time.Minute)))
	r.Kill()
	_, err := h.Get(t.Context(), "one")
	require.ErrorIs(t, err, fault.Unavailable)
	require.Contains(t, err.Error(), "Redis cannot be reached")
	require.ErrorIs(t, h.Put(t.Context(), "two", "dev", []byte("x"), time.Now().Add(time.Minute)), fault.Unavailable)
	require.NoError(t, r.Restart(t.Context()))
	inTime(t, "it is back", func() bool {
		_, err := h.Get(t.Context(), "one")
		return err == nil
	})
}
