package vaultx_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

func TestReady(t *testing.T) {
	v := devstacktest.Shared(t)
	require.NoError(t, realClient(t, v).Ready(t.Context()))
	// A token that may not even look itself up serves, if Vault knows it.
	require.NoError(t, limited(t, v, `path "secret/data/x" { capabilities = ["read"] }`).Ready(t.Context()))

	for _, token := range []string{"hvs.not-a-token", ""} {
		c := connect(t, vaultx.Config{Address: v.Addr, Token: secret.NewText(token)})
		f := requireKind(t, fault.Unavailable, c.Ready(t.Context()))
		require.Contains(t, f.Msg, "own Vault token", "%q", token)
		_, err := vaultx.KVRead(t.Context(), c.Bind(on(t, "read", kvData, "x"), vaultx.BindOptions{}), 0)
		requireKind(t, fault.Unavailable, err)
	}
	// The answer is for everyone, so that of a caller who has gone is as good.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, realClient(t, v).Ready(ctx))
}

// Sealed: not ready, calls fail with the reason, and soon at once; unsealed, all
// is well again without a restart.
func TestSealedAndUnsealed(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	rec := devstacktest.Recorder(t, v.Addr)
	c := connect(t, vaultx.Config{Address: rec.URL, Token: v.RootToken})
	require.NoError(t, c.Ready(t.Context()))
	require.NoError(t, v.Seal(t.Context()))
	rec.Reset()
	calls := 0
	for begin := time.Now(); time.Since(begin) < 3*breakerPause/2; calls++ {
		_, err := c.Bind(on(t, "read", kvData, "x"), vaultx.BindOptions{Retryable: true}).Do(t.Context(), vaultx.Request{})
		require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "sealed")
		time.Sleep(time.Millisecond)
	}
	require.Greater(t, calls, 5)
	require.LessOrEqual(t, len(rec.Requests()), 3, "a sealed Vault is stormed")
	require.Eventually(t, func() bool { return c.Ready(t.Context()) != nil }, 5*time.Second, 50*time.Millisecond)

	require.NoError(t, v.Unseal(t.Context()))
	require.Eventually(t, func() bool { return c.Ready(t.Context()) == nil }, 10*time.Second, 50*time.Millisecond)
	_, err := c.Bind(on(t, "list", kvMetadata, ""), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
	requireKind(t, fault.NotFound, err)
}

// breakerPause is that of the breaker.
const breakerPause = 500 * time.Millisecond

// Vault was killed and is back: calls work again over the same client.
func TestKilledAndRestarted(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	c := realClient(t, v)
	require.NoError(t, v.PutSecret(t.Context(), prefix+"/app", map[string]any{"a": "1"}))
	read := func() error {
		_, err := vaultx.KVRead(t.Context(), c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{Retryable: true}), 0)
		return err
	}
	require.NoError(t, read())
	v.Kill()
	requireKind(t, fault.Unavailable, read())
	requireKind(t, fault.Unavailable, read())
	require.NoError(t, v.Restart(t.Context()))
	require.Eventually(t, func() bool { return read() == nil }, 10*time.Second, 50*time.Millisecond)
}

func TestDoctorsQuestions(t *testing.T) {
	v := devstacktest.Shared(t)
	c := realClient(t, v)
	require.NoError(t, c.KVVersion2(t.Context()))
	h, err := c.Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, v.Version, h.Version)
	require.InDelta(t, time.Now().Unix(), h.ServerTime, 60)
	info, err := c.Token(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"root"}, info.Policies)

	admin(t, "POST", "sys/mounts/kv-one", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}, nil)
	admin(t, "POST", "sys/mounts/team/kv", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}, nil)
	for mount, ok := range map[string]bool{"/team/kv/": true, "kv-one": false, "sys": false, "cubbyhole": false} {
		err := connect(t, vaultx.Config{Address: v.Addr, Token: v.RootToken, Mounts: vaultx.Mounts{KV: mount}}).KVVersion2(t.Context())
		if ok {
			require.NoError(t, err, mount)
			continue
		}
		require.Contains(t, requireKind(t, fault.Invalid, err).Msg, "version 2", mount)
	}
	err = connect(t, vaultx.Config{Address: v.Addr, Token: v.RootToken, Mounts: vaultx.Mounts{KV: "nowhere"}}).KVVersion2(t.Context())
	require.Error(t, err)

	has, err := c.Capabilities(t.Context(), []string{"secret/data/x"})
	require.NoError(t, err)
	require.True(t, vaultx.Grants(has["secret/data/x"], "patch"))
	c = limited(t, v, `path "secret/data/x" { capabilities = ["read"] }
		path "sys/capabilities-self" { capabilities = ["update"] }`)
	has, err = c.Capabilities(t.Context(), []string{"secret/data/x", "secret/data/y"})
	require.NoError(t, err)
	require.Equal(t, []string{"read"}, has["secret/data/x"])
	require.False(t, vaultx.Grants(has["secret/data/y"], "read"))
}

// A mount that is not there, or holds another engine, is the operator's mistake
// and says so; it is never an empty list or a secret that was not found.
func TestWrongMounts(t *testing.T) {
	v := devstacktest.Shared(t)
	admin(t, "POST", "sys/mounts/kv-old", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}, nil)
	bind := func(mount, capability string, tmpl vaultx.Template) *vaultx.Bound {
		op, err := vaultx.NewOperation(capability, tmpl, map[string]string{"kv": mount, "prefix": prefix, "path": "app"})
		require.NoError(t, err)
		return realClient(t, v).Bind(op, vaultx.BindOptions{})
	}
	_, err := vaultx.KVList(t.Context(), bind("nowhere", "list", kvMetadata))
	require.Contains(t, requireKind(t, fault.Internal, err).Msg, "no engine")
	_, err = vaultx.KVRead(t.Context(), bind("nowhere", "read", kvData), 0)
	requireKind(t, fault.Internal, err)
	_, err = vaultx.KVWrite(t.Context(), bind("kv-old", "update", kvData), kvValue(t, `{"a":"1"}`), nil)
	require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "version 1")
	_, err = vaultx.KVRead(t.Context(), bind("kv-old", "read", kvData), 0)
	require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "version 1")
	// Nor are the data of version 1 taken for those of version 2.
	for _, data := range []string{`{"user":"x"}`, `{"data":null}`, `{"data":"x","metadata":{"version":1}}`, `{"data":{"user":"x"}}`} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":`+data+`}`) })
		_, err := vaultx.KVRead(t.Context(), f.read(t), 0)
		unfit := requireKind(t, fault.Unavailable, err)
		require.Contains(t, unfit.Msg, "version 1", data)
		require.Error(t, unfit.Err, "an operator sees why")
	}
}

// A refusal leads to a question about the token, which is not waited for longer
// than the call may take, nor in a slot that others could use.
func TestRefusalKeepsItsDeadline(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, 8)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/auth/token/lookup-self":
			asked <- struct{}{}
			<-release
		case r.Method == http.MethodPost:
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	defer close(release)
	c := connect(t, vaultx.Config{Address: f.URL, Token: secret.NewText("fake-token"), MaxConcurrent: 1})
	bind := func(capability string) *vaultx.Bound {
		return c.Bind(on(t, capability, kvData, "app"), vaultx.BindOptions{Owner: capability})
	}
	refused := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := bind("update").Do(ctx, vaultx.Request{})
		refused <- err
	}()
	<-asked
	_, err := bind("read").Do(t.Context(), vaultx.Request{})
	require.NoError(t, err, "the slot is free")
	cancel()
	requireKind(t, fault.Forbidden, <-refused) // though the question has no answer yet
}

func TestPolicyDenies(t *testing.T) {
	v := devstacktest.Shared(t)
	c := limited(t, v, `path "secret/data/mcp/dev-bot/mine" { capabilities = ["read"] }`)
	_, err := vaultx.KVRead(t.Context(), c.Bind(on(t, "read", kvData, "mine"), vaultx.BindOptions{}), 0)
	requireKind(t, fault.NotFound, err)
	b := c.Bind(on(t, "read", kvData, "theirs"), vaultx.BindOptions{Retryable: true})
	_, err = vaultx.KVRead(t.Context(), b, 0)
	requireKind(t, fault.Forbidden, err)
	require.LessOrEqual(t, len(b.RequestIDs()), 1, "a denial is not tried again")
}
