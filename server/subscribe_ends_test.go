package server_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/server"
	"vault-mcp/tools"
)

func recheckSoon(o *server.Options, _ *tools.Options) { o.Recheck = 5 * time.Millisecond }

// Who may not hear any more hears nothing from then on; a listen ends, and with it
// everything that was there for it.
func TestSubscriptionsEndWithTheRight(t *testing.T) {
	expiring := principal("alice", "cred-1", auth.AllScopes())
	for name, after := range map[string]func() *auth.Principal{
		"revoked":   func() *auth.Principal { return nil },
		"another's": func() *auth.Principal { return principal("bob", "cred-1", auth.AllScopes()) },
		"of another prefix": func() *auth.Principal {
			return &auth.Principal{Slug: "alice", Prefix: "mcp/alice/x", Scopes: auth.AllScopes()}
		},
		"without the scope": func() *auth.Principal { return principal("alice", "cred-1", auth.Scopes{auth.Write}) },
		"expired":           func() *auth.Principal { e := *expiring; e.ExpiresAt = time.Now(); return &e },
	} {
		for _, way := range subscribing() {
			t.Run(way.name+" "+name, func(t *testing.T) {
				bus, with := withEvents(t)
				s := listen(t, with, recheckSoon)
				e := way.open(t, s, aliceKey, "kv://alice/a", "kv://alice/b/")
				changed(bus, "mcp/alice/a")
				require.Equal(t, "kv://alice/a", e.next(t))
				s.keys.set(aliceKey, after())
				if way.name == "modern http" {
					receive(t, "the end of the stream", e.ended)
				}
				eventually(t, "nothing is left", func() bool { return bus.Subscribers() == 0 })
				changed(bus, "mcp/alice/a")
				time.Sleep(20 * time.Millisecond)
				require.Empty(t, e.heard)
			})
		}
	}
}

// The check stands before each notification, not only now and then.
func TestRightIsCheckedAtEachDelivery(t *testing.T) {
	for _, way := range subscribing() {
		t.Run(way.name, func(t *testing.T) {
			bus, with := withEvents(t)
			s := listen(t, with, func(o *server.Options, _ *tools.Options) { o.Recheck = time.Hour })
			e := way.open(t, s, aliceKey, "kv://alice/a")
			changed(bus, "mcp/alice/a")
			require.Equal(t, "kv://alice/a", e.next(t))
			s.keys.set(aliceKey, nil)
			changed(bus, "mcp/alice/a")
			eventually(t, "nothing is left", func() bool { return bus.Subscribers() == 0 })
			require.Empty(t, e.heard)
		})
	}
}

// A session whose credential was renewed is told of what it may have missed.
func TestSubscriptionsComeBackWithTheRight(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with, recheckSoon)
	c := openSession(t, s, aliceKey, "t", legacy)
	e := ears(t, c)
	subscribeIn(t, c, "kv://alice/a", "kv://alice/b/")
	s.keys.set(aliceKey, nil)
	receive(t, "the end of the stream", e.ended)
	eventually(t, "nothing is heard", func() bool { return bus.Subscribers() == 0 })
	changed(bus, "mcp/alice/a")
	c.key = alice2Key // the same principal's
	e = ears(t, c)
	require.ElementsMatch(t, []string{"kv://alice/a", "kv://alice/b/"}, []string{e.next(t), e.next(t)})
	changed(bus, "mcp/alice/b/c")
	require.Equal(t, "kv://alice/b/c", e.next(t))
}

// Whatever ends a subscription leaves nothing behind, and gives its room back.
func TestSubscriptionsEnd(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with, func(o *server.Options, _ *tools.Options) { o.MaxSubscriptions = 2 })
	gone := func() {
		t.Helper()
		eventually(t, "nothing is left", func() bool { return bus.Subscribers() == 0 })
	}
	for range 3 {
		c := openSession(t, s, aliceKey, "t", legacy)
		e := ears(t, c)
		subscribeIn(t, c, "kv://alice/a", "kv://alice/a", "kv://alice/b")
		require.Equal(t, 1, bus.Subscribers())
		for _, uri := range []string{"kv://alice/a", "kv://alice/a", "kv://alice/never", "no uri"} {
			require.Nil(t, c.request(t, "resources/unsubscribe", object{"uri": uri}).Error)
		}
		changed(bus, "mcp/alice/a")
		changed(bus, "mcp/alice/b")
		require.Equal(t, "kv://alice/b", e.next(t))
		require.Nil(t, c.request(t, "resources/unsubscribe", object{"uri": "kv://alice/b"}).Error)
		gone()
		subscribeIn(t, c, "kv://alice/a", "kv://alice/c")
		require.Equal(t, http.StatusNoContent, s.do(t, http.MethodDelete, "/mcp", "", c.headers()...).status)
		gone()
		receive(t, "the end of the stream", e.ended)
	}
	for range 3 {
		e := listenOver(t, s, aliceKey, 1, "kv://alice/a", "kv://alice/a", "kv://alice/b")
		require.Equal(t, 1, bus.Subscribers())
		e.hush()
		gone()
	}
	c := openSession(t, s, aliceKey, "t", legacy)
	for range 3 { // what is refused takes no room
		r := (&modernHTTP{s: s, key: aliceKey, name: "t"}).request(t, "subscriptions/listen",
			object{"notifications": object{"resourceSubscriptions": []string{"kv://alice/a", "kv://bob/a"}}})
		require.Equal(t, "forbidden", r.refusal(t).Code)
		require.Equal(t, "forbidden", c.request(t, "resources/subscribe", object{"uri": "kv://bob/a"}).refusal(t).Code)
	}
	gone()
	listenOver(t, s, aliceKey, 1, "kv://alice/a", "kv://alice/b")
	require.NoError(t, s.waitStopped(t))
	gone()
}

func TestUnsubscribeNeedsACredential(t *testing.T) {
	_, with := withEvents(t)
	s := listen(t, with)
	c := openSession(t, s, aliceKey, "t", legacy)
	subscribeIn(t, c, "kv://alice/a")
	c.key = bobKey // a session has one owner
	require.Equal(t, http.StatusForbidden, c.request(t, "resources/unsubscribe", object{"uri": "kv://alice/a"}).status)
	require.Equal(t, http.StatusForbidden, c.request(t, "resources/subscribe", object{"uri": "kv://bob/a"}).status)

	var over atomic.Bool
	conn := serveStdio(t, s, "t", func(context.Context) (*auth.Principal, error) {
		p := principal("alice", "cred", auth.AllScopes())
		if over.Load() {
			p.ExpiresAt = time.Now()
		}
		return p, nil
	})
	conn.initialize(t, legacy)
	before := len(s.records(t, audit.Reject))
	r := conn.request(t, "resources/unsubscribe", object{"uri": "kv://alice/a"})
	require.Nil(t, r.Error, r.raw)
	over.Store(true)
	r = conn.request(t, "resources/unsubscribe", object{"uri": "kv://alice/a"})
	require.NotNil(t, r.Error, r.raw)
	require.Equal(t, "unauthenticated", s.rejected(t, before).Outcome)
}

// The room for subscriptions is bounded: of a session, of a principal, and in all.
func TestRoomForSubscriptions(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with, func(o *server.Options, _ *tools.Options) {
		o.MaxSubscriptionsPerPrincipal, o.MaxSubscriptions = 102, 104
	})
	refused := func(r reply, code string) {
		t.Helper()
		require.NotNil(t, r.Error, r.raw)
		require.Equal(t, code, r.refusal(t).Code)
	}
	listenOnce := func(key string, uris ...string) reply {
		t.Helper()
		return (&modernHTTP{s: s, key: key, name: "t"}).request(t, "subscriptions/listen", object{"notifications": object{"resourceSubscriptions": uris}})
	}
	c := openSession(t, s, aliceKey, "t", legacy)
	for i := range 100 {
		subscribeIn(t, c, "kv://alice/s"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	}
	before := len(s.records(t, audit.Reject))
	refused(c.request(t, "resources/subscribe", object{"uri": "kv://alice/more"}), "invalid")
	require.Equal(t, "invalid", s.rejected(t, before).Outcome)
	subscribeIn(t, c, "kv://alice/saa") // has it already

	refused(listenOnce(aliceKey, "kv://alice/a", "kv://alice/b", "kv://alice/c"), "rate_limited")
	require.Equal(t, "rate_limited", s.rejected(t, before+1).Outcome)
	refused(listenOnce(alice2Key, "kv://alice/a", "kv://alice/b", "kv://alice/c"), "rate_limited")
	listenOver(t, s, alice2Key, 1, "kv://alice/a", "kv://alice/b")
	refused(listenOnce(bobKey, "kv://bob/a", "kv://bob/b", "kv://bob/c"), "unavailable")
	listenOver(t, s, bobKey, 1, "kv://bob/a", "kv://bob/b")
	require.Equal(t, 3, bus.Subscribers())
}

// A session that does nothing but hear of changes is in use: it does not time out,
// as others do.
func TestListeningSessionStays(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with, func(o *server.Options, _ *tools.Options) { o.SessionTimeout = 200 * time.Millisecond })
	idle := openSession(t, s, aliceKey, "t", legacy)
	idles := ears(t, idle)
	c := openSession(t, s, aliceKey, "t", legacy)
	e := ears(t, c)
	subscribeIn(t, c, "kv://alice/a")
	receive(t, "the end of the idle session", idles.ended)
	time.Sleep(500 * time.Millisecond)
	changed(bus, "mcp/alice/a")
	require.Equal(t, "kv://alice/a", e.next(t))
	e.hush()
	eventually(t, "it ends without its stream", func() bool { return bus.Subscribers() == 0 })
}
