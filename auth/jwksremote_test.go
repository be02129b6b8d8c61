package auth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// source is an issuer's key set under our control, by a clock under our control.
type source struct {
	mu      sync.Mutex
	keys    []byte
	err     error
	slow    time.Duration
	fetches atomic.Int64
}

func (s *source) set(keys []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.err = keys, err
}

func (s *source) fetch(ctx context.Context) ([]byte, error) {
	s.fetches.Add(1)
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, s.err
}

// cached is an issuer whose keys are cached for five minutes, in the bubble of a
// test, and how to present a token of one of its keys. signers come before the
// bubble: they do not go by its time.
func cached(t *testing.T) (s *source, present func(kid string) error) {
	t.Helper()
	s = &source{keys: keySet(jwk("ed", nil))}
	a := world(t, func(o *auth.Options) { o.Now = nil }) // closed within the bubble
	a.FetchKeysBy(5*time.Minute, s.fetch)
	return s, func(kid string) error {
		_, err := try(t, a, lasting(kid))
		return err
	}
}

// lasting is a token that is good by any clock.
func lasting(kid string) string {
	alg := map[string]string{"ed": "EdDSA", "ec": "ES256", "ec384": "ES384", "ec-other": "ES256"}
	change := obj{"exp": 4_000_000_000, "iat": nil}
	if alg[kid] != "" {
		return signed(alg[kid], kid, nil, claims(change))
	}
	return sign("EdDSA", signers()["ed"], obj{"alg": "EdDSA", "kid": kid}, claims(change))
}

// Row 13: the issuer is down.
func TestKeysOutliveTheirSource(t *testing.T) {
	signers()
	synctest.Test(t, func(t *testing.T) {
		s, try := cached(t)
		require.NoError(t, try("ed"))
		fetched := time.Now()
		s.set(nil, errors.New("canary: connection refused"))
		for time.Since(fetched) < 23*time.Hour {
			time.Sleep(time.Minute)
			require.NoError(t, try("ed"), "%s after the last good fetch", time.Since(fetched))
		}
		require.Greater(t, s.fetches.Load(), int64(1000), "it is tried again and again")
		require.Less(t, s.fetches.Load(), int64(1500))
		time.Sleep(time.Until(fetched.Add(24 * time.Hour)))
		err := try("ed")
		require.ErrorIs(t, err, fault.Unavailable, "after a day they are no longer good")
		require.NotContains(t, err.Error(), "canary")
		require.NotZero(t, fault.From(err).RetryAfter)
		s.set(keySet(jwk("ed", nil)), nil)
		time.Sleep(10 * time.Second)
		require.NoError(t, try("ed"), "it comes back by itself")
	})
}

// Nothing was ever fetched: no call is let through, and no stampede begins.
func TestNoKeysAtAllAreNoStampede(t *testing.T) {
	signers()
	synctest.Test(t, func(t *testing.T) {
		s, try := cached(t)
		s.set(nil, errors.New("down"))
		for range 100 {
			require.ErrorIs(t, try("ed"), fault.Unavailable)
		}
		require.Equal(t, int64(1), s.fetches.Load())
		s.set(keySet(), nil) // up, with nothing in it
		time.Sleep(10 * time.Second)
		require.ErrorIs(t, try("ed"), fault.Unavailable)
		s.set([]byte(`<html>`), nil)
		time.Sleep(10 * time.Second)
		require.ErrorIs(t, try("ed"), fault.Unavailable)
		require.Equal(t, int64(3), s.fetches.Load())
	})
}

// A slow source holds nobody up who has keys, one fetch serves all who have
// none, and a caller that leaves does not end it.
func TestFetchBelongsToNobody(t *testing.T) {
	signers()
	synctest.Test(t, func(t *testing.T) {
		s := &source{keys: keySet(jwk("ed", nil)), slow: 2 * time.Second}
		a := world(t, func(o *auth.Options) { o.Now = nil })
		defer a.Close()
		a.FetchKeysBy(5*time.Minute, s.fetch)
		h := headers("Authorization", "Bearer "+lasting("ed"))
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 51)
		go func() { _, err := a.Authenticate(ctx, auth.Presented{Header: h}); errs <- err }()
		synctest.Wait()
		for range 50 {
			go func() { _, err := a.Authenticate(t.Context(), auth.Presented{Header: h}); errs <- err }()
		}
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-errs, fault.Canceled)
		for range 50 {
			require.NoError(t, <-errs)
		}
		require.Equal(t, int64(1), s.fetches.Load())

		time.Sleep(6 * time.Minute)
		began := time.Now()
		_, err := a.Authenticate(t.Context(), auth.Presented{Header: h})
		require.NoError(t, err)
		require.Zero(t, time.Since(began), "who has keys does not wait for new ones")
		time.Sleep(time.Hour) // nobody calls
		began = time.Now()
		_, err = a.Authenticate(t.Context(), auth.Presented{Header: h})
		require.NoError(t, err)
		require.Equal(t, 2*time.Second, time.Since(began), "keys that are an hour old are not good enough to go on with")
	})
}

// Row 14: a new key is found by one fetch, and an old one is refused once it has
// left the set.
func TestKeysRotate(t *testing.T) {
	signers()
	synctest.Test(t, func(t *testing.T) {
		s, try := cached(t)
		require.NoError(t, try("ed"))
		s.set(keySet(jwk("ec", nil)), nil)
		require.NoError(t, try("ec"), "at once")
		require.Equal(t, int64(2), s.fetches.Load())
		require.ErrorIs(t, try("ed"), fault.Unauthenticated)

		s.set(keySet(jwk("ec384", nil)), nil)
		require.NoError(t, try("ec"), "nobody told us yet")
		time.Sleep(5 * time.Minute)
		_ = try("ec") // begins the fetch that is due
		synctest.Wait()
		require.ErrorIs(t, try("ec"), fault.Unauthenticated)
		require.NoError(t, try("ec384"))
	})
}

// Row 15: names of keys that nobody has cost the issuer a fetch in ten seconds,
// and a good new key gets in all the same.
func TestFloodOfUnknownKeys(t *testing.T) {
	signers()
	synctest.Test(t, func(t *testing.T) {
		s, try := cached(t)
		require.NoError(t, try("ed"))
		for i := range 10_000 {
			require.ErrorIs(t, try(fmt.Sprint("made-up-", i)), fault.Unauthenticated)
			if i%10 == 9 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		// 100 seconds: one at first, three at once, one in ten seconds.
		require.LessOrEqual(t, s.fetches.Load(), int64(1+3+10))
		s.set(keySet(jwk("ed", nil), jwk("ec", nil)), nil)
		rotated := time.Now()
		for i := 0; try("ec") != nil; i++ {
			_ = try(fmt.Sprint("made-up-", i))
			time.Sleep(100 * time.Millisecond)
			require.Less(t, time.Since(rotated), 11*time.Second)
		}
		before := s.fetches.Load()
		for range 100 {
			require.NoError(t, try("ed"))
			require.NoError(t, try("ec"))
		}
		require.Equal(t, before, s.fetches.Load(), "good tokens cost nothing")
	})
}

// A token without a kid finds a new key too, within the same budget.
func TestNewKeyWithoutName(t *testing.T) {
	signers()
	synctest.Test(t, func(t *testing.T) {
		s := &source{keys: keySet(jwk("ec", nil))}
		a := world(t, func(o *auth.Options) { o.Now = nil })
		defer a.Close()
		a.FetchKeysBy(5*time.Minute, s.fetch)
		token := func(kid string) string {
			return sign("ES256", signers()[kid], obj{"alg": "ES256"}, claims(obj{"exp": 4_000_000_000, "iat": nil}))
		}
		_, err := try(t, a, token("ec"))
		require.NoError(t, err)
		s.set(keySet(jwk("ec-other", nil)), nil)
		_, err = try(t, a, token("ec-other"))
		require.NoError(t, err)
		for range 1000 {
			_, err = try(t, a, token("ec"))
			require.ErrorIs(t, err, fault.Unauthenticated)
		}
		require.LessOrEqual(t, s.fetches.Load(), int64(1+3))
	})
}

// A token that was verified once is good until it ends, and while its issuer's
// keys are those that verified it.
func TestVerifiedTokenIsNotGoodForEver(t *testing.T) {
	signers()
	synctest.Test(t, func(t *testing.T) {
		s := &source{keys: keySet(jwk("ed", nil))}
		a := world(t, func(o *auth.Options) { o.Now = nil })
		defer a.Close()
		a.FetchKeysBy(5*time.Minute, s.fetch)
		token := signed("EdDSA", "ed", nil, claims(obj{"exp": time.Now().Add(time.Hour).Unix(), "iat": nil}))
		first, err := try(t, a, token)
		require.NoError(t, err)
		again, err := try(t, a, token)
		require.NoError(t, err)
		require.Same(t, first, again)
		_, err = try(t, a, token[:len(token)-4]+"AAAA")
		require.ErrorIs(t, err, fault.Unauthenticated, "it is known as a whole")
		time.Sleep(time.Hour + 59*time.Second)
		_, err = try(t, a, token)
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, err = try(t, a, token)
		require.ErrorIs(t, err, fault.Unauthenticated, "it has ended")

		token = lasting("ed")
		_, err = try(t, a, token)
		require.NoError(t, err)
		s.set(keySet(jwk("ed", obj{"kid": "other"})), nil)
		time.Sleep(10 * time.Minute)
		_, err = try(t, a, token)
		require.ErrorIs(t, err, fault.Unauthenticated, "its key was taken back")
	})
}

// However many good tokens there are, the room for them is bounded, and each is
// good.
func TestManyVerifiedTokens(t *testing.T) {
	a := world(t, withSecret)
	for i := range 6000 {
		subject := fmt.Sprint("agent", i)
		p, err := try(t, a, sign("HS256", []byte(hsSecret), obj{"alg": "HS256"}, claims(obj{"sub": subject})))
		require.NoError(t, err)
		require.Equal(t, subject, p.Slug)
	}
	require.Equal(t, 4096, a.VerifiedJWTs())
}
