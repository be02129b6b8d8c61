package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// withEvents gives a stack a change feed, and lets changes of it be published.
func withEvents(t testing.TB) (bus *events.Bus, with change) {
	t.Helper()
	return withFeed(t, events.Options{})
}

func withFeed(t testing.TB, opt events.Options) (bus *events.Bus, with change) {
	t.Helper()
	bus = events.NewMemory(opt)
	t.Cleanup(bus.Close)
	return bus, func(o *server.Options, to *tools.Options) {
		o.Events, to.Events, to.Prefix = bus, bus, "mcp"
	}
}

// changed publishes the change of a secret, by its whole path, and returns when it
// was given out: who subscribes then does not hear of it.
func changed(bus *events.Bus, path string) {
	before := bus.Last()
	publish(bus, path)
	for bus.Last() == before {
		time.Sleep(50 * time.Microsecond)
	}
}

// publish is changed without the wait.
func publish(bus *events.Bus, path string) {
	owner := strings.Join(strings.SplitN(path, "/", 3)[:2], "/")
	bus.Publish(events.Event{Type: events.ResourceChanged, Path: path, Owner: owner, Subject: "x", Tool: "kv.write", Time: time.Now()})
}

// ear is a client that subscribed, or tried to.
type ear struct {
	heard chan string // URIs that it was told changed
	ended chan struct{}
	hush  func()      // hangs up
	acked []string    // by subscriptions/acknowledged
	seen  chan string // the subscription id of each, over 2026-07-28
}

func newEar() *ear {
	return &ear{heard: make(chan string, 10_000), seen: make(chan string, 10_000), ended: make(chan struct{})}
}

// notice is a message of the server to a client that subscribed.
type notice struct {
	Method string `json:"method"`
	ID     json.RawMessage
	Params struct {
		URI           string         `json:"uri"`
		Meta          map[string]any `json:"_meta"`
		Notifications struct {
			ResourceSubscriptions []string `json:"resourceSubscriptions"`
		} `json:"notifications"`
	} `json:"params"`
}

func (e *ear) hear(n notice) {
	if n.Method != "notifications/resources/updated" {
		return
	}
	e.heard <- n.Params.URI
	id, _ := json.Marshal(n.Params.Meta["io.modelcontextprotocol/subscriptionId"])
	e.seen <- string(id)
}

// next is the next URI that it is told of.
func (e *ear) next(t testing.TB) string {
	t.Helper()
	return receive(t, "a change is heard", e.heard)
}

// follow gives the messages of an event stream to an ear, until it ends.
func (e *ear) follow(resp *http.Response, first chan<- notice) {
	defer close(e.ended)
	for r := bufio.NewScanner(resp.Body); r.Scan(); {
		data, ok := strings.CutPrefix(r.Text(), "data: ")
		if !ok {
			continue
		}
		var n notice
		if json.Unmarshal([]byte(data), &n) != nil {
			continue
		}
		if first != nil {
			first <- n
			first = nil
		}
		e.hear(n)
	}
}

// openStream opens a request whose answer is a stream.
func (s *stack) openStream(t testing.TB, method, path, body string, header ...string) (*http.Response, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for ; len(header) > 0; header = header[2:] {
		req.Header.Set(header[0], header[1])
	}
	resp, err := (&http.Client{Transport: s.http.Transport}).Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp, cancel
}

// listenOver opens a subscriptions/listen over HTTP.
func listenOver(t testing.TB, s *stack, key string, id int, uris ...string) *ear {
	t.Helper()
	body := message(t, id, "subscriptions/listen", modernParams(object{"notifications": object{"resourceSubscriptions": uris}}, "t"))
	resp, hush := s.openStream(t, http.MethodPost, "/mcp", body, modernHeaders(key, "subscriptions/listen", "")...)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	e := newEar()
	e.hush = func() { hush(); <-e.ended }
	first := make(chan notice, 1)
	go e.follow(resp, first)
	ack := receive(t, "the acknowledgement", first)
	require.Equal(t, "notifications/subscriptions/acknowledged", ack.Method)
	e.acked = ack.Params.Notifications.ResourceSubscriptions
	t.Cleanup(e.hush)
	return e
}

// ears opens a session's stream, once the server has seen that the last one is gone.
func ears(t testing.TB, c *session) (e *ear) {
	t.Helper()
	eventually(t, "the stream may be opened", func() bool {
		resp, hush := c.s.openStream(t, http.MethodGet, "/mcp", "", c.headers()...)
		if resp.StatusCode != http.StatusOK {
			hush()
			return false
		}
		e = newEar()
		e.hush = func() { hush(); <-e.ended }
		go e.follow(resp, nil)
		return true
	})
	t.Cleanup(e.hush)
	return e
}

// subscribeIn subscribes a session to URIs.
func subscribeIn(t testing.TB, c client, uris ...string) {
	t.Helper()
	for _, uri := range uris {
		r := c.request(t, "resources/subscribe", object{"uri": uri})
		require.Nil(t, r.Error, r.raw)
		require.JSONEq(t, `{}`, string(r.Result), r.raw)
	}
}

// listening reads what a stdio client gets, as far as it hears of changes.
func (c *stdio) listening(t testing.TB) *ear {
	t.Helper()
	e := newEar()
	go func() {
		defer close(e.ended)
		for line := range c.lines {
			var n notice
			if json.Unmarshal([]byte(line), &n) == nil {
				e.hear(n)
			}
		}
	}()
	return e
}

// subscribing are all ways to subscribe.
func subscribing() []struct {
	name string
	open func(t testing.TB, s *stack, key string, uris ...string) *ear
} {
	type way = struct {
		name string
		open func(t testing.TB, s *stack, key string, uris ...string) *ear
	}
	return []way{
		{"legacy http", func(t testing.TB, s *stack, key string, uris ...string) *ear {
			t.Helper()
			c := openSession(t, s, key, "t", legacy)
			e := ears(t, c)
			subscribeIn(t, c, uris...)
			return e
		}},
		{"modern http", func(t testing.TB, s *stack, key string, uris ...string) *ear {
			t.Helper()
			return listenOver(t, s, key, 7, uris...)
		}},
		{"legacy stdio", func(t testing.TB, s *stack, key string, uris ...string) *ear {
			t.Helper()
			c := openStdio(t, s, key, "t")
			c.initialize(t, legacy)
			subscribeIn(t, c, uris...)
			return c.listening(t)
		}},
		{"modern stdio", func(t testing.TB, s *stack, key string, uris ...string) *ear {
			t.Helper()
			c := openStdio(t, s, key, "t")
			c.modern = true
			c.start(t, "subscriptions/listen", object{"notifications": object{"resourceSubscriptions": uris}})
			require.Contains(t, c.line(t).raw, "notifications/subscriptions/acknowledged")
			return c.listening(t)
		}},
	}
}

// hub is a principal whose prefix holds those of all others.
func hub() *auth.Principal {
	p := principal("hub", "cred-hub", auth.AllScopes())
	p.Prefix = "mcp"
	return p
}
