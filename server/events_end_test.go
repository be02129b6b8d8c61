package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// A stream ends within five seconds of what ends its right to be, with one record
// of it: here with the waiting times as they are by default.
func TestEventsEndWithRights(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	cases := map[string]struct {
		after *auth.Principal
		kind  string
	}{
		"revoked":               {nil, "unauthenticated"},
		"another's":             {principal("bob", "cred-1", auth.AllScopes()), "unauthenticated"},
		"another of its prefix": {&auth.Principal{Slug: "alice2", Prefix: "mcp/alice", Scopes: auth.AllScopes()}, "unauthenticated"},
		"moved":                 {&auth.Principal{Slug: "alice", Prefix: "mcp/else", Scopes: auth.AllScopes()}, "unauthenticated"},
		"may no longer list":    {principal("alice", "cred-1", auth.Scopes{auth.Read}), "forbidden"},
	}
	open := make(map[string]*follower)
	for name := range cases {
		s.keys.set(name, principal("alice", "cred-1", auth.AllScopes()))
		open[name] = follow(t, s, name, "").placed(t)
	}
	start := time.Now()
	for name, tc := range cases {
		s.keys.set(name, tc.after)
	}
	for name, f := range open {
		f.ends(t)
		require.Less(t, time.Since(start), 5*time.Second, name)
	}
	ended := make(map[string]string) // by request
	for _, rec := range s.records(t, audit.Reject) {
		require.Empty(t, ended[rec.RequestID])
		ended[rec.RequestID] = rec.Outcome
	}
	for name, f := range open {
		require.Equal(t, cases[name].kind, ended[f.resp.Header.Get("X-Request-Id")], name)
	}
}

// Nothing is delivered after the right to hear it has gone, however short ago.
func TestEventsAreAuthorisedAtDelivery(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) { o.Recheck = time.Hour })
	f := follow(t, s, aliceKey, "").placed(t)
	s.write(t, aliceKey, "heard")
	require.Equal(t, "kv://alice/heard", f.event(t).fields(t)["uri"])
	require.Equal(t, "tool.completed", f.event(t).event)
	s.keys.set(aliceKey, nil)
	s.write(t, alice2Key, "unheard")
	f.ends(t)
}

func TestEventsEndAtExpiry(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) { o.Recheck = time.Hour })
	dying := principal("alice", "cred-9", auth.AllScopes())
	dying.ExpiresAt = time.Now().Add(1100 * time.Millisecond)
	s.keys.set("dying", dying)
	f := follow(t, s, "dying", "").placed(t)
	f.ends(t)
	late := time.Since(dying.ExpiresAt)
	require.GreaterOrEqual(t, late, time.Duration(0), "ended before its time")
	require.Less(t, late, time.Second)
}

func TestEventsEndAtShutdown(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), patient)
	f := follow(t, s, aliceKey, "").placed(t)
	done := make(chan reply, 1)
	go func() { done <- call(t, &rpcHTTP{s: s, key: bobKey}, "kv.read", object{"path": "slow"}) }()
	receive(t, "the call at Vault", s.vault.asked)
	s.stop()
	f.ends(t) // though the call goes on
	require.Empty(t, done)
	s.vault.let()
	require.NotContains(t, receive(t, "the answer", done).result(t), "isError")
	require.NoError(t, s.waitStopped(t))
}

// A stream that is ended has an end, also one on which nothing was written for
// longer than a write may take: it does not look like a connection that broke.
func TestEventsEndAsStreamsDo(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) {
		o.WriteTimeout = 100 * time.Millisecond
	})
	resp, err := s.http.Do(request(t, s.url+"/events", aliceKey))
	require.NoError(t, err)
	defer resp.Body.Close()
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, s.waitStopped(t))
	_, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
}

func TestEventsAreCapped(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) {
		o.MaxSubscribers, o.MaxSubscribersPerPrincipal = 3, 2
	})
	s.keys.set("carol", principal("carol", "cred-4", auth.AllScopes()))
	first := follow(t, s, aliceKey, "")
	follow(t, s, alice2Key, "")
	before := len(s.records(t, audit.Reject))
	r := s.do(t, http.MethodGet, "/events", "", "X-API-Key", aliceKey)
	require.Equal(t, http.StatusTooManyRequests, r.status, "two keys of a principal share its bound")
	require.NotEmpty(t, r.header.Get("Retry-After"))
	require.Equal(t, "rate_limited", s.rejected(t, before).Outcome)
	follow(t, s, bobKey, "")
	r = s.do(t, http.MethodGet, "/events", "", "X-API-Key", "carol")
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.NotEmpty(t, r.header.Get("Retry-After"))
	first.close() // makes room
	eventually(t, "there is room", func() bool {
		resp, err := s.http.Do(request(t, s.url+"/events", "carol"))
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	openSession(t, s, aliceKey, "test", legacy) // sessions have room of their own
}

// A client that takes nothing is cut off when the kernel keeps no more for it, and
// neither who publishes nor other subscribers wait for it.
func TestEventsClientThatDoesNotRead(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) {
		o.WriteTimeout, o.MaxConnections = 200*time.Millisecond, 100
	})
	f := follow(t, s, aliceKey, "type=resource.changed").placed(t)
	conn := s.dial(t)
	require.NoError(t, conn.SetReadBuffer(4096))
	_, err := io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: "+aliceKey+"\r\n\r\n")
	require.NoError(t, err)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for range f.blocks {
		}
	}()
	e := events.Event{Type: events.ResourceChanged, Path: "mcp/alice/" + strings.Repeat("x/", 200) + "x", Owner: "mcp/alice", Subject: "alice", Tool: "kv.write", Time: time.Now()}
	eventually(t, "it has been cut off", func() bool {
		for range 100 {
			start := time.Now()
			s.opt.Events.Publish(e)
			require.Less(t, time.Since(start), time.Second)
		}
		return s.CutOff() == 1
	})
	entries := s.logs.FilterMessage("clients were cut off that took nothing").All()
	require.Len(t, entries, 1)
	ended := s.logs.FilterField(zap.String("request_id", entries[0].ContextMap()["last_request_id"].(string))).FilterMessage("events: ended")
	require.Equal(t, 1, ended.Len(), "it can be looked up who that was")
	require.Equal(t, "alice", ended.All()[0].ContextMap()["subject"])
	f.close()
	<-heard
}

// Who reads, but slower than there is to hear, is told so, and goes on.
func TestEventsClientThatIsSlow(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{MaxQueue: 4}))
	f := follow(t, s, aliceKey, "type=resource.changed").placed(t)
	e := events.Event{Type: events.ResourceChanged, Owner: "mcp/alice", Subject: "alice", Tool: "kv.write", Time: time.Now()}
	for i := range 998 { // the last few come after a gap
		e.Path = numbered("mcp/alice/x", i)
		s.opt.Events.Publish(e)
	}
	s.write(t, aliceKey, "last")
	ids := events.NewIDs(s.opt.Key, "alice")
	var at events.Position // of what was last read
	last, told := -1, false
	for {
		b := f.event(t)
		next, ok := ids.Parse(b.id)
		require.True(t, ok)
		require.True(t, next.After(at), "who resumes from here misses nothing and has nothing twice")
		at = next
		switch {
		case b.event == "resync":
			require.Equal(t, "missed", b.fields(t)["reason"])
			told = true
			continue
		case b.fields(t)["uri"] == "kv://alice/last":
			require.True(t, told || last == 997)
			return
		}
		i := atoi(t, strings.TrimPrefix(b.fields(t)["uri"].(string), "kv://alice/x"))
		require.True(t, told || i == last+1, "%d after %d, and nothing was said", i, last)
		last, told = i, false
	}
}

func TestEventsOverHTTP2(t *testing.T) {
	s := listenTLS(t, server.TLSOptions{}, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) {
		o.WriteTimeout, o.KeepAlive = 100*time.Millisecond, 250*time.Millisecond
	})
	var all []*follower
	for range 5 {
		f := follow(t, s.stack, aliceKey, "").placed(t)
		require.Equal(t, 2, f.resp.ProtoMajor)
		all = append(all, f)
	}
	for _, f := range all {
		require.Equal(t, "keep-alive", f.block(t).comment)
		require.Equal(t, "keep-alive", f.block(t).comment) // no deadline of a write ends what is idle
	}
	s.write(t, aliceKey, "x")
	for _, f := range all {
		require.Equal(t, "kv://alice/x", f.event(t).fields(t)["uri"])
	}
	s.keys.set(aliceKey, nil)
	for _, f := range all {
		late := time.After(patience)
		for more := true; more; { // what was said before comes first
			var b block
			select {
			case b, more = <-f.blocks:
				require.NotEqual(t, "resource.changed", b.event)
			case <-late:
				t.Fatal("the stream does not end")
			}
		}
	}
}

// A page of an allowed origin may read the stream, and sets what it needs to.
func TestEventsForAPage(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) { o.AllowedOrigins = []string{"https://app.example"} })
	r := s.do(t, http.MethodOptions, "/events", "", "Origin", "https://app.example",
		"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "last-event-id,x-api-key")
	require.Equal(t, http.StatusNoContent, r.status)
	require.Equal(t, "https://app.example", r.header.Get("Access-Control-Allow-Origin"))
	f := follow(t, s, aliceKey, "", "Origin", "https://app.example")
	require.Equal(t, "https://app.example", f.resp.Header.Get("Access-Control-Allow-Origin"))
}

// A storm of clients that come again with ids of long ago, of others and of nobody
// is answered, each with a resync, and leaves nothing behind.
func TestEventsReconnectStorm(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{MaxOfOwner: 8}), func(o *server.Options, _ *tools.Options) {
		o.MaxSubscribersPerPrincipal = 1000
	})
	old := follow(t, s, aliceKey, "").placed(t).lastID
	for i := range 20 {
		s.write(t, aliceKey, numbered("x", i))
	}
	const clients, times = 16, 20
	done := make(chan int, clients)
	for i := range clients {
		asked := request(t, s.url+"/events", aliceKey)
		go func() {
			resyncs := 0
			for j := range times {
				id := old
				if (i+j)%3 == 0 {
					id = strings.Repeat("A", 22)
				}
				req := asked.Clone(asked.Context())
				req.Header.Set("Last-Event-Id", id)
				resp, err := s.http.Do(req)
				if err != nil {
					break
				}
				readBlocks(resp.Body, func(b block) {
					if b.event == "resync" {
						resyncs++
						_ = resp.Body.Close()
					}
				})
				_ = resp.Body.Close()
			}
			done <- resyncs
		}()
	}
	for range clients {
		require.Equal(t, times, receive(t, "a client", done))
	}
}
