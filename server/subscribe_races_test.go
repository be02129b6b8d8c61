package server_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// trap has something happen where the server passes the next time after it was set.
type trap struct{ set atomic.Pointer[func()] }

func (p *trap) pass() {
	if do := p.set.Swap(nil); do != nil {
		(*do)()
	}
}

// hold has the server wait there until it is let go.
func (p *trap) hold() (reached <-chan struct{}, release func()) {
	at, done := make(chan struct{}), make(chan struct{})
	do := func() { close(at); <-done }
	p.set.Store(&do)
	return at, func() { close(done) }
}

// trappedClock is a trap in the pipeline's clock, by which each request for a
// subscription passes.
func trappedClock(p *trap) change {
	return func(_ *server.Options, to *tools.Options) {
		to.Now = func() time.Time { p.pass(); return time.Now() }
	}
}

func recheckNever(o *server.Options, _ *tools.Options) { o.Recheck = time.Hour }

// A panic where a subscription is looked at takes no room, and stands in the way of
// no other.
func TestPanicLeavesRoom(t *testing.T) {
	_, with := withEvents(t)
	p := new(trap)
	s := listen(t, with, recheckNever, trappedClock(p), func(o *server.Options, _ *tools.Options) { o.MaxSubscriptions = 1 })
	c := openSession(t, s, aliceKey, "t", legacy)
	fails := func() { panic(marked) }
	p.set.Store(&fails)
	r := c.request(t, "resources/subscribe", object{"uri": "kv://alice/a"})
	require.Equal(t, "internal", r.refusal(t).Code)
	subscribeIn(t, c, "kv://alice/a")
	require.Nil(t, c.request(t, "resources/unsubscribe", object{"uri": "kv://alice/a"}).Error)

	p.set.Store(&fails)
	r = (&modernHTTP{s: s, key: aliceKey}).request(t, "subscriptions/listen", object{"notifications": object{"resourceSubscriptions": []string{"kv://alice/a"}}})
	require.Equal(t, "internal", r.refusal(t).Code)
	listenOver(t, s, aliceKey, 1, "kv://alice/b")
	s.unheard(t, marked)
}

// Over stdio, too, nothing is told any more when serving has ended.
func TestStdioEndsWithItsSubscriptions(t *testing.T) {
	bus, with := withEvents(t)
	p := new(trap)
	s := listen(t, with, recheckNever)
	c := serveStdio(t, s, "t", func(ctx context.Context) (*auth.Principal, error) {
		p.pass()
		return s.keys.authenticate(ctx, auth.Presented{Header: http.Header{"X-Api-Key": {aliceKey}}})
	})
	c.initialize(t, legacy)
	subscribeIn(t, c, "kv://alice/a")
	changed(bus, "mcp/alice/a")
	require.Contains(t, c.line(t).raw, "kv://alice/a")
	reached, release := p.hold()
	changed(bus, "mcp/alice/a")
	receive(t, "the check before the delivery", reached)
	time.AfterFunc(200*time.Millisecond, release)
	c.stop()
	require.NoError(t, c.stopped(t))
	require.Zero(t, bus.Subscribers())
}
