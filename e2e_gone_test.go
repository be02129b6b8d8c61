package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// hangUp starts a call over HTTP on a connection of its own, and returns what
// closes that.
func hangUp(t *testing.T, url string, header map[string]string, frame string) (hangUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(frame))
	require.NoError(t, err)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	req.Header.Set("X-API-Key", devKey)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		transport := &http.Transport{DisableKeepAlives: true}
		if resp, err := transport.RoundTrip(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	end := func() { cancel(); <-ended }
	t.Cleanup(end)
	return end
}

// Who hangs up cancels a read, down to the request to Vault, where hanging up
// means that; in a session only notifications/cancelled does. A write is
// finished in any case, and its outcome is known.
func TestClientGone(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	for _, path := range []string{"modern-read", "rpc-read", "legacy-read", "notified-read", "stdio-read"} {
		require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/"+path, obj{"k": "v"}))
	}
	h := holdAnswers(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+h.URL, "CALL_TIMEOUT=5m")
	p := startHTTP(t, env)
	legacy := map[string]string{"Mcp-Session-Id": legacySession(t, p.url, devKey), "MCP-Protocol-Version": "2025-06-18"}
	begin := func(path, url, tool string, id int, header map[string]string, meta string) func() {
		end := hangUp(t, p.url+url, header, fmt.Sprintf(
			`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{%s"name":"%s","arguments":{"path":"%s"%s}}}`,
			id, meta, tool, path, map[string]string{"kv.write": `,"data":{"k":"v"}`}[tool]))
		require.Equal(t, path, next(t, h.asked))
		return end
	}
	modern := func(tool string) map[string]string {
		return map[string]string{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
	}
	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},`
	begin("notified-read", "/mcp", "kv.read", 41, legacy, "")
	begin("notified-write", "/mcp", "kv.write", 42, legacy, "")
	ends := []func(){ // those that must go on come first, so that their time has come when the others have ended
		begin("legacy-read", "/mcp", "kv.read", 43, legacy, ""),
		begin("legacy-write", "/mcp", "kv.write", 44, legacy, ""),
		begin("modern-write", "/mcp", "kv.write", 1, modern("kv.write"), meta),
		begin("rpc-write", "/mcp/rpc", "kv.write", 1, nil, ""),
		begin("rpc-read", "/mcp/rpc", "kv.read", 1, nil, ""),
		begin("modern-read", "/mcp", "kv.read", 1, modern("kv.read"), meta),
	}
	stdio, _, _ := startStdio(t, env, devKey)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := ask(ctx, stdio, "kv.read", obj{"path": "stdio-read"})
		cancelled <- err
	}()
	require.Equal(t, "stdio-read", next(t, h.asked))

	for _, end := range ends {
		end()
	}
	for _, id := range []int{42, 41} {
		status, body := postRaw(t, p.url+"/mcp", devKey, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, id), legacy)
		require.Equal(t, 202, status, body)
	}
	cancel() // the SDK's client sends notifications/cancelled
	require.Error(t, <-cancelled)
	var gone []string
	for range 4 {
		gone = append(gone, next(t, h.gone))
	}
	require.ElementsMatch(t, []string{"modern-read", "rpc-read", "notified-read", "stdio-read"}, gone)
	require.Empty(t, h.gone)
	close(h.let)
	require.Equal(t, map[string]string{
		"modern-read": "canceled", "rpc-read": "canceled", "notified-read": "canceled", "stdio-read": "canceled",
		"legacy-read": "ok", "legacy-write": "ok", "modern-write": "ok", "rpc-write": "ok", "notified-write": "ok",
	}, outcomes(t, readTrail(env), 9))
	for _, path := range []string{"legacy-write", "modern-write", "rpc-write", "notified-write"} {
		_, err := v.GetSecret(t.Context(), "mcp/dev/"+path)
		require.NoError(t, err, path)
	}
}

// A client that dies with calls under way takes the server with it, but not
// before what it asked for has come to an end that is recorded.
func TestStdioClientDies(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	h := holdAnswers(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+h.URL)
	p, transport := launchStdio(t, env, devKey)
	for _, line := range []string{
		hello, `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.write","arguments":{"path":"last-will","data":{"k":"v"}}}}`,
	} {
		_, err := io.WriteString(transport.Writer, line+"\n")
		require.NoError(t, err)
	}
	require.Equal(t, "last-will", next(t, h.asked))
	require.NoError(t, transport.Reader.Close())
	_, err := io.WriteString(transport.Writer, `{"jsonrpc":"2.0","id":2,"method":"ping"}`+"\n") // its answer finds the pipe closed
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(p.stderr(), "stopping") }, soon, 10*time.Millisecond)
	close(h.let)
	require.Equal(t, 1, p.exit(t), "ended by itself and not by a signal:\n%s", p.stderr())
	require.Equal(t, map[string]string{"last-will": "ok"}, outcomes(t, readTrail(env), 1))
	require.Zero(t, verifyTrail(t, env).Chains[0].Unanswered)
}
