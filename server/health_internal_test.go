package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

// probe asks for readiness.
func probe(t *testing.T, s *Server, method string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	s.readyz(w, httptest.NewRequest(method, "/readyz", nil))
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var body map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	when, err := time.Parse(time.RFC3339, body["time"].(string))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), when, time.Minute)
	delete(body, "time")
	return w.Code, body
}

func TestReadiness(t *testing.T) {
	good := func(context.Context) error { return nil }
	for name, tc := range map[string]struct {
		vault    func(context.Context) error
		draining bool
		status   int
		detail   string
	}{
		"ready":              {good, false, 200, "ok"},
		"a fault":            {func(context.Context) error { return fault.New(fault.Unavailable, "with words") }, false, 503, "unavailable"},
		"an error with text": {func(context.Context) error { return errors.New("dial 10.0.0.1: secret") }, false, 503, "internal"},
		"a panic":            {func(context.Context) error { panic("secret") }, false, 503, "internal"},
		"heeds its deadline": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false, 503, "timeout"},
		"draining":           {good, true, 503, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{health: newHealth(map[string]func(context.Context) error{"vault": tc.vault, "audit": good})}
				s.draining.Store(tc.draining)
				start := time.Now()
				status, body := probe(t, s, http.MethodGet)
				require.LessOrEqual(t, time.Since(start), healthWithin)
				require.Equal(t, tc.status, status)
				want := map[string]any{
					"ok":    tc.status == 200,
					"vault": map[string]any{"ok": tc.detail == "ok", "detail": tc.detail},
					"audit": map[string]any{"ok": true, "detail": "ok"},
				}
				if tc.draining {
					want["server"] = map[string]any{"ok": false, "detail": "draining"}
				}
				require.Equal(t, want, body)
			})
		})
	}
}

// degraded is an error of what works, and may not go on.
type degraded bool

func (degraded) Error() string    { return "secret" }
func (d degraded) Degraded() bool { return bool(d) }

// What works, and may not go on, takes nobody out of service.
func TestDegradedIsReady(t *testing.T) {
	for _, is := range []bool{true, false} {
		s := &Server{health: newHealth(map[string]func(context.Context) error{
			"vault": func(context.Context) error { return degraded(is) },
		})}
		status, body := probe(t, s, http.MethodGet)
		require.Equal(t, map[bool]int{true: 200, false: 503}[is], status)
		require.Equal(t, map[string]any{"ok": is, "detail": map[bool]string{true: "degraded", false: "internal"}[is]}, body["vault"])
	}
}

// Anybody may ask for health: the checks run once a second and no oftener.
func TestChecksAreNotRunForEachProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := &Server{health: newHealth(map[string]func(context.Context) error{
			"vault": func(context.Context) error { runs++; return nil },
		})}
		for range 100 {
			probe(t, s, http.MethodGet)
		}
		require.Equal(t, 1, runs)
		time.Sleep(healthEvery)
		probe(t, s, http.MethodGet)
		require.Equal(t, 2, runs)
	})
}

// A check that heeds nothing is waited for so long, and not started again while
// it runs. What it says when it ends at last is old.
func TestStuckCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		stuck := make(chan struct{})
		s := &Server{health: newHealth(map[string]func(context.Context) error{
			"vault": func(context.Context) error {
				if runs.Add(1) == 1 {
					<-stuck
					return nil
				}
				return fault.New(fault.Unavailable, "down")
			},
		})}
		for range 5 {
			status, body := probe(t, s, http.MethodGet)
			require.Equal(t, 503, status)
			require.Equal(t, "timeout", body["vault"].(map[string]any)["detail"])
			time.Sleep(time.Hour)
		}
		require.EqualValues(t, 1, runs.Load())
		close(stuck)
		synctest.Wait()
		time.Sleep(time.Hour)
		_, body := probe(t, s, http.MethodGet)
		require.Equal(t, "unavailable", body["vault"].(map[string]any)["detail"])
	})
}

// What the server can do without is told, and it is ready all the same; beside it
// a check that it cannot do without counts as ever.
func TestDegradedBesideOthers(t *testing.T) {
	down := fault.New(fault.Unavailable, "with words")
	bad := func(context.Context) error { return down }
	worse := func(context.Context) error { return fault.Degraded(down) }
	good := func(context.Context) error { return nil }
	type checks = map[string]func(context.Context) error
	told := map[string]any{"ok": false, "detail": "unavailable"}
	still := map[string]any{"ok": true, "detail": "degraded"}
	fine := map[string]any{"ok": true, "detail": "ok"}

	status, body := probe(t, &Server{health: newHealth(checks{"vault": good, "redis": worse})}, http.MethodGet)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"ok": true, "vault": fine, "redis": still}, body)

	status, body = probe(t, &Server{health: newHealth(checks{"vault": bad, "redis": good})}, http.MethodGet)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, map[string]any{"ok": false, "vault": told, "redis": fine}, body)

	status, body = probe(t, &Server{health: newHealth(checks{"vault": bad, "redis": worse})}, http.MethodGet)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, map[string]any{"ok": false, "vault": told, "redis": still}, body)
}
