package vaultx

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

// requireShut asserts that calls fail at once, with the reason and when to try
// again.
func requireShut(t *testing.T, b *breaker, why string) {
	t.Helper()
	_, err := b.enter()
	f := fault.From(err)
	require.ErrorIs(t, err, fault.Unavailable)
	require.Equal(t, why, f.Msg)
	require.Equal(t, breakerPause, f.RetryAfter)
}

func enter(t *testing.T, b *breaker) pass {
	t.Helper()
	p, err := b.enter()
	require.NoError(t, err)
	return p
}

func TestBreakerOpensAtOnceAndClosesOnRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		b.leave(enter(t, &b), gone, msgSealed)
		requireShut(t, &b, msgSealed)
		for range 5 { // one probe in each pause, however many ask
			time.Sleep(breakerPause)
			probe := enter(t, &b)
			requireShut(t, &b, msgSealed)
			b.leave(probe, gone, msgUnreachable)
			requireShut(t, &b, msgUnreachable)
			b.leave(probe, gone, msgSealed)
		}
		time.Sleep(breakerPause)
		b.leave(enter(t, &b), there, "")
		for range 100 {
			b.leave(enter(t, &b), there, "")
		}
	})
}

func TestBreakerLetsOneOfManyThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		b.leave(enter(t, &b), gone, msgSealed)
		time.Sleep(breakerPause)
		var wg sync.WaitGroup
		var mu sync.Mutex
		through := 0
		for range 64 {
			wg.Go(func() {
				if _, err := b.enter(); err == nil {
					mu.Lock()
					through++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, through)
	})
}

// A probe whose caller went away found out nothing: it neither opens the way for
// everyone nor keeps the next one waiting.
func TestBreakerSurvivesACancelledProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		b.leave(enter(t, &b), gone, msgSealed)
		time.Sleep(breakerPause)
		b.leave(enter(t, &b), silent, "")
		next := enter(t, &b)
		requireShut(t, &b, msgSealed)
		b.leave(next, there, "")
		enter(t, &b)
	})
}

// A probe that never comes back (it hangs, or its goroutine panicked) does not
// shut Vault for good.
func TestBreakerSurvivesALostProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		b.leave(enter(t, &b), gone, msgSealed)
		time.Sleep(breakerPause)
		enter(t, &b)
		time.Sleep(probePatience - time.Nanosecond)
		requireShut(t, &b, msgSealed)
		time.Sleep(time.Nanosecond)
		b.leave(enter(t, &b), there, "")
		enter(t, &b)
	})
}

func TestBreakerIgnoresAnswersFromBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		slow, slower, sealedLate := enter(t, &b), enter(t, &b), enter(t, &b)
		b.leave(enter(t, &b), gone, msgSealed)
		b.leave(slow, there, "")
		requireShut(t, &b, msgSealed) // it was answered before the outage
		time.Sleep(breakerPause)
		b.leave(slower, gone, msgUnreachable) // seen before; the next probe is due all the same
		probe := enter(t, &b)
		b.leave(probe, there, "")
		b.leave(sealedLate, gone, msgSealed)
		enter(t, &b) // the recovery stands
	})
}

// One path that always fails does not shut Vault while others work, nor does one
// call with all its attempts; when nothing else is heard for long, it does.
func TestBreakerDoubts(t *testing.T) {
	var b breaker
	for range 100 {
		for range attempts {
			b.leave(enter(t, &b), doubtful, msgFailed)
		}
		b.leave(enter(t, &b), there, "")
	}
	for range maxDoubts - 1 {
		b.leave(enter(t, &b), doubtful, msgFailed)
	}
	b.leave(enter(t, &b), silent, "")
	b.leave(enter(t, &b), doubtful, msgFailed)
	requireShut(t, &b, msgFailed)
	require.Greater(t, maxDoubts, attempts)
}
