package server

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/fault"
)

// Checks are asked at most this often and for at most this long: anybody may
// ask for health.
const (
	healthEvery  = time.Second
	healthWithin = 3 * time.Second
)

// health answers the probes.
type health struct {
	checks map[string]func(context.Context) error

	mu      sync.Mutex // one round of checks at a time
	asked   time.Time
	results map[string]checked
}

// checked is one check's result. The detail is "ok" or a kind of fault.
type checked struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func newHealth(checks map[string]func(context.Context) error) *health {
	return &health{checks: checks}
}

func (h *health) healthz(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, http.StatusOK, map[string]any{"ok": true, "time": now()})
}

func (h *health) livez(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, http.StatusOK, map[string]any{"ok": true})
}

// readyz is not ready while a check fails, and from the moment that shutdown
// begins.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ok, body := !s.draining.Load(), map[string]any{"time": now()}
	if !ok {
		body["server"] = checked{Detail: "draining"}
	}
	for name, result := range s.health.check() {
		body[name] = result
		ok = ok && result.OK
	}
	body["ok"] = ok
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	writeHealth(w, r, status, body)
}

// check runs all checks at once, or returns the last round's results if they
// are fresh.
func (h *health) check() map[string]checked {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.results != nil && time.Since(h.asked) < healthEvery {
		return h.results
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthWithin)
	defer cancel()
	type named struct {
		name string
		checked
	}
	results := make(chan named, len(h.checks))
	for name, check := range h.checks {
		go func() {
			result := checked{OK: true, Detail: "ok"}
			defer func() {
				if p := recover(); p != nil {
					result = checked{Detail: string(fault.Internal)}
				}
				results <- named{name, result}
			}()
			if err := check(ctx); err != nil {
				result = checked{Detail: string(fault.KindOf(err))}
			}
		}()
	}
	all := make(map[string]checked, len(h.checks))
	for name := range h.checks {
		all[name] = checked{Detail: string(fault.Timeout)}
	}
	for range h.checks {
		select {
		case r := <-results:
			all[r.name] = r.checked
		case <-ctx.Done(): // a check that does not heed its context
		}
	}
	h.asked, h.results = time.Now(), all
	return all
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func writeHealth(w http.ResponseWriter, r *http.Request, status int, body map[string]any) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	encoded, err := jsonv2.Marshal(body, jsonv2.Deterministic(true))
	if err != nil {
		status, encoded = http.StatusInternalServerError, []byte(`{"ok":false}`)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(encoded)))
	w.WriteHeader(status)
	_, _ = w.Write(encoded)
}
