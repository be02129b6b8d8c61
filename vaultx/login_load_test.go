package vaultx_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/fault/faulttest"
	"vault-mcp/vaultx"
)

// load is sixteen callers in closed loops, half of whom write what may not be
// repeated.
type load struct {
	calls  atomic.Int64
	failed atomic.Pointer[error] // the first failure
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func underLoad(t *testing.T, c *vaultx.Client) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	read, write := on(t, "read", kvData, "app"), on(t, "update", kvData, "app")
	for i := range 16 {
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				var err error
				if i%2 == 0 && n%8 == 0 {
					_, err = vaultx.KVWrite(context.Background(), c.Bind(write, vaultx.BindOptions{}), kvValue(t, `{"a":"1"}`), nil)
				} else {
					_, err = vaultx.KVRead(context.Background(), c.Bind(read, vaultx.BindOptions{}), 0)
				}
				l.calls.Add(1)
				if err != nil {
					err = errors.Join(err, fault.From(err).Err)
					l.failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// more waits for so many more calls.
func (l *load) more(t *testing.T, calls int64) {
	t.Helper()
	until := l.calls.Load() + calls
	require.Eventually(t, func() bool { return l.calls.Load() >= until }, time.Minute, time.Millisecond)
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// none asserts that no call has failed so far.
func (l *load) none(t *testing.T) {
	t.Helper()
	if err := l.failed.Load(); err != nil {
		require.NoError(t, *err, "after %d calls", l.calls.Load())
	}
}

// openRole is a client, kept alive in the background, that logs in by an AppRole;
// the recorder between sees what it asks.
func openRole(t *testing.T, role *appRole) (*vaultx.Client, *devstacktest.Rec, *notices) {
	t.Helper()
	rec, told := devstacktest.Recorder(t, role.v.Addr), &notices{}
	c := connect(t, vaultx.Config{Address: rec.URL, Login: role.login(), Notice: told.hear})
	c.Start()
	return c, rec, told
}

// Tokens of three seconds, six at most, are renewed and replaced without a call
// that fails.
func TestRotationUnderLoad(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	c, rec, told := openRole(t, newAppRole(t, v, "rotation", "3s", "6s", 0))
	require.NoError(t, write(t, c))
	l := underLoad(t, c)
	require.Eventually(t, func() bool {
		return l.failed.Load() != nil || told.count("logged in") >= 4 && told.count("renewed") >= 4
	}, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, c.Ready(t.Context()))
	l.end()
	l.none(t)
	require.Equal(t, told.count("logged in"), logins(rec), "one login for each token")
	require.LessOrEqual(t, logins(rec), 8, "no more than are needed")
	require.NotContains(t, strings.Join(rec.Requests(), " "), "revoke", "what was issued under a token must not end with it")
	t.Logf("%d calls, %d logins", l.calls.Load(), logins(rec))
}

// Tokens that cannot be renewed, as batch tokens, are replaced in time as well.
func TestBatchTokens(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	role := newAppRole(t, v, "batch", "2s", "2s", 0)
	role.role["token_type"] = "batch"
	role.ask(t, "POST", "auth/approle/role/batch", role.role)
	c, _, told := openRole(t, role)
	require.NoError(t, write(t, c))
	l := underLoad(t, c)
	require.Eventually(t, func() bool { return l.failed.Load() != nil || told.count("logged in") >= 4 }, time.Minute, 10*time.Millisecond)
	l.end()
	l.none(t)
	require.Zero(t, told.count("renewed"))
}

// A token that somebody revokes costs no call: each that Vault refused is done
// once more with the token of one new login, a write too, since Vault has done
// nothing.
func TestRevokedUnderLoad(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	c, rec, told := openRole(t, newAppRole(t, v, "revoked", "1h", "1h", 0))
	require.NoError(t, write(t, c))
	l := underLoad(t, c)
	for round := range 3 {
		l.more(t, 200)
		require.NoError(t, v.Request(t.Context(), "POST", "sys/leases/revoke-prefix/auth/approle/login?sync=true", map[string]any{}, nil))
		require.Eventually(t, func() bool { return told.count("logged in") == round+2 }, time.Minute, time.Millisecond)
		l.more(t, 200)
	}
	l.end()
	l.none(t)
	require.Equal(t, 4, logins(rec), "one login for each token that was lost")

	// One more than may come at once: no login, and no storm, until a while later.
	require.NoError(t, v.Request(t.Context(), "POST", "sys/leases/revoke-prefix/auth/approle/login?sync=true", map[string]any{}, nil))
	for range 50 {
		if err := read(t, c); err != nil {
			require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "own Vault token is not accepted")
		}
	}
	require.LessOrEqual(t, logins(rec), 5, "a hot loop of logins")
	require.Eventually(t, func() bool { return read(t, c) == nil }, time.Minute, 100*time.Millisecond, "it heals by itself")
}

// A secret id that is spent: the token of before serves to its end, readiness
// says what is wrong, and logins are tried ever more rarely.
func TestSpentSecretID(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	role := newAppRole(t, v, "spent", "6s", "12s", 1)
	c, rec, told := openRole(t, role)
	began := time.Now()
	require.NoError(t, write(t, c))
	l := underLoad(t, c)
	require.Eventually(t, func() bool { return fault.IsDegraded(c.Ready(t.Context())) }, time.Minute, 10*time.Millisecond)
	require.Contains(t, c.Ready(t.Context()).Error(), "cannot log in")
	require.NoError(t, read(t, c), "the old token still serves")
	require.Less(t, time.Since(began), 12*time.Second)
	l.none(t)
	l.end()
	require.Equal(t, 1, told.count("serves until its end"), told.all())

	require.Eventually(t, func() bool { return read(t, c) != nil }, time.Minute, 10*time.Millisecond)
	require.GreaterOrEqual(t, time.Since(began), 8*time.Second, "it was given up before its end")
	var calls int
	for ; time.Since(began) < 18*time.Second; calls++ {
		f := requireKind(t, fault.Unavailable, read(t, c))
		require.Contains(t, f.Msg, "not accepted")
		require.NotContains(t, faulttest.Text(f), role.secretID)
		time.Sleep(time.Millisecond)
	}
	err := c.Ready(t.Context())
	require.Error(t, err)
	require.False(t, fault.IsDegraded(err), "calls fail now")
	require.Greater(t, calls, 100)
	require.LessOrEqual(t, logins(rec), 6, "a hot loop of logins: 1 that succeeded, and those after 0, 1, 2, 4, 8 seconds")
	require.Equal(t, 1, told.count("not accepted"), "told once: %s", told.all())

	// A new secret id by hand of the operator, and all is well without a restart.
	role.ids["num_uses"] = 0
	role.ask(t, "POST", "auth/approle/role/spent/custom-secret-id", role.ids)
	require.Eventually(t, func() bool { return read(t, c) == nil }, time.Minute, 50*time.Millisecond)
	require.NoError(t, c.Ready(t.Context()))
}

// A Vault that comes back without its storage knows none of its tokens. Set up
// anew, it serves the first call.
func TestVaultWithNewStorage(t *testing.T) {
	t.Parallel()
	v := devstacktest.Fresh(t, devstacktest.Options{})
	role := newAppRole(t, v, "storage", "1h", "1h", 0)
	c, rec, _ := openRole(t, role)
	require.NoError(t, write(t, c))
	require.NoError(t, v.Restart(t.Context()))
	role.install(t)
	require.NoError(t, v.PutSecret(t.Context(), prefix+"/app", map[string]any{"a": "1"}))
	rec.Reset()
	require.NoError(t, read(t, c))
	require.Equal(t, 1, logins(rec))
	require.NoError(t, c.Ready(t.Context()))
}

// Down at the start, sealed later: no storm of logins, and soon after Vault is
// there all is well.
func TestLoginOfAVaultThatIsOut(t *testing.T) {
	t.Parallel()
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	role := newAppRole(t, v, "out", "3s", "3s", 0)
	require.NoError(t, v.PutSecret(t.Context(), prefix+"/app", map[string]any{"a": "1"}))
	v.Kill()
	c, rec, told := openRole(t, role)
	for range 20 {
		requireKind(t, fault.Unavailable, read(t, c))
	}
	require.LessOrEqual(t, logins(rec), 2)
	require.NoError(t, v.Restart(t.Context()))
	require.Eventually(t, func() bool { return told.count("logged in") == 1 }, time.Minute, 10*time.Millisecond, "by itself")
	require.NoError(t, read(t, c))

	require.NoError(t, v.Seal(t.Context()))
	rec.Reset()
	began := time.Now()
	for time.Since(began) < 6*time.Second { // its token ends meanwhile
		requireKind(t, fault.Unavailable, read(t, c))
		time.Sleep(time.Millisecond)
	}
	require.LessOrEqual(t, logins(rec), 6)
	require.LessOrEqual(t, len(rec.Requests()), 6+2*6+4, "a sealed Vault is stormed")
	require.NoError(t, v.Unseal(t.Context()))
	require.Eventually(t, func() bool { return read(t, c) == nil }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, c.Ready(t.Context()))
}
