package gate

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

func requireEmpty(t *testing.T, g *Gate) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	require.Empty(t, g.owners)
	require.Zero(t, g.all)
	require.True(t, g.slots.TryAcquire(int64(g.most/2)), "a slot is still taken")
	g.slots.Release(int64(g.most / 2))
}

func TestGateBoundsEachOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(8)
		var leaves []func()
		for range 4 {
			leave, err := g.Enter(t.Context(), "slow")
			require.NoError(t, err)
			leaves = append(leaves, leave)
		}
		start := time.Now()
		_, err := g.Enter(t.Context(), "slow")
		require.ErrorIs(t, err, fault.RateLimited)
		require.Equal(t, time.Second, fault.From(err).RetryAfter)
		for range 4 { // the others are not affected
			leave, err := g.Enter(t.Context(), "quick")
			require.NoError(t, err)
			leaves = append(leaves, leave)
		}
		require.Zero(t, time.Since(start), "nobody waited")
		for _, leave := range leaves {
			leave()
		}
		requireEmpty(t, g)
	})
}

func TestGateQueueIsShortAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(2)
		var held []func()
		for _, owner := range []string{"a", "b"} {
			leave, err := g.Enter(t.Context(), owner)
			require.NoError(t, err)
			held = append(held, leave)
		}
		start := time.Now()
		results := make(chan error, 2)
		for _, owner := range []string{"c", "d"} {
			go func() {
				leave, err := g.Enter(t.Context(), owner)
				if err == nil {
					leave()
				}
				results <- err
			}()
		}
		synctest.Wait()
		_, err := g.Enter(t.Context(), "e")
		require.ErrorIs(t, err, fault.RateLimited, "the queue is full")
		require.Zero(t, time.Since(start))
		for range 2 {
			require.ErrorIs(t, <-results, fault.RateLimited)
		}
		require.Equal(t, longestQueue, time.Since(start))

		// Who waits gets the slot that becomes free.
		go func() {
			leave, err := g.Enter(t.Context(), "f")
			if err == nil {
				leave()
			}
			results <- err
		}()
		synctest.Wait()
		held[0]()
		require.NoError(t, <-results)
		held[1]()
		requireEmpty(t, g)
	})
}

func TestGateForgetsWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1)
		leave, err := g.Enter(t.Context(), "a")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() {
			_, err := g.Enter(ctx, "b")
			result <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-result, context.Canceled)
		_, err = g.Enter(ctx, "c")
		require.ErrorIs(t, err, context.Canceled, "a call that is over takes no slot")
		leave()
		requireEmpty(t, g)
	})
}

// However calls come, wait, give up and end, no more are in flight than the
// bound, and nothing is left behind.
func TestGateUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(4)
		var mu sync.Mutex
		var wg sync.WaitGroup
		inFlight, most, done := 0, 0, 0
		owners := map[string]int{}
		for i := range 64 {
			owner := string(rune('a' + i%5))
			wg.Go(func() {
				for turn := range 8 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*7+turn)%9)*time.Millisecond)
					leave, err := g.Enter(ctx, owner)
					if err == nil {
						mu.Lock()
						inFlight++
						owners[owner]++
						done++
						most = max(most, inFlight)
						tooMany := owners[owner] > 2
						mu.Unlock()
						if tooMany {
							t.Error("one principal has more than half")
						}
						time.Sleep(time.Duration(1+i%3) * time.Millisecond)
						mu.Lock()
						inFlight--
						owners[owner]--
						mu.Unlock()
						leave()
					} else {
						time.Sleep(time.Millisecond)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		require.Equal(t, 4, most)
		require.Positive(t, done)
		requireEmpty(t, g)
	})
}
