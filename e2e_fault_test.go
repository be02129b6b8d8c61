package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// soon is how long a test waits for what happens by itself. It proves nothing
// by its length: a machine may be busy.
const soon = 30 * time.Second

// probe asks one of the health endpoints.
func probe(t testing.TB, url string) (status int, text string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// readiness waits until /readyz has a status, and returns its checks.
func readiness(t testing.TB, url string, status int) (checks obj) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, text := probe(t, url+"/readyz")
		checks = nil
		require.NoError(t, json.Unmarshal([]byte(text), &checks))
		return got == status
	}, soon, 50*time.Millisecond, "/readyz does not become %d", status)
	return checks
}

// answer is what came of a call: an error's code, or none.
type answer struct {
	code string
	body obj
}

// ask calls a tool. Unlike a caller it fails no test, so it may be used in
// goroutines and against a server that goes away; an error says that no answer
// came.
func ask(ctx context.Context, session *mcp.ClientSession, tool string, args obj) (a answer, err error) {
	res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return a, err
	}
	err = json.Unmarshal([]byte(res.Content[0].(*mcp.TextContent).Text), &a.body)
	if a.code, _ = a.body["code"].(string); err == nil && res.IsError != (a.code != "") {
		err = fmt.Errorf("an answer of neither kind: %v", a.body)
	}
	return a, err
}

// storm is a number of callers, each of which calls in a closed loop until its
// call says false.
func storm(callers int, call func(caller, n int) bool) (wait func()) {
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := 0; call(i, n); n++ {
			}
		})
	}
	return all.Wait
}

// recovers waits until a tool's call succeeds.
func recovers(t testing.TB, within time.Duration, session *mcp.ClientSession, tool string, args obj) {
	t.Helper()
	var got answer
	require.Eventually(t, func() bool {
		var err error
		got, err = ask(t.Context(), session, tool, args)
		require.NoError(t, err)
		return got.code == ""
	}, within, 50*time.Millisecond, "%s does not recover", tool)
}

// A server whose Vault is down starts all the same, says that it is not ready,
// refuses calls at once, and serves when Vault is there: over both transports,
// without a restart.
func TestVaultDownAtStart(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/app/config", obj{"k": "v"}))
	v.Kill()
	p := startHTTP(t, settings(t, v, "CALL_TIMEOUT=5m"))
	overHTTP := connect(t, httpTransport(p.url, devKey), "2026-07-28")
	overStdio, _, _ := startStdio(t, settings(t, v, "CALL_TIMEOUT=5m"), devKey)

	for _, path := range []string{"/livez", "/healthz"} {
		status, _ := probe(t, p.url+path)
		require.Equal(t, 200, status, path)
	}
	checks := readiness(t, p.url, 503)
	has("ok", false, "vault", obj{"ok": false, "detail": "unavailable"}, "audit", obj{"ok": true, "detail": "ok"})(t, checks)
	_, text := probe(t, p.url+"/readyz")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(v.Addr, "http://"))
	require.NoError(t, err)
	require.NotContains(t, text, port, "health tells nobody where Vault is")
	require.NotContains(t, text, "127.0.0.1")

	// The deadline of a call is minutes away, so an answer is one that was not
	// waited for.
	for _, session := range []*mcp.ClientSession{overHTTP, overStdio} {
		call := callThrough(session)
		for tool, args := range map[string]obj{"kv.read": {"path": "app/config"}, "kv.write": {"path": "app/new", "data": obj{"a": "b"}}} {
			got := call(t, tool, args)
			require.Equal(t, "unavailable", got.code(), tool)
			require.Nil(t, got.body["details"], "nothing was sent, so nothing is uncertain")
			require.NotContains(t, fmt.Sprint(got.body), port)
		}
		require.False(t, call(t, "whoami", obj{}).failed, "needs no Vault")
	}
	require.NoError(t, v.Restart(t.Context()))
	recovers(t, soon, overHTTP, "kv.read", obj{"path": "app/config"})
	recovers(t, soon, overStdio, "kv.read", obj{"path": "app/config"})
	readiness(t, p.url, 200)
}

// sealing is what callers of a storm know of the test.
type sealing struct {
	session         *mcp.ClientSession
	sealed, ended   atomic.Bool
	served, refused atomic.Int64
	wrong           atomic.Value // the first answer that should not have been
}

func (s *sealing) call(caller, n int) bool {
	before := s.sealed.Load()
	tool, args := "kv.read", obj{"path": "app/config"}
	if n%2 == 1 {
		tool, args = "kv.write", obj{"path": fmt.Sprint("app/", caller), "data": obj{"n": n}}
	}
	a, err := ask(context.Background(), s.session, tool, args)
	whole := before && s.sealed.Load() // Vault was sealed from the call's begin to its end
	switch {
	case err != nil || a.code != "" && a.code != "unavailable":
	case whole && (a.code == "" || a.body["details"] != nil):
	case a.code == "":
		s.served.Add(1)
		return !s.ended.Load()
	default:
		s.refused.Add(1)
		return !s.ended.Load()
	}
	s.wrong.CompareAndSwap(nil, fmt.Sprint(tool, " ", a, " ", err))
	return false
}

// A Vault that is sealed while sixteen callers go on is spared their calls, and
// serves them again soon after it was unsealed.
func TestSealedMidFlight(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/app/config", obj{"k": "v"}))
	seen := devstacktest.Recorder(t, v.Addr)
	p := startHTTP(t, settings(t, v, "VAULT_ADDR="+seen.URL, "LOG_LEVEL=info", "RATE_LIMIT_REQUESTS=1000000"))
	const callers = 16
	s := &sealing{session: connect(t, httpTransport(p.url, devKey), "2026-07-28")}
	wait := storm(callers, s.call)
	defer func() { s.ended.Store(true); wait() }()
	require.Eventually(t, func() bool { return s.served.Load() > callers }, soon, time.Millisecond)

	require.NoError(t, v.Seal(t.Context()))
	s.sealed.Store(true)
	seen.Reset()
	begin, already := time.Now(), s.refused.Load()
	readiness(t, p.url, 503)
	require.Eventually(t, func() bool { // long and often enough for a storm to show
		return s.wrong.Load() != nil || time.Since(begin) > 3*time.Second && s.refused.Load()-already > 500
	}, 2*soon, 10*time.Millisecond)
	require.Nil(t, s.wrong.Load())
	requests := seen.Requests()
	took := time.Since(begin)
	// While the breaker is open, one probe goes in each pause of half a second,
	// and readiness asks once a second; before it opened, each caller may have
	// had a request on its way.
	most := callers + int(took/(500*time.Millisecond)) + 1 + int(took/time.Second) + 1
	require.LessOrEqual(t, len(requests), most, "a storm of %d requests in %v", len(requests), took)
	require.NotEmpty(t, requests, "nobody looks whether Vault is back")
	for _, r := range requests {
		require.Regexp(t, `^(GET|PUT|POST) /v1/(secret/data/mcp/dev/app/[a-z0-9]+|auth/token/lookup-self)$`, r, "no other request than a call's and a probe's")
	}
	a, err := ask(t.Context(), s.session, "kv.read", obj{"path": "app/config"})
	require.NoError(t, err)
	require.Contains(t, a.body["message"], "sealed")

	s.sealed.Store(false)
	require.NoError(t, v.Unseal(t.Context()))
	recovers(t, 5*time.Second, s.session, "kv.read", obj{"path": "app/config"})
	readiness(t, p.url, 200)
	before := s.served.Load()
	require.Eventually(t, func() bool { return s.served.Load() > before+callers }, soon, time.Millisecond)
	require.Nil(t, s.wrong.Load())
}

// A Vault that was killed and comes back with its data serves again: nothing of
// the server's must be started again.
func TestVaultKilledAndRestarted(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/app/config", obj{"k": "v"}))
	p := startHTTP(t, settings(t, v))
	s := &sealing{session: connect(t, httpTransport(p.url, devKey), "2025-06-18")}
	wait := storm(4, s.call)
	defer func() { s.ended.Store(true); wait() }()
	require.Eventually(t, func() bool { return s.served.Load() > 4 }, soon, time.Millisecond)
	v.Kill()
	refused := s.refused.Load()
	require.Eventually(t, func() bool { return s.refused.Load() > refused+4 }, soon, time.Millisecond)
	readiness(t, p.url, 503)
	require.NoError(t, v.Restart(t.Context()))
	readiness(t, p.url, 200)
	served := s.served.Load()
	require.Eventually(t, func() bool { return s.served.Load() > served+4 }, soon, time.Millisecond)
	require.Nil(t, s.wrong.Load())
}

// A Vault in dev mode that was restarted no longer knows the server's token.
// That is neither the caller's fault nor a reason to ask again and again.
func TestTokenLost(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	p := startHTTP(t, settings(t, v, "VAULT_ADDR="+seen.URL))
	session := connect(t, httpTransport(p.url, devKey), "2026-07-28")
	recovers(t, soon, session, "kv.write", obj{"path": "app/config", "data": obj{"k": "v"}})
	readiness(t, p.url, 200)
	require.NoError(t, v.Restart(t.Context()))

	checks := readiness(t, p.url, 503)
	has("vault", obj{"ok": false, "detail": "unavailable"}, "audit.ok", true)(t, checks)
	require.Eventually(t, func() bool { return strings.Contains(p.stderr(), `"not ready"`) }, soon, 10*time.Millisecond)
	_, alarm, _ := strings.Cut(p.stderr(), `"not ready"`)
	require.Contains(t, alarm, "the server's own Vault token is not accepted", "the operator is told without a call")

	seen.Reset()
	const calls = 40
	for n := range calls {
		tool, args := "kv.read", obj{"path": "app/config"}
		if n%2 == 1 {
			tool, args = "kv.write", obj{"path": "app/config", "data": obj{"k": "v"}}
		}
		got := callThrough(session)(t, tool, args)
		require.Equal(t, "unavailable", got.code())
		require.Contains(t, got.body["message"], "the server's own Vault token is not accepted")
		require.NotContains(t, fmt.Sprint(got.body), setting(p.env, "VAULT_TOKEN"))
	}
	require.Len(t, seen.Requests(), calls, "each call asks once, and nothing else asks")
}
