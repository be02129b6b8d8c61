package server

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

func TestStatusOfEveryKind(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Invalid: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404,
		fault.Conflict: 409, fault.RateLimited: 429, fault.Unavailable: 503, fault.Timeout: 504,
		fault.Canceled: 499, fault.Internal: 500,
	}
	require.Len(t, want, len(fault.Kinds()))
	for _, kind := range fault.Kinds() {
		require.Contains(t, want, kind)
		require.Equal(t, want[kind], Status(kind), kind)

		f := fault.New(kind, "what to do").With("field", "/path")
		f.RetryAfter = 1500 * time.Millisecond
		w := httptest.NewRecorder()
		writeProblem(w, 0, f, "the-id")
		require.Equal(t, want[kind], w.Code)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.Equal(t, "2", w.Header().Get("Retry-After"))
		var body map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		require.NotEmpty(t, body["title"])
		delete(body, "title")
		require.Equal(t, map[string]any{
			"status": float64(want[kind]), "code": string(kind), "message": "what to do", "request_id": "the-id",
			"retry_after": 1.5, "details": map[string]any{"field": "/path"},
		}, body)
	}
	require.Equal(t, 500, Status("no such kind"))
}

func TestErrorRepliesAreRecognised(t *testing.T) {
	for msg, want := range map[string]bool{
		`{"jsonrpc":"2.0","id":1,"error":{"code":-1}}`:        true,
		`{"jsonrpc":"2.0","id":"a","error":{"code":-1}}`:      true,
		`{"jsonrpc":"2.0","id":"a\",\"error\":1","error":{}}`: true,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-1}}`:     true,
		`{"jsonrpc":"2.0","error":{"code":-1}}`:               true,
		`{"jsonrpc":"2.0","id":1,"result":{"error":1}}`:       false,
		`{"jsonrpc":"2.0","id":"\",\"error\":","result":{}}`:  false,
		`{"jsonrpc":"2.0","method":"a","params":{"error":1}}`: false,
		`{"jsonrpc":"2.0","id":1`:                             false,
		`{"jsonrpc":"2.0","id":"`:                             false,
		`{"title":"x","error":{}}`:                            false,
		``:                                                    false,
	} {
		require.Equal(t, want, isErrorReply([]byte(msg)), msg)
	}
}
