package auth_test

import (
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// watched is an Authenticator that is running while its key file changes.
// Within a bubble of synctest, time is ours and a sleep costs none.
func watched(t *testing.T, path string) func(key string) error {
	t.Helper()
	a := authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
	return func(key string) error {
		_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
		return err
	}
}

func TestRunningServerSeesChanges(t *testing.T) {
	f, path := keyFile(t)
	synctest.Test(t, func(t *testing.T) {
		try := watched(t, path) // there is no file yet
		key, record := create(t, f, "dev", auth.KeyOptions{})
		time.Sleep(time.Second)
		require.NoError(t, try(key))

		rotated, _, err := f.Rotate(record.ID, 0)
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Error(t, try(key))
		require.NoError(t, try(rotated.Reveal()))

		require.NoError(t, f.Revoke(record.ID))
		time.Sleep(time.Second)
		require.ErrorIs(t, try(rotated.Reveal()), fault.Unauthenticated)

		key, _ = create(t, f, "dev", auth.KeyOptions{})
		time.Sleep(time.Second)
		require.NoError(t, try(key))
		require.NoError(t, os.Remove(path))
		time.Sleep(time.Second)
		require.Error(t, try(key), "no file means no keys")
	})
}

// Within a second the file is not looked at.
func TestLookIsNotTakenOnEveryCall(t *testing.T) {
	f, path := keyFile(t)
	key, record := create(t, f, "dev", auth.KeyOptions{})
	synctest.Test(t, func(t *testing.T) {
		try := watched(t, path)
		require.NoError(t, f.Revoke(record.ID))
		time.Sleep(time.Second - 1)
		require.NoError(t, try(key))
		time.Sleep(time.Nanosecond)
		require.Error(t, try(key))
	})
}

// A server that had no call for long does not let one slip through with what it
// knew then, however many come at once.
func TestNoCallGoesByAnOldLook(t *testing.T) {
	f, path := keyFile(t)
	for range 20 {
		key, record := create(t, f, "dev", auth.KeyOptions{})
		synctest.Test(t, func(t *testing.T) {
			try := watched(t, path)
			require.NoError(t, try(key))
			require.NoError(t, f.Revoke(record.ID))
			time.Sleep(time.Hour)
			errs := make([]error, 16)
			var all sync.WaitGroup
			for i := range errs {
				all.Go(func() { errs[i] = try(key) })
			}
			all.Wait()
			for _, err := range errs {
				require.Error(t, err)
			}
		})
	}
}

func TestBrokenFileKeepsKeys(t *testing.T) {
	f, path := keyFile(t)
	key, _ := create(t, f, "dev", auth.KeyOptions{})
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		a := authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
		works := func(about string) {
			t.Helper()
			time.Sleep(time.Second)
			_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
			require.NoError(t, err, about)
		}
		require.NoError(t, a.Check(t.Context()))
		writeKeys(t, path, string(good[:len(good)/2]))
		works("half a file")
		require.ErrorContains(t, a.Check(t.Context()), "not JSON")
		time.Sleep(50 * time.Second)
		works("for a while")
		time.Sleep(10 * time.Second)
		_, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
		require.ErrorIs(t, err, fault.Unauthenticated, "it may be a revocation that cannot be read")
		require.Error(t, a.Check(t.Context()), "it is not forgotten")

		writeKeys(t, path, string(good))
		works("right again")
		require.NoError(t, a.Check(t.Context()))

		require.NoError(t, os.Chmod(path, 0o644))
		works("open to others")
		require.ErrorContains(t, a.Check(t.Context()), "open to others")
		require.NoError(t, os.Chmod(path, 0o600))
		works("closed again")
		require.NoError(t, a.Check(t.Context()))
	})
}

// Calls and changes at once, for the race detector; each key that was not
// revoked works at the end, and each that was does not.
func TestWatchUnderLoad(t *testing.T) {
	f, path := keyFile(t)
	kept, _ := create(t, f, "dev", auth.KeyOptions{})
	var revoked []string
	synctest.Test(t, func(t *testing.T) {
		try := watched(t, path)
		done := make(chan struct{})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					if err := try(kept); err != nil {
						t.Error(err)
						return
					}
					select {
					case <-done:
						return
					case <-time.After(300 * time.Millisecond):
					}
				}
			})
		}
		for range 10 {
			key, record := create(t, f, "dev", auth.KeyOptions{})
			time.Sleep(time.Second)
			require.NoError(t, f.Revoke(record.ID))
			revoked = append(revoked, key)
		}
		close(done)
		all.Wait()
		time.Sleep(2 * time.Second)
		for _, key := range revoked {
			require.Error(t, try(key))
		}
		require.NoError(t, try(kept))
	})
}

// A file that has not changed for a while is not read again until something of
// it changes: its mode, its time, its size, or the file itself.
func TestSettledFile(t *testing.T) {
	f, path := keyFile(t)
	key, record := create(t, f, "dev", auth.KeyOptions{})
	long := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) // before the time in a bubble
	require.NoError(t, os.Chtimes(path, long, long))
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		a := authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
		subject := func() string {
			time.Sleep(time.Second)
			p, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
			if err != nil {
				return ""
			}
			return p.Slug
		}
		require.Equal(t, "dev", subject())
		changed := strings.Replace(string(good), `"dev"`, `"new"`, 1)
		writeKeys(t, path, changed)
		require.NoError(t, os.Chtimes(path, long, long))
		require.Equal(t, "dev", subject(), "nothing shows that it changed, so it is not read")
		require.NoError(t, os.Chtimes(path, long, long.Add(time.Second)))
		require.Equal(t, "new", subject(), "its time shows it")

		require.NoError(t, os.Chmod(path, 0o640))
		require.Equal(t, "new", subject())
		require.ErrorContains(t, a.Check(t.Context()), "open to others")
		require.NoError(t, os.Chmod(path, 0o600))
		require.Equal(t, "new", subject())
		require.NoError(t, a.Check(t.Context()), "as it was before, which is right again")

		other := path + ".other"
		writeKeys(t, other, string(good))
		require.NoError(t, os.Chtimes(other, long, long.Add(time.Second)))
		require.NoError(t, os.Rename(other, path))
		require.Equal(t, "dev", subject(), "another file of the same size and time")

		require.NoError(t, f.Revoke(record.ID))
		require.Empty(t, subject())
	})
}
