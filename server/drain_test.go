package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/server"
	"vault-mcp/tools"
)

func TestDrain(t *testing.T) {
	s := listen(t, patient)
	c := openSession(t, s, aliceKey, "t", legacy)
	events := lines(stream(t, c))
	require.Equal(t, ": ok", receive(t, "the stream", events))
	silent := s.dial(t) // somebody who never asks for anything
	var answers []chan reply
	for _, other := range []client{c, &modernHTTP{s: s, key: bobKey, name: "t"}, &rpcHTTP{s: s, key: bobKey}} {
		done := make(chan reply, 1)
		answers = append(answers, done)
		go func() { done <- call(t, other, "kv.read", object{"path": "slow"}) }()
		receive(t, "the call at Vault", s.vault.asked)
	}

	s.stop()
	eventually(t, "nothing more is accepted", func() bool {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	// What still comes over an open connection is told so.
	handler := s.Handler()
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.Contains(t, rec.Body.String(), `"draining"`)
	before := len(s.records(t, audit.Reject))
	late := httptest.NewRequest(http.MethodPost, "http://localhost/mcp", strings.NewReader(initialize(t, legacy, "t")))
	late.Header = http.Header{"X-Api-Key": {aliceKey}, "Content-Type": {"application/json"}, "Accept": {"*/*"}}
	rec = httptest.NewRecorder()
	handler.ServeHTTP(rec, late)
	require.Equal(t, http.StatusServiceUnavailable, rec.Code)
	require.Equal(t, "unavailable", s.rejected(t, before).Outcome)
	select {
	case err := <-s.stopped:
		t.Fatal("did not wait for what was under way: ", err)
	case line := <-events:
		t.Fatal("the stream ended before the calls: ", line)
	case <-time.After(50 * time.Millisecond):
	}

	s.vault.let()
	for _, done := range answers {
		r := receive(t, "the answer", done)
		require.Equal(t, http.StatusOK, r.status)
		require.NotContains(t, r.result(t), "isError")
	}
	end(t, events)
	require.NoError(t, s.waitStopped(t))
	require.Len(t, s.records(t, audit.Outcome), 3)
	_, err := io.ReadAll(silent)
	require.NoError(t, err, "the silent connection is closed")
}

// A write whose client has gone is waited for: its outcome must be recorded.
func TestDrainWaitsForCallsWithoutClient(t *testing.T) {
	s := listen(t, patient)
	c := openSession(t, s, aliceKey, "t", legacy)
	slowCall(t, s, "/mcp", message(t, 1, "tools/call", slowArgs("kv.write")), c.headers())()
	s.stop()
	select {
	case err := <-s.stopped:
		t.Fatal("did not wait: ", err)
	case <-time.After(200 * time.Millisecond):
	}
	s.vault.let()
	require.NoError(t, s.waitStopped(t))
	require.Equal(t, "ok", outcome(t, s).Outcome)
}

// At the end of its time the drain cancels what can be cancelled, and cuts off
// the rest.
func TestDrainIsBounded(t *testing.T) {
	hurried := func(o *server.Options, _ *tools.Options) { o.DrainTimeout = 50 * time.Millisecond }
	t.Run("a read over http", func(t *testing.T) {
		s := listen(t, patient, hurried)
		slowCall(t, s, "/mcp", message(t, 1, "tools/call", modernParams(slowArgs("kv.read"), "t")), modernHeaders(aliceKey, "tools/call", "kv.read"))
		require.NoError(t, s.waitStopped(t))
		receive(t, "the request to Vault is cancelled", s.vault.gone)
		require.Equal(t, "canceled", outcome(t, s).Outcome)
	})
	t.Run("a write over http", func(t *testing.T) {
		s := listen(t, patient, hurried)
		slowCall(t, s, "/mcp", message(t, 1, "tools/call", modernParams(slowArgs("kv.write"), "t")), modernHeaders(aliceKey, "tools/call", "kv.write"))
		require.ErrorContains(t, s.waitStopped(t), "cut off")
		require.Len(t, s.records(t, audit.Attempt), 1)
	})
	t.Run("a write in a session", func(t *testing.T) {
		s := listen(t, patient, hurried)
		c := openSession(t, s, aliceKey, "t", legacy)
		slowCall(t, s, "/mcp", message(t, 1, "tools/call", slowArgs("kv.write")), c.headers())()
		require.ErrorContains(t, s.waitStopped(t), "cut off")
	})
	t.Run("a read over stdio", func(t *testing.T) {
		s := newStack(t, patient, hurried)
		c := openStdio(t, s, aliceKey, "t")
		c.initialize(t, legacy)
		c.start(t, "tools/call", slowArgs("kv.read"))
		receive(t, "the call at Vault", s.vault.asked)
		c.stop()
		require.Equal(t, "canceled", c.line(t).refusal(t).Code)
		require.NoError(t, c.stopped(t))
	})
	t.Run("a write over stdio", func(t *testing.T) {
		s := newStack(t, patient, hurried)
		c := openStdio(t, s, aliceKey, "t")
		c.initialize(t, legacy)
		c.start(t, "tools/call", slowArgs("kv.write"))
		receive(t, "the call at Vault", s.vault.asked)
		require.NoError(t, c.in.Close())
		require.ErrorContains(t, c.stopped(t), "cut off")
	})
}

func TestStdioStopsOnItsContext(t *testing.T) {
	s := newStack(t, patient)
	c := openStdio(t, s, aliceKey, "t")
	c.initialize(t, legacy)
	id := c.start(t, "tools/call", slowArgs("kv.read"))
	receive(t, "the call at Vault", s.vault.asked)
	c.stop()
	time.Sleep(20 * time.Millisecond)
	require.Empty(t, s.vault.gone)
	s.vault.let()
	r := c.line(t)
	require.Equal(t, id, string(r.ID))
	require.NotContains(t, r.result(t), "isError")
	require.NoError(t, c.stopped(t))
}

// A client that sends and never reads is not read either, beyond a bound, and
// does not hold up the end.
func TestStdioClientThatDoesNotRead(t *testing.T) {
	s := newStack(t, func(o *server.Options, _ *tools.Options) { o.DrainTimeout = 50 * time.Millisecond })
	inR, inW := io.Pipe()
	outR, outW := io.Pipe() // nobody reads
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- s.ServeStdio(ctx, inR, outW, nil)
	}()
	var sent atomic.Int64
	const flood = 4000
	pad := strings.Repeat("a", 32<<10)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range flood {
			if _, err := fmt.Fprintf(inW, `{"jsonrpc":"2.0","id":%d,"method":"ping","params":{"pad":"%s"}}`+"\n", i, pad); err != nil {
				return
			}
			sent.Add(1)
		}
	}()
	eventually(t, "a thousand are under way", func() bool { return sent.Load() > 1000 })
	time.Sleep(200 * time.Millisecond)
	require.Less(t, sent.Load(), int64(flood), "everything was read")
	cancel()
	require.ErrorContains(t, receive(t, "the end of ServeStdio", done), "cut off")
	_ = outR.Close()
	_ = inR.Close()
	<-written
}

// A broken output is an error, not an end like any other.
func TestStdioBrokenOutput(t *testing.T) {
	s := newStack(t)
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	_ = outR.CloseWithError(io.ErrClosedPipe)
	done := make(chan error, 1)
	go func() { done <- s.ServeStdio(context.Background(), inR, outW, nil) }()
	hello := initialize(t, legacy, "t") + "\n"
	go func() { _, _ = io.WriteString(inW, hello); _ = inW.Close() }()
	require.ErrorContains(t, receive(t, "the end of ServeStdio", done), "writing")
}

func TestServingFails(t *testing.T) {
	s := newStack(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.Error(t, s.ListenAndServe(context.Background(), ln))
}
