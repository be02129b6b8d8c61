package server_test

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

// The whole corpus of refused frames, over the wire: each gets its code and its
// id, one record, nothing of it in the answer, and Vault is never asked.
func TestRefusedFramesOverHTTP(t *testing.T) {
	s := listen(t)
	old := openSession(t, s, aliceKey, "test", legacy)
	surfaces := map[string][]string{
		"/mcp":     old.headers(),
		"/mcp/rpc": {"Content-Type", "application/json", "X-API-Key", aliceKey},
	}
	for path, headers := range surfaces {
		for name, tc := range refusedFrames {
			t.Run(path+" "+name, func(t *testing.T) {
				before := len(s.records(t, audit.Reject))
				r := s.do(t, http.MethodPost, path, tc.in, headers...)
				rec := s.rejected(t, before)
				require.Equal(t, "invalid", rec.Outcome)
				if len(tc.in) > 4<<20 { // refused by its length, before it is read or its sender is known
					require.Equal(t, http.StatusRequestEntityTooLarge, r.status)
					return
				}
				require.Equal(t, "alice", rec.Subject)
				require.Equal(t, http.StatusBadRequest, r.status, r.raw)
				requireRefusedFrame(t, r, tc.code, tc.id)
			})
		}
	}
	require.Zero(t, s.vault.requests())
	require.Nil(t, old.request(t, "ping", nil).Error, "the session goes on")
}

func requireRefusedFrame(t *testing.T, r reply, code int, id string) {
	t.Helper()
	if id == "" {
		id = "null"
	}
	require.NotNil(t, r.Error, r.raw)
	require.Equal(t, code, r.Error.Code, r.raw)
	require.Equal(t, id, string(r.ID))
	require.Equal(t, "invalid", r.refusal(t).Code)
	require.Less(t, len(r.raw), 1024, "the answer repeats something")
}

// The same over stdio, all in one session, which goes on after each.
func TestRefusedFramesOverStdio(t *testing.T) {
	s := newStack(t)
	c := openStdio(t, s, aliceKey, "test")
	c.initialize(t, legacy)
	for name, tc := range refusedFrames {
		if strings.TrimSpace(tc.in) == "" {
			continue // an empty line is no message: see below
		}
		before := len(s.records(t, audit.Reject))
		c.send(t, tc.in)
		r := c.line(t)
		requireRefusedFrame(t, r, tc.code, tc.id)
		rec := s.rejected(t, before)
		require.Equal(t, "stdio", rec.Transport, name)
		require.NotEmpty(t, rec.Subject, "there is one client, and it is known")
		require.Nil(t, c.request(t, "ping", nil).Error, "the session goes on after %s", name)
	}
	before := len(s.records(t, audit.Reject))
	c.send(t, "\r\n \t\n")
	require.Nil(t, c.request(t, "ping", nil).Error, "empty lines are passed over")
	require.Len(t, s.records(t, audit.Reject), before)
	require.Zero(t, s.vault.requests())
}

// echoed is what must not come back. It is not what the fake Vault holds.
const echoed = "echo-0815-echo"

// Nothing of a bad message comes back or is kept, wherever in it the value is.
func TestNothingIsEchoed(t *testing.T) {
	s := listen(t)
	for _, in := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"` + echoed + `"}`,
		`{"jsonrpc":"2.0","id":1,"method":5,"x":"` + echoed + `"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":{"a":"` + echoed + `"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":"` + echoed + `"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":5,"` + echoed + `":1}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"../` + echoed + `"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"a"},"_meta":{"progressToken":["` + echoed + `"]}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"` + echoed + `"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":["` + echoed + `"]}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":["` + echoed + `"]}}`,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"` + echoed + `"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` + echoed + `"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":{"a":"` + echoed + `"}}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":"` + echoed + `","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":"` + echoed + `"}}}`,
		`"` + echoed,
	} {
		answers := []reply{
			s.do(t, http.MethodPost, "/mcp", in, openSession(t, s, aliceKey, "test", legacy).headers()...),
			s.do(t, http.MethodPost, "/mcp", in, modernHeaders(aliceKey, echoed, echoed)...),
			s.do(t, http.MethodPost, "/mcp/rpc", in, posted(aliceKey)...),
		}
		c := openStdio(t, s, aliceKey, "test")
		c.initialize(t, legacy)
		c.send(t, in)
		answers = append(answers, c.line(t))
		for _, r := range answers {
			require.NotContains(t, r.raw, echoed, in)
			require.NotContains(t, describeHeader(r.header), echoed, in)
		}
		s.unheard(t, echoed)
	}
}

func describeHeader(h http.Header) string {
	var b bytes.Buffer
	_ = h.Write(&b)
	return b.String()
}

// A line that never seems to end is dropped as it comes.
func TestEndlessLineTakesNoMemory(t *testing.T) {
	s := newStack(t)
	c := openStdio(t, s, aliceKey, "test")
	c.initialize(t, legacy)
	chunk := bytes.Repeat([]byte("a"), 1<<20)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	peak := before
	for i := range 200 {
		_, err := c.in.Write(chunk)
		require.NoError(t, err)
		if i%20 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	require.Less(t, peak-min(before, peak), uint64(16<<20), "live memory while the line went on")
	c.send(t, "")
	requireRefusedFrame(t, c.line(t), -32600, "")
	require.Len(t, s.records(t, audit.Reject), 1)
	require.Nil(t, c.request(t, "ping", nil).Error)
}

// The last line of the input may lack its end.
func TestLastLineWithoutEnd(t *testing.T) {
	s := newStack(t)
	c := openStdio(t, s, aliceKey, "test")
	c.initialize(t, legacy)
	_, err := io.WriteString(c.in, message(t, 9, "tools/list", nil))
	require.NoError(t, err)
	require.NoError(t, c.in.Close())
	require.Equal(t, "9", string(c.line(t).ID))
	require.NoError(t, c.stopped(t))
}

func TestDuplicateIDs(t *testing.T) {
	s := listen(t)
	slow := object{"name": "kv.read", "arguments": object{"path": "slow"}}

	c := openStdio(t, s, aliceKey, "test")
	c.initialize(t, legacy)
	c.send(t, message(t, 5, "tools/call", slow))
	receive(t, "the call at Vault", s.vault.asked)
	before := len(s.records(t, audit.Reject))
	c.send(t, message(t, 5, "ping", nil))
	requireRefusedFrame(t, c.line(t), -32600, "")
	s.rejected(t, before)

	old := openSession(t, s, aliceKey, "test", legacy)
	first := make(chan reply, 1)
	go func() { first <- s.do(t, http.MethodPost, "/mcp", message(t, 5, "tools/call", slow), old.headers()...) }() //nolint:testifylint // that it failed is seen by receive
	receive(t, "the call at Vault", s.vault.asked)
	before = len(s.records(t, audit.Reject))
	r := s.do(t, http.MethodPost, "/mcp", message(t, 5, "ping", nil), old.headers()...)
	require.Equal(t, http.StatusBadRequest, r.status, r.raw)
	require.NotNil(t, r.Error)
	s.rejected(t, before)

	s.vault.let()
	require.Equal(t, object{"k": marked}, c.line(t).result(t)["structuredContent"].(object)["data"])
	require.Equal(t, object{"k": marked}, receive(t, "the first answer", first).result(t)["structuredContent"].(object)["data"])
}

func TestNotificationsAndResponsesAreTaken(t *testing.T) {
	s := listen(t)
	old := openSession(t, s, aliceKey, "test", legacy)
	for _, in := range []string{
		message(t, nil, "notifications/cancelled", object{"requestId": 77}),
		message(t, nil, "notifications/progress", object{"progressToken": 1, "progress": 1}),
		message(t, nil, "notifications/roots/list_changed", nil),
		message(t, nil, "notifications/strange", nil),
		`{"jsonrpc":"2.0","id":1,"result":{}}`,
		`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`,
	} {
		r := s.do(t, http.MethodPost, "/mcp", in, old.headers()...)
		require.Equal(t, http.StatusAccepted, r.status, in)
		require.Empty(t, r.raw)
	}
	for in, code := range map[string]int{
		message(t, nil, "tools/list", nil):              -32600, // a request without an id
		message(t, 3, "notifications/initialized", nil): -32600, // a notification with one
	} {
		r := s.do(t, http.MethodPost, "/mcp", in, old.headers()...)
		require.NotNil(t, r.Error, r.raw)
		require.Equal(t, code, r.Error.Code)
	}
}
