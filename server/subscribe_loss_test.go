package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// A session that loses its stream again and again, in the middle of changes, has
// heard of the last change of everything in the end.
func TestReconnectingSessionHasTheLastChanges(t *testing.T) {
	bus, with := withFeed(t, events.Options{MaxQueue: 64})
	s := listen(t, with)
	c := openSession(t, s, aliceKey, "t", legacy)
	subscribeIn(t, c, "kv://alice/a", "kv://alice/f/", "kv://alice/many/")
	var mu sync.Mutex
	version := map[string]int{} // of each secret, as it is
	read := map[string]int{}    // as the client read it last, on being told
	look := func(uri string) {
		mu.Lock()
		defer mu.Unlock()
		for path, v := range version {
			if name := "kv://alice/" + path; name == uri || strings.HasSuffix(uri, "/") && strings.HasPrefix(name, uri) {
				read[path] = v
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	change := func() {
		path := []string{"a", "f/x", "f/y/z", fmt.Sprint("many/", rng.IntN(200))}[rng.IntN(4)]
		mu.Lock()
		version[path]++
		mu.Unlock()
		changed(bus, "mcp/alice/"+path)
	}
	var last *ear
	for range 60 {
		for range rng.IntN(100) {
			change()
		}
		last = ears(t, c)
		for range rng.IntN(100) {
			change()
		}
		for range rng.IntN(50) { // the client reads a part; the rest is lost with the stream
			select {
			case uri := <-last.heard:
				look(uri)
			case <-time.After(time.Millisecond):
			}
		}
		last.hush()
	}
	last = ears(t, c)
	change()
	eventually(t, "the last change of each", func() bool {
		for {
			select {
			case uri := <-last.heard:
				look(uri)
				continue
			default:
			}
			break
		}
		mu.Lock()
		defer mu.Unlock()
		for path, v := range version {
			if read[path] != v {
				return false
			}
		}
		return true
	})
	require.Greater(t, len(version), 100)
}

// What changes while a session has no stream waits for one, also where more is
// subscribed to meanwhile; what was unsubscribed does not.
func TestChangesWaitForTheStream(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with, func(o *server.Options, _ *tools.Options) { o.Recheck = time.Hour })
	c := openSession(t, s, aliceKey, "t", legacy)
	change := changedByNow(t, bus)
	subscribeIn(t, c, "kv://alice/a", "kv://alice/dropped", "kv://alice/f/")
	change("mcp/alice/a")
	change("mcp/alice/dropped")
	change("mcp/alice/f/x")
	subscribeIn(t, c, "kv://alice/b")
	require.Nil(t, c.request(t, "resources/unsubscribe", object{"uri": "kv://alice/dropped"}).Error)
	change("mcp/alice/b")
	e := ears(t, c)
	require.ElementsMatch(t, []string{"kv://alice/a", "kv://alice/f/x", "kv://alice/b"}, []string{e.next(t), e.next(t), e.next(t)})
	e.hush()

	// It may be that the client never got it: so it is sent again, but for what was
	// unsubscribed.
	require.Nil(t, c.request(t, "resources/unsubscribe", object{"uri": "kv://alice/f/"}).Error)
	e = ears(t, c)
	require.ElementsMatch(t, []string{"kv://alice/a", "kv://alice/b"}, []string{e.next(t), e.next(t)})
	require.Empty(t, e.heard)
}

// Of more changes than are remembered, a session is told by what it subscribed to.
func TestManyChangesOfASession(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with)
	c := openSession(t, s, aliceKey, "t", legacy)
	subscribeIn(t, c, "kv://alice/f/", "kv://alice/quiet")
	for i := range 3000 { // with no stream
		changed(bus, fmt.Sprint("mcp/alice/f/", i))
	}
	everything := func(e *ear) {
		t.Helper()
		heard := map[string]bool{}
		for !heard["kv://alice/f/"] || !heard["kv://alice/quiet"] {
			heard[e.next(t)] = true
		}
	}
	e := ears(t, c)
	everything(e)
	for e.next(t) != "kv://alice/f/2999" { // what still waited
	}
	for i := range 3000 { // and with one
		changed(bus, fmt.Sprint("mcp/alice/f/", i))
		require.Equal(t, fmt.Sprint("kv://alice/f/", i), e.next(t))
	}
	e.hush()
	everything(ears(t, c))
}

// changedByNow publishes changes of alice's, and waits until they are given out.
func changedByNow(t testing.TB, bus *events.Bus) func(path string) {
	t.Helper()
	given := make(chan string, 1)
	sentinel := bus.Subscribe(events.Interest{Roots: []string{"mcp/alice"}, Types: []events.Type{events.ResourceChanged}, Match: func(e *events.Event) bool {
		given <- e.Path
		return false
	}})
	t.Cleanup(sentinel.Close)
	return func(path string) {
		t.Helper()
		changed(bus, path)
		require.Equal(t, path, receive(t, "the change is given out", given))
	}
}

// A change that is about to be told when something else is unsubscribed is told all
// the same, and at once.
func TestUnsubscribeDelaysNothing(t *testing.T) {
	bus, with := withEvents(t)
	p := new(trap)
	s := listen(t, with, recheckNever, func(o *server.Options, _ *tools.Options) {
		check := o.Authenticate
		o.Authenticate = func(ctx context.Context, shown auth.Presented) (*auth.Principal, error) {
			p.pass()
			return check(ctx, shown)
		}
	})
	c := openSession(t, s, aliceKey, "t", legacy)
	e := ears(t, c)
	subscribeIn(t, c, "kv://alice/a", "kv://alice/b")
	changed(bus, "mcp/alice/b")
	require.Equal(t, "kv://alice/b", e.next(t)) // what subscribing has it do is done
	reached, release := p.hold()
	changed(bus, "mcp/alice/a")
	receive(t, "the check before the delivery", reached)
	require.Nil(t, c.request(t, "resources/unsubscribe", object{"uri": "kv://alice/b"}).Error)
	release()
	require.Equal(t, "kv://alice/a", e.next(t))
}
