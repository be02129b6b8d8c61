package server_test

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// stream opens a session's GET stream.
func stream(t *testing.T, c *session) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.s.url+"/mcp", nil)
	require.NoError(t, err)
	for h := c.headers(); len(h) > 0; h = h[2:] {
		req.Header.Set(h[0], h[1])
	}
	resp, err := c.s.http.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp
}

// lines gives what a stream sends, and ends when it does.
func lines(resp *http.Response) <-chan string {
	ch := make(chan string, 1000)
	go func() {
		defer close(ch)
		for r := bufio.NewScanner(resp.Body); r.Scan(); {
			if r.Text() != "" {
				ch <- r.Text()
			}
		}
	}()
	return ch
}

// end waits until a stream has ended.
func end(t *testing.T, ch <-chan string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, more := <-ch:
			if !more {
				return
			}
		case <-timeout:
			t.Fatal("the stream does not end")
		}
	}
}

func TestStreamIsKeptAlive(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.KeepAlive = 10 * time.Millisecond })
	resp := stream(t, openSession(t, s, aliceKey, "test", legacy))
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "no", resp.Header.Get("X-Accel-Buffering"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	ch := lines(resp)
	require.Equal(t, ": ok", receive(t, "the first byte", ch))
	for range 3 {
		require.Equal(t, ": keep-alive", receive(t, "a comment", ch))
	}
	_ = resp.Body.Close()
	end(t, ch)
}

// Before the SDK's first byte nothing is sent, however long a call takes: the
// SDK may still answer with an error and a status.
func TestNothingBeforeTheFirstByte(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.KeepAlive = time.Millisecond })
	done := make(chan reply, 1)
	go func() {
		done <- call(t, &modernHTTP{s: s, key: aliceKey, name: "t"}, "kv.read", object{"path": "slow"})
	}()
	receive(t, "the call at Vault", s.vault.asked)
	time.Sleep(50 * time.Millisecond)
	s.vault.let()
	r := receive(t, "the answer", done)
	require.True(t, strings.HasPrefix(r.raw, "event: message\n"), r.raw)
	require.Equal(t, "no", r.header.Get("X-Accel-Buffering"))
}

func TestSecondStreamOfASession(t *testing.T) {
	s := listen(t)
	c := openSession(t, s, aliceKey, "test", legacy)
	stream(t, c)
	before := len(s.records(t, audit.Reject))
	r := s.do(t, http.MethodGet, "/mcp", "", c.headers()...)
	require.Equal(t, http.StatusConflict, r.status)
	require.Equal(t, "conflict", s.rejected(t, before).Outcome)
	r = s.do(t, http.MethodGet, "/mcp", "", append(c.headers(), "Last-Event-ID", marked)...)
	require.Equal(t, http.StatusBadRequest, r.status)
	require.NotContains(t, r.raw, marked)
	r = s.do(t, http.MethodGet, "/mcp", "", posted(aliceKey, "MCP-Protocol-Version", modern)...)
	require.Equal(t, http.StatusMethodNotAllowed, r.status, "2026-07-28 has no such stream")
}

func TestStreamEndsWithItsCredential(t *testing.T) {
	s := listen(t)
	dying := principal("alice", "cred-9", auth.AllScopes())
	dying.ExpiresAt = time.Now().Add(2 * time.Second)
	s.keys.set("dying", dying)
	end(t, lines(stream(t, openSession(t, s, "dying", "test", legacy))))
	require.False(t, time.Now().Before(dying.ExpiresAt), "ended before its time")
}

func TestStreamEndsAfterRevocation(t *testing.T) {
	for name, after := range map[string]*auth.Principal{
		"revoked":               nil,
		"another's":             principal("bob", "cred-1", auth.AllScopes()),
		"another of its prefix": {Slug: "alice2", Prefix: "mcp/alice"},
	} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, func(o *server.Options, _ *tools.Options) { o.Recheck = 5 * time.Millisecond })
			ch := lines(stream(t, openSession(t, s, aliceKey, "test", legacy)))
			require.Equal(t, ": ok", receive(t, "the first byte", ch))
			time.Sleep(50 * time.Millisecond)
			select {
			case line, more := <-ch:
				require.True(t, more, "the stream ended while its credential was good")
				t.Fatal(line)
			default:
			}
			s.keys.set(aliceKey, after)
			end(t, ch)
		})
	}
}

// A client that takes nothing is cut off: the answers that it does not read do
// not hold up the end of the server, which waits for them.
func TestClientThatDoesNotRead(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) {
		o.WriteTimeout, o.DrainTimeout = 50*time.Millisecond, time.Hour
	})
	const clients = 8
	body := message(t, 1, "tools/call", modernParams(object{"name": "kv.read", "arguments": object{"path": "large"}}, "t"))
	head := "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	for h := modernHeaders(aliceKey, "tools/call", "kv.read"); len(h) > 0; h = h[2:] {
		head += h[0] + ": " + h[1] + "\r\n"
	}
	for range clients {
		conn := s.dial(t)
		require.NoError(t, conn.SetReadBuffer(4096))
		// Ten answers of 2 MiB are more than the kernel keeps for a client.
		_, err := io.WriteString(conn, strings.Repeat(head+"\r\n"+body, 10))
		require.NoError(t, err)
	}
	eventually(t, "each has been answered", func() bool { return len(s.records(t, audit.Outcome)) >= clients })
	require.NotContains(t, call(t, &modernHTTP{s: s, key: bobKey, name: "t"}, "kv.read", object{"path": "a"}).result(t), "isError")
	require.NoError(t, s.waitStopped(t))
}

// A listen stream of 2026-07-28 is acknowledged first. Nothing changes at this
// server yet that it could tell of, so its result follows at once.
func TestListen(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.MaxSessions = 1 })
	for range 3 { // each gives its place back
		r := (&modernHTTP{s: s, key: aliceKey, name: "t"}).request(t, "subscriptions/listen",
			object{"notifications": object{"toolsListChanged": true}})
		require.Equal(t, http.StatusOK, r.status, r.raw)
		require.Equal(t, 2, strings.Count(r.raw, "event: message"), r.raw)
		require.Less(t, strings.Index(r.raw, "notifications/subscriptions/acknowledged"), strings.Index(r.raw, `"result"`))
		require.Nil(t, r.Error)
	}
	openSession(t, s, aliceKey, "test", legacy)
	before := len(s.records(t, audit.Reject))
	r := (&modernHTTP{s: s, key: aliceKey, name: "t"}).request(t, "subscriptions/listen", object{"notifications": object{}})
	require.Equal(t, http.StatusServiceUnavailable, r.status, "streams have the sessions' bound")
	s.rejected(t, before)
}
