package auth_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
)

func TestAddressFailures(t *testing.T) {
	c := &clock{}
	l := auth.NewTestAddressLimiter(1000, c.now)
	const addr, neighbour = "192.0.2.1", "192.0.2.2"
	for range 10 {
		require.True(t, l.Allow(addr))
		l.Failed(addr)
	}
	require.False(t, l.Allow(addr), "after ten failures in a row")
	require.True(t, l.Allow(neighbour))
	for range 100 {
		l.Failed(addr)
	}
	c.move(6*time.Second - 1)
	require.False(t, l.Allow(addr))
	c.move(1)
	require.True(t, l.Allow(addr), "one is forgiven; more failures while it was refused cost no more")
	l.Failed(addr)
	require.False(t, l.Allow(addr))
	c.move(time.Minute)
	for range 10 {
		require.True(t, l.Allow(addr))
		l.Failed(addr)
	}
	require.False(t, l.Allow(addr))
}

// A guesser who goes on without pause gets ten tries and one in six seconds.
func TestGuessingIsSlow(t *testing.T) {
	c := &clock{}
	l := auth.NewTestAddressLimiter(1000, c.now)
	tries := 0
	for range 3600 * 10 { // an hour of tenths of seconds
		if l.Allow("198.51.100.7") {
			l.Failed("198.51.100.7")
			tries++
		}
		c.move(100 * time.Millisecond)
	}
	require.LessOrEqual(t, tries, 10+600)
	require.Greater(t, tries, 600)
}

// A hub brings two thousand requests a second through one address.
func TestAddressRequests(t *testing.T) {
	c := &clock{}
	l := auth.NewTestAddressLimiter(1000, c.now)
	rush := func() (got int) {
		for range 10_000 {
			if l.Allow("192.0.2.1") {
				got++
			}
		}
		return got
	}
	require.Equal(t, 4000, rush())
	c.move(time.Second)
	require.Equal(t, 2000, rush())
	require.True(t, l.Allow("192.0.2.2"))
}

func TestSameNetwork(t *testing.T) {
	for _, pair := range []struct {
		one, other string
		same       bool
	}{
		{"192.0.2.1", "192.0.2.1:4711", true},
		{"192.0.2.1:1", "192.0.2.1:2", true},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "[::ffff:192.0.2.1]:80", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "[2001:db8:0:0:ffff::1]:80", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
		{"::1", "127.0.0.1", false},
		{"", "", true},
		{"@", "@", true},
		{"@", "/run/socket", false},
		{"192.0.2.1", "192.0.2.001", false}, // no address, so a name of its own
	} {
		c := &clock{}
		l := auth.NewTestAddressLimiter(1000, c.now)
		for range 10 {
			l.Failed(pair.one)
		}
		require.False(t, l.Allow(pair.one))
		require.Equal(t, !pair.same, l.Allow(pair.other), "%q %q", pair.one, pair.other)
	}
}

// A crowd of failing addresses takes bounded space, and does not lock out
// addresses that never failed.
func TestManyAddresses(t *testing.T) {
	c := &clock{}
	l := auth.NewTestAddressLimiter(640, c.now)
	for i := range 100_000 {
		l.Failed("10." + strconv.Itoa(i>>16) + "." + strconv.Itoa(i>>8&255) + "." + strconv.Itoa(i&255))
	}
	for i := range 250 {
		require.True(t, l.Allow("192.0.2."+strconv.Itoa(i)))
	}
	require.LessOrEqual(t, l.Buckets(), 2*640)
}

func TestAddressesAtOnce(t *testing.T) {
	c := &clock{}
	l := auth.NewTestAddressLimiter(1000, c.now)
	var got atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 100 {
				if l.Allow("192.0.2.1") {
					got.Add(1)
				}
				l.Failed("192.0.2.9")
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 4000, got.Load())
	require.False(t, l.Allow("192.0.2.9"))
}
