package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// slowCall starts a call over HTTP that Vault does not answer yet, and returns
// what hangs up.
func slowCall(t *testing.T, s *stack, path, body string, headers []string) (hangUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for ; len(headers) > 0; headers = headers[2:] {
		req.Header.Set(headers[0], headers[1])
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := s.http.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	t.Cleanup(func() { <-ended })
	receive(t, "the call at Vault", s.vault.asked)
	return func() { cancel(); <-ended }
}

func slowArgs(tool string) object {
	args := object{"path": "slow"}
	if tool == "kv.write" {
		args["data"] = object{"a": "b"}
	}
	return object{"name": tool, "arguments": args}
}

// outcome waits for the one outcome on the trail.
func outcome(t *testing.T, s *stack) audit.Record {
	t.Helper()
	eventually(t, "the outcome is recorded", func() bool { return len(s.records(t, audit.Outcome)) > 0 })
	all := s.records(t, audit.Outcome)
	require.Len(t, all, 1)
	return all[0]
}

func patient(o *server.Options, to *tools.Options) {
	to.CallTimeout = time.Hour
	o.DrainTimeout = time.Hour
}

// A client of 2026-07-28 or of /mcp/rpc that hangs up cancels its read, and the
// request to Vault with it; a write goes on to an outcome that is known.
func TestDisconnectCancelsReadsOnly(t *testing.T) {
	for _, path := range []string{"/mcp", "/mcp/rpc"} {
		for _, tool := range []string{"kv.read", "kv.write"} {
			t.Run(path+" "+tool, func(t *testing.T) {
				s := listen(t, patient)
				body := message(t, 1, "tools/call", modernParams(slowArgs(tool), "t"))
				headers := modernHeaders(aliceKey, "tools/call", tool)
				if path == "/mcp/rpc" {
					body, headers = message(t, 1, "tools/call", slowArgs(tool)), posted(aliceKey)
				}
				slowCall(t, s, path, body, headers)()
				if tool == "kv.read" {
					receive(t, "the request to Vault is cancelled", s.vault.gone)
					require.Equal(t, "canceled", outcome(t, s).Outcome)
					return
				}
				time.Sleep(50 * time.Millisecond)
				require.Empty(t, s.vault.gone)
				s.vault.let()
				require.Equal(t, "ok", outcome(t, s).Outcome)
			})
		}
	}
}

// In a session, hanging up says nothing: the protocol lets a client come back.
func TestDisconnectDoesNotCancelInSessions(t *testing.T) {
	s := listen(t, patient)
	c := openSession(t, s, aliceKey, "test", legacy)
	slowCall(t, s, "/mcp", message(t, 1, "tools/call", slowArgs("kv.read")), c.headers())()
	time.Sleep(50 * time.Millisecond)
	require.Empty(t, s.vault.gone)
	s.vault.let()
	require.Equal(t, "ok", outcome(t, s).Outcome)
}

func TestCancelledNotification(t *testing.T) {
	t.Run("http", func(t *testing.T) {
		s := listen(t, patient)
		c := openSession(t, s, aliceKey, "test", legacy)
		slowCall(t, s, "/mcp", message(t, 7, "tools/call", slowArgs("kv.read")), c.headers())
		r := s.do(t, http.MethodPost, "/mcp", message(t, nil, "notifications/cancelled", object{"requestId": 7}), c.headers()...)
		require.Equal(t, http.StatusAccepted, r.status)
		receive(t, "the request to Vault is cancelled", s.vault.gone)
		require.Equal(t, "canceled", outcome(t, s).Outcome)
	})
	for _, isModern := range []bool{false, true} {
		for _, tool := range []string{"kv.read", "kv.write"} {
			t.Run(fmt.Sprintf("stdio %s modern=%t", tool, isModern), func(t *testing.T) {
				s := newStack(t, patient)
				c := openStdio(t, s, aliceKey, "test")
				if c.modern = isModern; !isModern {
					c.initialize(t, legacy)
				}
				c.start(t, "tools/call", slowArgs(tool))
				receive(t, "the call at Vault", s.vault.asked)
				c.send(t, message(t, nil, "notifications/cancelled", object{"requestId": c.next}))
				want := "canceled"
				if tool == "kv.read" {
					receive(t, "the request to Vault is cancelled", s.vault.gone)
				} else {
					time.Sleep(50 * time.Millisecond)
					require.Empty(t, s.vault.gone)
					s.vault.let()
					want = "ok"
				}
				require.Equal(t, want, outcome(t, s).Outcome)
				c.line(t) // the answer; a client that cancelled ignores it
				require.Nil(t, c.request(t, "tools/list", nil).Error)
			})
		}
	}
}

// The end of the input is no reason to lose an answer.
func TestEndOfInputLetsCallsFinish(t *testing.T) {
	s := newStack(t, patient)
	c := openStdio(t, s, aliceKey, "test")
	c.initialize(t, legacy)
	ids := map[string]bool{}
	for _, tool := range []string{"kv.read", "kv.write"} {
		ids[c.start(t, "tools/call", slowArgs(tool))] = true
		receive(t, "the call at Vault", s.vault.asked)
	}
	require.NoError(t, c.in.Close())
	time.Sleep(50 * time.Millisecond)
	require.Empty(t, s.vault.gone)
	s.vault.let()
	for range 2 {
		r := c.line(t)
		require.NotContains(t, r.result(t), "isError")
		delete(ids, string(r.ID))
	}
	require.Empty(t, ids)
	require.NoError(t, c.stopped(t))
	require.Len(t, s.records(t, audit.Outcome), 2)
}

func TestCallDeadline(t *testing.T) {
	s := listen(t, func(_ *server.Options, o *tools.Options) { o.CallTimeout = 50 * time.Millisecond })
	for _, open := range everyWay() {
		r := call(t, open.open(t, s, aliceKey, "t"), "kv.read", object{"path": "slow"})
		require.Equal(t, "timeout", r.refusal(t).Code, open.name)
		receive(t, "the request to Vault is cancelled", s.vault.gone)
	}
}

func TestBoundOfCalls(t *testing.T) {
	s := listen(t, patient, func(o *server.Options, _ *tools.Options) { o.MaxCalls = 1 })
	c := openSession(t, s, aliceKey, "test", legacy)
	slowCall(t, s, "/mcp", message(t, 100, "tools/call", slowArgs("kv.read")), c.headers())
	for _, other := range []client{c, &modernHTTP{s: s, key: bobKey, name: "t"}, &rpcHTTP{s: s, key: bobKey}} {
		before := len(s.records(t, audit.Reject))
		r := call(t, other, "kv.list", nil)
		require.Equal(t, "unavailable", r.refusal(t).Code)
		rec := s.rejected(t, before)
		require.Equal(t, []string{"unavailable", "kv.list"}, []string{rec.Outcome, rec.Tool})
		require.Nil(t, other.request(t, "tools/list", nil).Error, "a list is no call")
	}
	s.vault.let()
	outcome(t, s)
	eventually(t, "there is room again", func() bool {
		return call(t, c, "kv.list", nil).result(t)["isError"] == nil
	})
}

func TestBoundOfConnections(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.MaxConnections = 8 })
	from := func(local string) *net.TCPConn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
		conn, err := d.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn.(*net.TCPConn)
	}
	ask := func(local string) string {
		conn := from(local)
		_, _ = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		return string(answer)
	}
	hold := func(local string) *net.TCPConn {
		conn := from(local)
		_, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") // counted once it has been served
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 1))
		require.NoError(t, err)
		return conn
	}
	served := func(local string) bool { return strings.HasPrefix(ask(local), "HTTP/1.1 200") }
	first := hold("127.0.0.1")
	hold("127.0.0.1")
	for range 5 {
		require.False(t, served("127.0.0.1"), "one network has a quarter")
	}
	require.True(t, served("127.0.0.2"), "and not what is left for others")
	require.Len(t, s.logs.FilterMessage("too many connections").All(), 1, "once a minute")
	for _, local := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		hold(local)
		eventually(t, "the one that was asked with is counted out", func() bool { return served(local) })
		hold(local)
	}
	for range 5 {
		require.False(t, served("127.0.0.5"), "all are taken")
	}
	_ = first.Close()
	eventually(t, "there is room again", func() bool { return served("127.0.0.1") })
}

// A request that is cancelled has no answer, and is no refusal.
func TestCancelledRequestsAreNotAnswered(t *testing.T) {
	s := newStack(t)
	c := openStdio(t, s, aliceKey, "test")
	c.initialize(t, legacy)
	const many = 200
	var lines []string
	for i := range many {
		lines = append(lines, message(t, 1000+i, "tools/list", nil), message(t, nil, "notifications/cancelled", object{"requestId": 1000 + i}))
	}
	lines = append(lines, message(t, 9, "ping", nil))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c.in, strings.Join(lines, "\n")+"\n")
	}()
	for {
		r := c.line(t)
		require.Nil(t, r.Error, "%v", r.raw)
		if string(r.ID) == "9" {
			break
		}
	}
	<-sent
	require.Empty(t, s.records(t, audit.Reject))
}

// A panic in what an adapter calls ends the request and nothing else. Its value
// may be a secret.
func TestPanics(t *testing.T) {
	s := listen(t)
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		body := ""
		if method == http.MethodPost {
			body = initialize(t, legacy, "t")
		}
		before := len(s.records(t, audit.Reject))
		r := s.do(t, method, "/mcp", body, posted("panic")...)
		require.Equal(t, http.StatusInternalServerError, r.status)
		require.NotContains(t, r.raw, marked)
		rec := s.rejected(t, before)
		require.Equal(t, "internal", rec.Outcome)
		require.Equal(t, rec.RequestID, r.refusal(t).RequestID)
		s.unheard(t, marked)
		require.NotEmpty(t, s.logs.FilterFieldKey("cause").All(), "the log has the stack")
	}
	openSession(t, s, aliceKey, "t", legacy)

	c := openStdio(t, s, "panic", "t")
	c.initialize(t, legacy)
	for _, method := range []string{"tools/call", "tools/list"} {
		before := len(s.records(t, audit.Reject))
		r := c.request(t, method, object{"name": "kv.read", "arguments": object{"path": "a"}})
		require.NotNil(t, r.Error, r.raw)
		require.Equal(t, -32603, r.Error.Code)
		require.Equal(t, s.rejected(t, before).RequestID, r.refusal(t).RequestID)
		require.NotContains(t, r.raw, marked)
		s.unheard(t, marked)
	}
	require.Nil(t, c.request(t, "ping", nil).Error)
}
