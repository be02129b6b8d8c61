package server_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

func TestEventsAreTold(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	for _, path := range []string{"/events", "/mcp/sse"} {
		t.Run(path, func(t *testing.T) {
			before := len(s.records(t, audit.Outcome))
			f := follow(t, s, aliceKey, "type=resource.changed")
			h := f.resp.Header
			require.Equal(t, "text/event-stream", h.Get("Content-Type"))
			require.Equal(t, "no-store", h.Get("Cache-Control"))
			require.Equal(t, "no", h.Get("X-Accel-Buffering"))
			require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
			f.placed(t)
			rec := s.records(t, audit.Outcome)[before]
			require.Equal(t, "alice", rec.Subject)
			require.Equal(t, "events", rec.Transport)
			require.Equal(t, h.Get("X-Request-Id"), rec.RequestID)

			s.write(t, aliceKey, "app/db")
			b := f.event(t)
			require.Equal(t, "resource.changed", b.event)
			got := b.fields(t)
			at, err := time.Parse(time.RFC3339Nano, got["time"].(string))
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), at, patience)
			delete(got, "time")
			delete(got, "id")
			require.Equal(t, object{"uri": "kv://alice/app/db", "subject": "alice", "tool": "kv.write", "version": 1.0}, got)
			f.close()
		})
	}
	s.unheard(t, marked)
}

func TestEventsOfBothTypes(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	f := follow(t, s, aliceKey, "").placed(t)
	s.write(t, aliceKey, "x")
	require.Equal(t, "resource.changed", f.event(t).event)
	b := f.event(t)
	require.Equal(t, "tool.completed", b.event)
	require.Equal(t, "kv.write", b.fields(t)["tool"])
	require.Equal(t, true, b.fields(t)["ok"])
}

// Each hears its own, a hub hears all below it, and nobody by a name of another's.
func TestEventsOfOthers(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	s.keys.set("hub", hub())
	alice, bob := follow(t, s, aliceKey, "").placed(t), follow(t, s, bobKey, "").placed(t)
	all := follow(t, s, "hub", "type=resource.changed").placed(t)
	some := follow(t, s, "hub", uris("kv://alice/app/")).placed(t)
	s.write(t, aliceKey, "app/x")
	s.write(t, "hub", "bob/y") // below bob's prefix
	s.write(t, aliceKey, "app/z")

	require.Equal(t, "kv://alice/app/x", alice.event(t).fields(t)["uri"])
	require.Equal(t, "kv://alice/app/x", all.event(t).fields(t)["uri"])
	require.Equal(t, "kv://bob/y", all.event(t).fields(t)["uri"])
	require.Equal(t, "kv://alice/app/z", all.event(t).fields(t)["uri"])
	require.Equal(t, "kv://alice/app/x", some.event(t).fields(t)["uri"])
	require.Equal(t, "kv://alice/app/z", some.event(t).fields(t)["uri"])
	got := bob.event(t)
	require.Equal(t, "kv://bob/y", got.fields(t)["uri"])
	require.Equal(t, "hub", got.fields(t)["subject"])
	require.Empty(t, bob.blocks)

	for _, uri := range []string{"kv://bob/app/x", "kv://alice/../bob/x", "kv://alice/%2e%2e/bob/x", "kv:alice/x", "vault://alice/x", "kv://alice/x?version=1", "kv://ALICE/x", "file:///etc/passwd"} {
		before := len(s.records(t, audit.Outcome))
		r := s.do(t, http.MethodGet, "/events?"+uris(uri), "", "X-API-Key", aliceKey)
		require.Contains(t, []int{http.StatusBadRequest, http.StatusForbidden}, r.status, uri)
		require.NotContains(t, r.raw, uri)
		require.Len(t, s.records(t, audit.Outcome), before+1, "one record")
	}
}

func TestEventsOfASecretAndAFolder(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	f := follow(t, s, aliceKey, uris("kv://alice/one", "kv://alice/dir/")).placed(t)
	for _, path := range []string{"one/more", "other", "one", "direct", "dir", "dir/a/b"} {
		s.write(t, aliceKey, path)
	}
	require.Equal(t, "kv://alice/one", f.event(t).fields(t)["uri"])
	require.Equal(t, "kv://alice/dir/a/b", f.event(t).fields(t)["uri"])
	require.Empty(t, f.blocks)
}

// What is wrong with a request is told before anything else, with one record of it.
func TestEventsRefused(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) { o.AllowedOrigins = []string{"https://app.example"} })
	s.keys.set("writer", principal("writer", "cred-w", auth.Scopes{"kv:write"}))
	for name, tc := range map[string]struct {
		method, query string
		header        []string
		status        int
	}{
		"HEAD":              {http.MethodHead, "", []string{"X-API-Key", aliceKey}, 405},
		"POST":              {http.MethodPost, "", []string{"X-API-Key", aliceKey}, 405},
		"no credential":     {http.MethodGet, "", nil, 401},
		"a wrong one":       {http.MethodGet, "", []string{"X-API-Key", marked}, 401},
		"an unknown filter": {http.MethodGet, "?types=" + marked, []string{"X-API-Key", aliceKey}, 400},
		"an unknown type":   {http.MethodGet, "?type=" + marked, []string{"X-API-Key", aliceKey}, 400},
		"two last ids":      {http.MethodGet, "?last_event_id=a&last_event_id=b", []string{"X-API-Key", aliceKey}, 400},
		"two headers":       {http.MethodGet, "", []string{"X-API-Key", aliceKey, "Last-Event-ID", "a", "Last-Event-ID", "b"}, 400},
		"a bad query":       {http.MethodGet, "?uri=%zz" + marked, []string{"X-API-Key", aliceKey}, 400},
		"another's page":    {http.MethodGet, "", []string{"X-API-Key", aliceKey, "Origin", "https://evil.example"}, 403},
		"another's host":    {http.MethodGet, "", []string{"X-API-Key", aliceKey, "Host", "evil.example"}, 403},
		"may not read":      {http.MethodGet, "?" + uris("kv://writer/x"), []string{"X-API-Key", "writer"}, 403},
		"may not list":      {http.MethodGet, "", []string{"X-API-Key", "writer"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.records(t, audit.Reject)) + len(s.records(t, audit.Outcome))
			r := s.do(t, tc.method, "/events"+tc.query, "", tc.header...)
			require.Equal(t, tc.status, r.status, r.raw)
			require.NotContains(t, r.raw, marked)
			require.Equal(t, before+1, len(s.records(t, audit.Reject))+len(s.records(t, audit.Outcome)), "one record")
			if tc.status == http.StatusMethodNotAllowed {
				require.Equal(t, "GET", r.header.Get("Allow"))
			}
			s.unheard(t, marked)
		})
	}
}

func TestEventsResume(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	f := follow(t, s, aliceKey, "type=resource.changed").placed(t)
	f.close() // it has heard of nothing yet
	s.write(t, aliceKey, "a1")
	for i := range 5 {
		s.write(t, aliceKey, numbered("b", i))
	}
	f = follow(t, s, aliceKey, "type=resource.changed", "Last-Event-ID", f.lastID)
	require.Equal(t, "kv://alice/a1", f.event(t).fields(t)["uri"])
	require.Equal(t, "kv://alice/b0", f.event(t).fields(t)["uri"])
	f.close()
	// The URL's is older than the header's, which is what a browser sends.
	f = follow(t, s, aliceKey, "type=resource.changed&last_event_id="+f.lastID)
	require.Equal(t, "kv://alice/b1", f.event(t).fields(t)["uri"])
	older := f.lastID
	require.Equal(t, "kv://alice/b2", f.event(t).fields(t)["uri"])
	f.close()
	f = follow(t, s, aliceKey, "type=resource.changed&last_event_id="+older, "Last-Event-ID", f.lastID)
	require.Equal(t, "kv://alice/b3", f.event(t).fields(t)["uri"])
	require.Equal(t, "kv://alice/b4", f.event(t).fields(t)["uri"])
	f.close()
	// Nothing is new: the stream begins with a place.
	follow(t, s, aliceKey, "type=resource.changed", "Last-Event-ID", f.lastID).placed(t)
}

// Where it is not certain that nothing is missing, that is told, and never an error.
func TestEventsResync(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{MaxOfOwner: 3}))
	start := follow(t, s, aliceKey, "type=resource.changed").placed(t).lastID
	other := follow(t, s, bobKey, "").placed(t).lastID
	for i := range 5 {
		s.write(t, aliceKey, numbered("x", i))
	}
	for name, tc := range map[string]struct{ id, reason string }{
		"not kept":   {start, "not_kept"},
		"another's":  {other, "not_kept"},
		"malformed":  {marked, "unknown_id"},
		"too long":   {start + start, "unknown_id"},
		"hostile":    {"a \t'\"<script>", "unknown_id"},
		"an old one": {"1764000000000-0", "unknown_id"},
	} {
		t.Run(name, func(t *testing.T) {
			f := follow(t, s, aliceKey, "type=resource.changed", "Last-Event-ID", tc.id)
			b := f.event(t)
			require.Equal(t, "resync", b.event)
			require.Equal(t, tc.reason, b.fields(t)["reason"])
			require.Len(t, b.fields(t), 3)
			f.close()
			// From there it goes on.
			s.write(t, aliceKey, "after")
			f = follow(t, s, aliceKey, "type=resource.changed", "Last-Event-ID", f.lastID)
			require.Equal(t, "kv://alice/after", f.event(t).fields(t)["uri"])
			f.close()
		})
	}
	s.unheard(t, marked)
}

func TestEventsKeepAlive(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) { o.KeepAlive = 10 * time.Millisecond })
	f := follow(t, s, aliceKey, "").placed(t)
	seen := map[string]bool{f.lastID: true}
	for range 3 {
		b := f.block(t)
		require.Equal(t, block{comment: "keep-alive", id: b.id}, b)
		require.False(t, seen[b.id], "no two places look alike")
		seen[b.id] = true
	}
	f.close()
	s.write(t, aliceKey, "x")
	f = follow(t, s, aliceKey, "", "Last-Event-ID", f.lastID)
	require.Equal(t, "kv://alice/x", f.event(t).fields(t)["uri"])
}

func TestEventsRetryIsSpread(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	seen := map[string]bool{}
	for range 10 {
		resp, err := s.http.Do(request(t, s.url+"/events", aliceKey))
		require.NoError(t, err)
		retries := make(chan string, 1)
		go readBlocks(resp.Body, func(b block) {
			if b.retry != "" {
				retries <- b.retry
			}
		})
		text := receive(t, "how long to wait", retries)
		_ = resp.Body.Close()
		ms, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.True(t, ms >= 1000 && ms < 5000, text)
		seen[text] = true
	}
	require.Greater(t, len(seen), 5)
}

// The first of several changes is told at once, and the next after a rest.
func TestEventsInARush(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	f := follow(t, s, aliceKey, "type=resource.changed").placed(t)
	start := time.Now()
	for i := range 4 {
		s.opt.Events.Publish(events.Event{
			Type: events.ResourceChanged, Path: numbered("mcp/alice/rush", i), Owner: "mcp/alice", Subject: "alice", Tool: "kv.write", Time: start,
		})
		require.Contains(t, f.event(t).data, numbered("kv://alice/rush", i))
	}
	require.GreaterOrEqual(t, time.Since(start), 3*20*time.Millisecond)
}
