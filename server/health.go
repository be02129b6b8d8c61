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
	running map[string]chan checked // each check's last run, until its result is taken
}

// checked is one check's result. The detail is "ok", "degraded" or a kind of
// fault.
type checked struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func newHealth(checks map[string]func(context.Context) error) *health {
	return &health{checks: checks, running: make(map[string]chan checked)}
}

func (h *health) healthz(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, http.StatusOK, map[string]any{"ok": true, "time": now()})
}

func (h *health) livez(w http.ResponseWriter, r *http.Request) {
	writeHealth(w, r, http.StatusOK, map[string]any{"ok": true})
}

// readyz is not ready while a check fails, and from the moment that shutdown begins.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ok, body := !s.draining.Load(), map[string]any{"time": now()}
	if !ok {
		body["server"] = checked{Detail: "draining"}
	}
	for name, result := range s.health.check() { //nolint:contextcheck // one probe answers all who ask meanwhile
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
	for name, check := range h.checks {
		// A check that does not heed its context is left running, and counts
		// as failed until it ends; it is never started a second time.
		select {
		case <-h.running[name]: // ended since, with a result that is old by now
			delete(h.running, name)
		default:
		}
		if h.running[name] == nil {
			h.running[name] = runCheck(ctx, check)
		}
	}
	all := make(map[string]checked, len(h.checks))
	for name := range h.checks {
		all[name] = checked{Detail: string(fault.Timeout)}
		select {
		case all[name] = <-h.running[name]:
			delete(h.running, name)
			continue
		case <-ctx.Done():
		}
		select { // both may be so, and then select chooses by lot
		case all[name] = <-h.running[name]:
			delete(h.running, name)
		default:
		}
	}
	h.asked, h.results = time.Now(), all
	return all
}

// runCheck starts a check; its result waits in the channel.
func runCheck(ctx context.Context, check func(context.Context) error) chan checked {
	result := make(chan checked, 1)
	go func() {
		found := checked{OK: true, Detail: "ok"}
		defer func() {
			if p := recover(); p != nil {
				found = checked{Detail: string(fault.Internal)}
			}
			result <- found
		}()
		err := check(ctx)
		switch {
		case err == nil:
		case fault.IsDegraded(err):
			// Calls are served. A fault that all replicas have, as one of a login or
			// of Redis, would otherwise take all of them out of service while they
			// could.
			found.Detail = "degraded"
		default:
			found = checked{Detail: string(fault.KindOf(err))}
		}
	}()
	return result
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
