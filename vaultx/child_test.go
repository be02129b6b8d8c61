package vaultx_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

func TestChildHasItsOwnPolicyAlone(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{})
	alice, bob := f.member("alice=40.x"), f.member("bob")
	require.NoError(t, f.write(f.Client, alice, alice.ID))
	require.NoError(t, f.write(f.Client, bob, bob.ID))
	denied := requireKind(t, fault.Forbidden, f.write(f.Client, alice, bob.ID))
	require.Contains(t, denied.Msg, "the principal's policy")

	// Lifted out of the cache, it opens nothing else either.
	lifted := f.token(alice)
	info, err := f.lookup(lifted)
	require.NoError(t, err)
	require.Equal(t, []string{alice.Policy}, info.Policies)
	require.Empty(t, info.Identity)
	require.Equal(t, "token-alice-40-x", info.DisplayName)
	require.Equal(t, map[string]string{"subject": "alice=40.x"}, info.Meta)
	require.True(t, info.Orphan)
	require.False(t, info.Renewable)
	require.LessOrEqual(t, info.TTL, 60)
	require.Equal(t, 60, info.Max)
	thief := connect(t, vaultx.Config{Address: f.v.Addr, Token: lifted})
	require.NoError(t, f.write(thief, vaultx.ChildSpec{}, alice.ID))
	requireKind(t, fault.Forbidden, f.write(thief, vaultx.ChildSpec{}, bob.ID))
	_, err = thief.ReadPolicy(t.Context(), bob.Policy)
	requireKind(t, fault.Forbidden, err)

	// The server's own token opens nothing at all.
	bare := connect(t, vaultx.Config{Address: f.v.Addr, Token: f.server})
	requireKind(t, fault.Forbidden, f.write(bare, vaultx.ChildSpec{}, alice.ID))
	requireKind(t, fault.Internal, f.write(bare, alice, alice.ID)) // where children are not turned on
}

// A hundred principals come at once, each many times: each gets one token.
func TestChildIsMadeOnce(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{})
	rec := devstacktest.Recorder(t, f.v.Addr)
	c := f.again(rec.URL)
	var group sync.WaitGroup
	errs := make(chan error, 400)
	for i := range 100 {
		spec := f.member(fmt.Sprintf("m%d", i))
		for range 4 {
			group.Go(func() { errs <- f.write(c, spec, spec.ID) })
		}
	}
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	made, wrote := 0, 0
	for _, request := range rec.Requests() {
		if strings.Contains(request, "/auth/token/create/") {
			made++
		}
		if strings.Contains(request, "/secret/data/") {
			wrote++
		}
	}
	require.Equal(t, 100, made)
	require.Equal(t, 400, wrote)
}

// Where no token can be made nothing reaches Vault, and it is told once.
func TestChildFailsClosed(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{})
	rec := devstacktest.Recorder(t, f.v.Addr)
	c := f.again(rec.URL)
	alice := f.member("alice")
	nobody, empty := f.stranger("nobody"), f.stranger("empty")
	f.allow(empty, "# nothing\n")
	require.Contains(t, requireKind(t, fault.Forbidden, f.write(c, nobody, nobody.ID)).Msg, "Vault has no policy for this principal")
	require.Contains(t, requireKind(t, fault.Forbidden, f.write(c, empty, empty.ID)).Msg, "allows nothing")
	outside := vaultx.ChildSpec{ID: "x", Policy: "root", Name: "x"}
	requireKind(t, fault.Unavailable, f.write(c, outside, alice.ID)) // the role does not let it
	require.NoError(t, f.v.Request(t.Context(), http.MethodDelete, "auth/token/roles/"+f.role.Name, nil, nil))
	for range 3 {
		denied := requireKind(t, fault.Unavailable, f.write(c, alice, alice.ID))
		require.Contains(t, denied.Msg, "the principal's own Vault token cannot be made")
		require.NotContains(t, denied.Details, "outcome", "of the call nothing was done")
	}
	for _, request := range rec.Requests() {
		require.NotContains(t, request, "/secret/data/")
	}
	require.Len(t, f.events.told(), 4)

	require.NoError(t, f.root.WriteTokenRole(t.Context(), f.role))
	f.allow(nobody, `path "secret/data/`+nobody.ID+`/*" { capabilities = ["update", "create"] }`)
	for _, spec := range []vaultx.ChildSpec{alice, nobody} {
		require.Eventually(t, func() bool { return f.write(c, spec, spec.ID) == nil }, 5*time.Second, 50*time.Millisecond)
	}
	require.Contains(t, f.events.told(), "child tokens can be made again")
}

// A token that is anything but what was asked for is revoked at once, and nothing
// is done with it. A real Vault gives no such one.
func TestChildOfAnotherKindIsRefused(t *testing.T) {
	const good = `"client_token":"hvs.child","accessor":"acc","policies":["p-a"],"token_policies":["p-a"],"lease_duration":60`
	for name, change := range map[string][2]string{
		"another policy":     {`"policies":["p-a"]`, `"policies":["p-b"]`},
		"the default policy": {`"policies":["p-a"],"token`, `"policies":["default","p-a"],"token`},
		"a further policy":   {`"token_policies":["p-a"]`, `"token_policies":["p-a","p-b"]`},
		"no policies":        {`"token_policies":["p-a"],`, ``},
		"an identity":        {`"lease`, `"identity_policies":["x"],"lease`},
		"no end":             {`:60`, `:0`},
		"a longer life":      {`:60`, `:61`},
		"no token":           {`"hvs.child"`, `""`},
		"not a header":       {`hvs.child`, `hvs.\r\nchild`},
		"no accessor":        {`"acc"`, `""`},
		"not JSON":           {`"acc"`, `acc`},
		"no such policy":     {`}`, `},"warnings":["Policy \"p-a\" does not exist"]`},
	} {
		t.Run(name, func(t *testing.T) {
			answer := strings.Replace(`{"auth":{`+good+`}}`, change[0], change[1], 1)
			var mu sync.Mutex
			var requests []string
			fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				requests = append(requests, r.URL.Path+" "+string(body))
				mu.Unlock()
				switch r.URL.Path {
				case "/v1/auth/token/create":
					_, _ = io.WriteString(w, answer)
				case "/v1/sys/policies/acl/p-a":
					w.WriteHeader(http.StatusForbidden)
				default:
					w.WriteHeader(http.StatusNoContent)
				}
			}))
			defer fake.Close()
			c := connect(t, vaultx.Config{Address: fake.URL, Token: secret.NewText("server-token")})
			require.NoError(t, c.StartChildren(vaultx.ChildOptions{TTL: time.Minute, Folder: filepath.Join(t.TempDir(), "c"), Key: childKey}))
			_, err := c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{Child: vaultx.ChildSpec{ID: "a", Policy: "p-a", Name: "a"}}).Do(t.Context(), vaultx.Request{})
			require.Error(t, err)
			require.Contains(t, []fault.Kind{fault.Unavailable, fault.Forbidden}, fault.KindOf(err))
			revoked := func() bool {
				mu.Lock()
				defer mu.Unlock()
				return slices.Contains(requests, `/v1/auth/token/revoke-accessor {"accessor":"acc"}`)
			}
			if strings.Contains(answer, `"acc"`) {
				require.Eventually(t, revoked, 5*time.Second, 5*time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, request := range requests {
				require.NotContains(t, request, "/secret/")
			}
		})
	}
}

// A token is replaced before it ends, under load, without a failed call; one that
// an operator revokes is replaced within the call.
func TestChildIsReplaced(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{TTL: 3 * time.Second})
	alice := f.member("alice")
	seen := map[string]bool{}
	var group sync.WaitGroup
	errs := make(chan error, 8)
	until := time.Now().Add(7 * time.Second)
	for range 8 {
		group.Go(func() {
			for time.Now().Before(until) {
				if err := f.write(f.Client, alice, alice.ID); err != nil {
					errs <- err
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	for time.Now().Before(until) {
		seen[f.token(alice).Reveal()] = true
		time.Sleep(100 * time.Millisecond)
	}
	group.Wait()
	close(errs)
	require.NoError(t, <-errs)
	require.GreaterOrEqual(t, len(seen), 3)

	old := f.token(alice)
	require.NoError(t, f.v.Request(t.Context(), http.MethodPost, "auth/token/revoke", map[string]string{"token": old.Reveal()}, nil))
	require.NoError(t, f.write(f.Client, alice, alice.ID))
	require.NotEqual(t, old.Reveal(), f.token(alice).Reveal())
}

// A policy that changes gives the principal a new token, and ends the old one.
func TestChildFollowsItsPolicy(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{Recheck: 50 * time.Millisecond, Grace: 10 * time.Millisecond})
	alice := f.member("alice")
	old := f.token(alice)
	time.Sleep(60 * time.Millisecond)
	f.token(alice) // looks, and finds the same
	time.Sleep(60 * time.Millisecond)
	require.Equal(t, old.Reveal(), f.token(alice).Reveal())
	f.allow(alice, `path "secret/data/`+alice.ID+`/*" { capabilities = ["update", "create"] }`)
	require.Eventually(t, func() bool { return f.token(alice).Reveal() != old.Reveal() }, 5*time.Second, 20*time.Millisecond)
	f.gone(old)

	next := f.token(alice)
	require.NoError(t, f.v.Request(t.Context(), http.MethodDelete, "sys/policies/acl/"+alice.Policy, nil, nil))
	require.Eventually(t, func() bool {
		_, err := f.ChildToken(t.Context(), alice)
		return fault.KindOf(err) == fault.Forbidden
	}, 5*time.Second, 20*time.Millisecond)
	f.gone(next)
}

func TestChildIsEvicted(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{Max: 2, Grace: 10 * time.Millisecond})
	a, b, c := f.member("a"), f.member("b"), f.member("c")
	first, second := f.token(a), f.token(b)
	require.Equal(t, first.Reveal(), f.token(a).Reveal())
	f.token(c)
	f.gone(second) // the one that was not used for the longest time
	require.True(t, f.lives(first))
}

// The end of the process ends its tokens; where it was killed, the next one does
// it, and leaves those of a process that lives.
func TestChildrenEnd(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{})
	alice := f.member("alice")
	first := f.token(alice)
	other := f.again(f.v.Addr)
	second, err := other.ChildToken(t.Context(), alice)
	require.NoError(t, err)
	f.Close()
	require.False(t, f.lives(first))
	require.True(t, f.lives(second))
	_, err = f.ChildToken(t.Context(), alice)
	requireKind(t, fault.Unavailable, err)

	files, err := filepath.Glob(filepath.Join(f.opt.Folder, "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	text, err := os.ReadFile(files[0])
	require.NoError(t, err)
	info, err := f.lookup(second)
	require.NoError(t, err)
	require.NotContains(t, string(text), info.Accessor)
	require.NotContains(t, string(text), second.Reveal())
	require.Equal(t, 1, strings.Count(string(text), "\n"))

	other.Abandon()
	require.NoError(t, os.WriteFile(files[0], append(text, "half a rec"...), 0o600)) // what a crash may leave
	require.True(t, f.lives(second))
	third := f.again(f.v.Addr)
	f.gone(second)
	require.Eventually(t, func() bool { _, err := os.Stat(files[0]); return os.IsNotExist(err) }, 5*time.Second, 20*time.Millisecond)
	third.Close()
	files, err = filepath.Glob(filepath.Join(f.opt.Folder, "*"))
	require.NoError(t, err)
	require.Empty(t, files)
	require.Empty(t, f.events.told())
}

// A ledger that cannot be read is told of, and left; without one no token is used.
func TestChildLedger(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{})
	alice := f.member("alice")
	f.token(alice)
	f.Abandon()
	f.opt.Key = bytes.Repeat([]byte{6}, secret.KeySize)
	c := f.again(f.v.Addr)
	require.Eventually(t, func() bool { return len(f.events.told()) == 1 }, 5*time.Second, 10*time.Millisecond)
	require.Contains(t, f.events.told()[0], "an earlier process")
	require.NoError(t, f.write(c, alice, alice.ID))
	f.opt.Folder = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(f.opt.Folder, nil, 0o600))
	require.Error(t, connect(t, vaultx.Config{Address: f.v.Addr, Token: f.server}).StartChildren(f.opt))
}

// A call that is denied when the server's own token has ended makes nobody forget
// the child, which lives on: the next process revokes it.
func TestChildOfAServerThatEnded(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{Grace: 10 * time.Millisecond})
	alice := f.member("alice")
	token := f.token(alice)
	require.NoError(t, f.v.Request(t.Context(), http.MethodPost, "auth/token/revoke", map[string]string{"token": f.server.Reveal()}, nil))
	require.Eventually(t, func() bool {
		err := f.write(f.Client, alice, "elsewhere")
		return err != nil && strings.Contains(err.Error(), "the server's own Vault token")
	}, 10*time.Second, 100*time.Millisecond)
	require.True(t, f.lives(token))
	f.Close()
	f.server = f.serverToken()
	f.again(f.v.Addr)
	f.gone(token)
}
