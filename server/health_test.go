package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/fault"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// Health over the wire: no credential, any Host, nothing told and nothing
// recorded.
func TestHealthOverHTTP(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) {
		o.Ready = map[string]func(context.Context) error{
			"vault": func(context.Context) error { return fault.New(fault.Unavailable, marked) },
		}
	})
	for path, want := range map[string]struct {
		status int
		body   object
	}{
		"/healthz": {200, object{"ok": true}},
		"/livez":   {200, object{"ok": true}},
		"/readyz":  {503, object{"ok": false, "vault": object{"ok": false, "detail": "unavailable"}}},
	} {
		r := s.do(t, http.MethodGet, path, "", "Host", "10.1.2.3:8089")
		require.Equal(t, want.status, r.status)
		require.Equal(t, "application/json", r.header.Get("Content-Type"))
		var body object
		require.NoError(t, json.Unmarshal([]byte(r.raw), &body))
		if path != "/livez" {
			require.NotEmpty(t, body["time"])
			delete(body, "time")
		}
		require.Equal(t, want.body, body)

		r = s.do(t, http.MethodHead, path, "")
		require.Equal(t, want.status, r.status)
		require.Empty(t, r.raw)
		require.NotEmpty(t, r.header.Get("Content-Length"))

		r = s.do(t, http.MethodPost, path, "{}")
		require.Equal(t, http.StatusMethodNotAllowed, r.status)
		require.Equal(t, "GET, HEAD", r.header.Get("Allow"))
	}
	require.Empty(t, s.records(t, audit.Reject))
}
