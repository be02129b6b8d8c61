package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// Tenants hear nothing of each other, whatever they subscribe to; a hub hears of
// all.
func TestTenantsHearNothingOfEachOther(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with)
	s.keys.set("hub", hub())
	for _, way := range subscribing() {
		t.Run(way.name, func(t *testing.T) {
			e := way.open(t, s, bobKey, "kv://bob/", "kv://bob/a", "kv://bob/alice/", "kv://bob/mcp/alice/", "kv://bob/mcp/alice/a")
			all := way.open(t, s, "hub", "kv://alice/", "kv://hub/")
			for _, path := range []string{"mcp/alice/a", "mcp/bobby/a", "mcp/bo", "mcp/alice/bob/a", "other/bob/a"} {
				changed(bus, path)
			}
			changed(bus, "mcp/bob/last")
			require.Equal(t, "kv://bob/last", e.next(t))
			require.Empty(t, e.heard)
			heard := map[string]bool{}
			for !heard["kv://hub/bob/last"] {
				heard[all.next(t)] = true
			}
			require.Equal(t, map[string]bool{
				"kv://alice/a": true, "kv://hub/alice/a": true, "kv://hub/bobby/a": true, "kv://hub/bo": true,
				"kv://alice/bob/a": true, "kv://hub/alice/bob/a": true, "kv://hub/bob/last": true,
			}, heard)
		})
	}
}

// Where the feed may have missed something, each URI that is subscribed to counts
// as changed.
func TestGapIsToldAsChanges(t *testing.T) {
	for _, way := range subscribing() {
		t.Run(way.name, func(t *testing.T) {
			bus, with := withFeed(t, events.Options{MaxWaiting: 1})
			s := listen(t, with)
			asked := []string{"kv://alice/a", "kv://alice/b", "kv://alice/c/"}
			e := way.open(t, s, aliceKey, asked...)
			heard := map[string]bool{}
			for start := time.Now(); !heard["kv://alice/a"] || !heard["kv://alice/b"] || !heard["kv://alice/c/"]; {
				require.Less(t, time.Since(start), patience, "heard %v", heard)
				for range 100 { // more than there is room for
					publish(bus, "mcp/bob/x")
				}
				select {
				case uri := <-e.heard:
					heard[uri] = true
				case <-time.After(time.Millisecond):
				}
			}
			require.Len(t, heard, len(asked))
		})
	}
}

// The URI is told as it was written.
func TestSpellingOfTheSubscription(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with)
	s.keys.set("mail", principal("a@b", "cred-5", auth.AllScopes()))
	e := listenOver(t, s, "mail", 1, "kv://a%40b/x", "kv://a@b/y/")
	require.ElementsMatch(t, []string{"kv://a%40b/x", "kv://a@b/y/"}, e.acked)
	changed(bus, "mcp/a@b/x")
	require.Equal(t, "kv://a%40b/x", e.next(t))
	changed(bus, "mcp/a@b/y/z")
	require.Equal(t, "kv://a@b/y/z", e.next(t))
}

// Several listens on one connection are each told under their own id, and end each
// for itself.
func TestListensOfOneStdioClient(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with)
	c := openStdio(t, s, aliceKey, "t")
	c.modern = true
	notifications := func(uris ...string) object {
		return object{"notifications": object{"resourceSubscriptions": uris}}
	}
	expect := func(method string, id any, uri string) {
		t.Helper()
		var n notice
		require.NoError(t, json.Unmarshal([]byte(c.line(t).raw), &n))
		require.Equal(t, method, n.Method)
		require.EqualValues(t, id, n.Params.Meta["io.modelcontextprotocol/subscriptionId"])
		require.Equal(t, uri, n.Params.URI)
	}
	const acked, updated = "notifications/subscriptions/acknowledged", "notifications/resources/updated"
	c.start(t, "subscriptions/listen", notifications("kv://alice/a", "kv://alice/both"))
	expect(acked, 1, "")
	c.send(t, message(t, "two", "subscriptions/listen", modernParams(notifications("kv://alice/b", "kv://alice/both"), "t")))
	expect(acked, "two", "")
	changed(bus, "mcp/alice/a")
	expect(updated, 1, "kv://alice/a")
	changed(bus, "mcp/alice/b")
	expect(updated, "two", "kv://alice/b")
	require.Equal(t, 2, bus.Subscribers())

	c.send(t, message(t, nil, "notifications/cancelled", object{"requestId": 1}))
	eventually(t, "the first has ended", func() bool { return bus.Subscribers() == 1 })
	changed(bus, "mcp/alice/a")
	changed(bus, "mcp/alice/both")
	expect(updated, "two", "kv://alice/both") // and no answer to what was cancelled

	s.keys.set(aliceKey, nil)
	changed(bus, "mcp/alice/b")
	r := c.line(t)
	require.Equal(t, `"two"`, string(r.ID))
	require.Equal(t, "two", r.result(t)["_meta"].(object)["io.modelcontextprotocol/subscriptionId"])
	require.Zero(t, bus.Subscribers())
}

// At shutdown a listen ends with its result.
func TestListenEndsWithItsResult(t *testing.T) {
	_, with := withEvents(t)
	s := listen(t, with)
	body := message(t, 7, "subscriptions/listen", modernParams(object{"notifications": object{"resourceSubscriptions": []string{"kv://alice/a"}}}, "t"))
	resp, _ := s.openStream(t, "POST", "/mcp", body, modernHeaders(aliceKey, "subscriptions/listen", "")...)
	ch := lines(resp)
	require.Equal(t, "event: message", receive(t, "the acknowledgement", ch))
	require.Contains(t, receive(t, "the acknowledgement", ch), `"notifications/subscriptions/acknowledged"`)
	require.NoError(t, s.waitStopped(t))
	require.Equal(t, "event: message", receive(t, "the result", ch))
	data, _ := strings.CutPrefix(receive(t, "the result", ch), "data: ")
	var r reply
	require.NoError(t, json.Unmarshal([]byte(data), &r))
	require.EqualValues(t, 7, r.result(t)["_meta"].(object)["io.modelcontextprotocol/subscriptionId"])
	end(t, ch)
}

// A client that takes nothing delays nobody, and is cut off and counted: soon, since
// a write that waits for it is no time to look at its credential, and however long
// the client of another answer may take.
func TestStuckSubscribersDelayNobody(t *testing.T) {
	const deadline = 2 * time.Second
	bus, with := withEvents(t)
	s := listen(t, with, func(o *server.Options, _ *tools.Options) { o.WriteTimeout = time.Hour })
	stuck := func(head, body string, headers []string) {
		t.Helper()
		conn := s.dial(t)
		require.NoError(t, conn.SetReadBuffer(4096))
		head += " /mcp HTTP/1.1\r\nHost: localhost\r\n"
		for ; len(headers) > 0; headers = headers[2:] {
			head += headers[0] + ": " + headers[1] + "\r\n"
		}
		if body != "" {
			head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		_, err := io.WriteString(conn, head+"\r\n"+body)
		require.NoError(t, err)
	}
	// Long names, so that what the kernel keeps for a client is full soon.
	long := strings.Repeat("x", 100)
	folder := "kv://alice/" + strings.Repeat(long+"/", 3)
	c := openSession(t, s, aliceKey, "t", legacy)
	stuck("GET", "", c.headers())
	subscribeIn(t, c, folder)
	stuck("POST", message(t, 1, "subscriptions/listen", modernParams(object{"notifications": object{"resourceSubscriptions": []string{folder}}}, "t")),
		modernHeaders(aliceKey, "subscriptions/listen", ""))
	eventually(t, "both are subscribed", func() bool { return bus.Subscribers() == 2 })
	fast := listenOver(t, s, aliceKey, 1, "kv://alice/fast")

	path := "mcp/alice/" + strings.Repeat(long+"/", 3)
	cutOff := func() bool {
		return s.CutOff() == 2 && bus.Subscribers() == 2
	}
	slowest := time.Duration(0)
	for i, start := 0, time.Now(); !cutOff(); i++ {
		require.Less(t, time.Since(start), patience, "nobody is cut off")
		for j := range 500 {
			changed(bus, fmt.Sprint(path, i, "-", j))
		}
		asked := time.Now()
		changed(bus, "mcp/alice/fast")
		require.Equal(t, "kv://alice/fast", fast.next(t))
		slowest = max(slowest, time.Since(asked))
	}
	require.Less(t, slowest, deadline, "others waited for it")
	require.Equal(t, 1, s.logs.FilterMessage("clients were cut off that took nothing").Len())
}

// An older revision has no subscriptions/listen, and a plain request no session.
func TestListenIsOfTheNewRevision(t *testing.T) {
	_, with := withEvents(t)
	s := listen(t, with)
	before := 0
	for _, way := range everyWay() {
		if strings.HasPrefix(way.name, "modern") || way.name == "rpc" {
			continue
		}
		r := way.open(t, s, aliceKey, "t").request(t, "subscriptions/listen", object{"notifications": object{"resourceSubscriptions": []string{"kv://alice/a"}}})
		require.NotNil(t, r.Error, r.raw)
		require.Equal(t, -32601, r.Error.Code)
		require.Equal(t, "not_found", s.rejected(t, before).Outcome)
		before++
	}
	r := (&rpcHTTP{s: s, key: aliceKey}).request(t, "resources/subscribe", object{"uri": "kv://alice/a"})
	require.NotNil(t, r.Error, r.raw)
	require.Equal(t, "invalid", s.rejected(t, before).Outcome)
}
