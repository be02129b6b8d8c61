package vaultx

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// A month of an hour's tokens, a day at most: at every minute there is a good
// one, renewed at about two thirds, and replaced once a day.
func TestScheduleOfAMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &plannedVault{ttl: time.Hour, most: 24 * time.Hour, takes: 100 * time.Millisecond}
		k := v.keeper(nil)
		defer k.close()
		k.start()
		time.Sleep(time.Second)
		const days = 30
		for range days * 24 * 60 {
			time.Sleep(time.Minute)
			token, err := k.token(t.Context())
			require.NoError(t, err)
			require.True(t, v.good(token), "a token was used beyond its end")
		}
		require.Nil(t, k.trouble())
		logins, renewals := v.counts()
		require.GreaterOrEqual(t, logins, days)
		require.LessOrEqual(t, logins, days+days/10)
		require.GreaterOrEqual(t, renewals, days*24)
		require.LessOrEqual(t, renewals, days*24*17/10, "each lives 36 to 40 minutes before")
		first := v.renewals[0] - v.logins[0]
		require.GreaterOrEqual(t, first, 35*time.Minute)
		require.LessOrEqual(t, first, 41*time.Minute)
	})
}

// A token without a maximum is renewed for ever, and no login follows the first.
func TestPeriodicTokenIsNeverReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &plannedVault{ttl: time.Hour, most: 1 << 62}
		k := v.keeper(nil)
		defer k.close()
		k.start()
		time.Sleep(365 * 24 * time.Hour)
		logins, renewals := v.counts()
		require.Equal(t, 1, logins)
		require.Greater(t, renewals, 365*24)
	})
}

// Logins that Vault denies come ever more rarely, up to five minutes apart, and
// calls between do not add any; what could not be asked is asked again soon.
func TestBackoff(t *testing.T) {
	for name, row := range map[string]struct {
		fails      error
		least, max time.Duration // between two, in the end
		most       int           // in an hour
	}{
		"denied": {denied, 150 * time.Second, 300 * time.Second, 8 + 24},
		"out":    {fault.New(fault.Unavailable, msgSealed), 2 * time.Second, 4 * time.Second, 1800 + 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var told []Notice
			v := &plannedVault{fails: row.fails}
			k := v.keeper(func(n Notice) { told = append(told, n) })
			defer k.close()
			k.start()
			for range 3600 {
				time.Sleep(time.Second)
				_, err := k.token(t.Context())
				require.ErrorIs(t, err, fault.Unavailable)
				require.LessOrEqual(t, fault.From(err).RetryAfter, time.Minute)
			}
			synctest.Wait()
			logins, _ := v.counts()
			require.LessOrEqual(t, logins, row.most, name)
			require.GreaterOrEqual(t, v.logins[1]-v.logins[0], time.Second, name)
			require.LessOrEqual(t, v.logins[1]-v.logins[0], 3*time.Second, name)
			last := v.logins[logins-1] - v.logins[logins-2]
			require.GreaterOrEqual(t, last, row.least, name)
			require.LessOrEqual(t, last, row.max+time.Second, name)
			require.Len(t, told, 1, "the same is told once")
			require.True(t, told[0].Alarm)
		})
	}
}

// Whoever wants a token while a login is under way waits for that one, and who
// does not wait any longer does not end it for the others.
func TestOneLoginAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &plannedVault{ttl: time.Hour, most: time.Hour, takes: 3 * time.Second}
		k := v.keeper(nil)
		defer k.close()
		var wg sync.WaitGroup
		var tokens sync.Map
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wg.Go(func() {
			_, err := k.token(impatient)
			require.ErrorIs(t, err, fault.Timeout)
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				token, err := k.token(t.Context())
				require.NoError(t, err)
				tokens.Store(token, true)
			})
		}
		wg.Wait()
		require.Len(t, v.logins, 1)

		// All are refused at once: again one login.
		refused, err := k.token(t.Context())
		require.NoError(t, err)
		_, was := tokens.Load(refused)
		require.True(t, was)
		for range 50 {
			wg.Go(func() {
				if !k.renewed(t.Context(), refused) {
					t.Error("there is no other token")
				}
			})
		}
		wg.Wait()
		require.Len(t, v.logins, 2)
		require.True(t, k.renewed(t.Context(), refused), "who comes late finds another token")
		require.Len(t, v.logins, 2)
	})
}

// A Vault that refuses each token that it gives is asked for no more than a few,
// and then one in ten seconds.
func TestRefusedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &plannedVault{ttl: time.Hour, most: time.Hour}
		k := v.keeper(nil)
		defer k.close()
		k.start()
		for range 60_000 { // ten minutes
			token, err := k.token(t.Context())
			require.NoError(t, err)
			k.renewed(t.Context(), token)
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, len(v.logins), 1+forcedAtOnce+60)
		require.GreaterOrEqual(t, len(v.logins), 60)
	})
}

// A renewal that Vault cannot do now is tried again; one that it will not do
// leads to a login, at once, while the old token serves.
func TestRenewalThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &plannedVault{ttl: time.Hour, most: 1 << 62}
		var alarms atomic.Int32
		k := v.keeper(func(n Notice) {
			if n.Alarm {
				alarms.Add(1)
			}
		})
		defer k.close()
		k.start()
		time.Sleep(time.Second)
		v.set(func() { v.noRenewal = fault.New(fault.Unavailable, msgUnreachable) })
		time.Sleep(45 * time.Minute)
		logins, renewals := v.counts()
		require.Equal(t, 1, logins)
		require.Greater(t, renewals, 10)
		require.EqualValues(t, 1, alarms.Load(), "told once")
		v.set(func() { v.noRenewal = nil })
		time.Sleep(5 * time.Second)
		_, after := v.counts()
		require.LessOrEqual(t, after, renewals+2, "and then there is peace")

		for _, why := range []error{
			fault.Wrap(fault.Forbidden, msgDenied, answeredError(403)),
			fault.Wrap(fault.Unavailable, msgToken, refusedError{answeredError(403), secret.Text{}}),
		} {
			before, _ := v.counts()
			v.set(func() { v.noRenewal = why })
			time.Sleep(45 * time.Minute)
			logins, _ := v.counts()
			require.Greater(t, logins, before)
			token, err := k.token(t.Context())
			require.NoError(t, err)
			require.True(t, v.good(token))
		}
	})
}

// The end comes while a login hangs, and while one is being waited for.
func TestKeeperEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &plannedVault{takes: time.Hour}
		k := v.keeper(nil)
		k.start()
		got := make(chan error, 1)
		go func() {
			_, err := k.token(context.Background())
			got <- err
		}()
		synctest.Wait()
		k.close()
		require.Error(t, <-got)
		_, err := k.token(context.Background())
		require.Error(t, err, "no login after the end")
		k.close()
		k.start()
	})
	synctest.Test(t, func(t *testing.T) { // a login that hangs has a bound of its own
		v := &plannedVault{takes: time.Hour}
		k := v.keeper(nil)
		defer k.close()
		began := time.Now()
		_, err := k.token(context.Background())
		require.Error(t, err)
		require.Equal(t, loginPatience, time.Since(began))
		require.NotErrorIs(t, err, context.Canceled)
	})
}

func TestPauses(t *testing.T) {
	for failures, base := range map[int]time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 5: 32 * time.Second, 9: 5 * time.Minute, 1000: 5 * time.Minute} {
		for range 100 {
			pause := pauseAfter(failures, true)
			require.GreaterOrEqual(t, pause, base/2)
			require.LessOrEqual(t, pause, base)
			require.LessOrEqual(t, pauseAfter(failures, false), outagePause)
			require.GreaterOrEqual(t, pauseAfter(failures, false), time.Second)
		}
	}
}
