package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// poisonable is a toxiproxy before a Vault. poison spoils its answers in one of
// toxiproxy's ways until cured.
func poisonable(t testing.TB, target string) (address string, poison func(kind string, attributes obj) (cure func())) {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "vault", "127.0.0.1:0", strings.TrimPrefix(target, "http://"))
	require.NoError(t, proxy.Start())
	t.Cleanup(proxy.Stop)
	return "http://" + proxy.Listen, func(kind string, attributes obj) func() {
		description, err := json.Marshal(obj{"name": kind, "type": kind, "attributes": attributes})
		require.NoError(t, err)
		_, err = proxy.Toxics.AddToxicJson(strings.NewReader(string(description)))
		require.NoError(t, err)
		cure := sync.OnceFunc(func() { _ = proxy.Toxics.RemoveToxic(context.Background(), kind) })
		t.Cleanup(cure) // what it holds back would else stay for as long as it says
		return cure
	}
}

// between is a proxy before a Vault that hands each answer to a function.
func between(t testing.TB, target string, answer func(*http.Response) error) (address string) {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	transport := &http.Transport{}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport, ModifyResponse: answer,
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog: log.New(io.Discard, "", 0),
	})
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	return server.URL
}

// held is a proxy before a Vault that keeps answers back until they are let go.
type held struct {
	URL   string
	asked chan string   // what Vault has answered
	gone  chan string   // that of it which nobody waits for any more
	let   chan struct{} // closed by the test
}

func holdAnswers(t testing.TB, target string) *held {
	t.Helper()
	h := &held{asked: make(chan string, 64), gone: make(chan string, 64), let: make(chan struct{})}
	h.URL = between(t, target, func(resp *http.Response) error {
		if strings.HasPrefix(resp.Request.URL.Path, "/v1/auth/token/") {
			return nil // the server's own question about its token
		}
		h.asked <- resp.Request.URL.Path
		select {
		case <-h.let:
			return nil
		case <-resp.Request.Context().Done():
			h.gone <- resp.Request.URL.Path
			return resp.Request.Context().Err()
		}
	})
	return h
}

// awaitRequest waits until Vault has answered a request.
func (h *held) awaitRequest(t testing.TB) { t.Helper(); next(t, h.asked) }

// next is the last word of the next path in a channel.
func next(t testing.TB, paths <-chan string) string {
	t.Helper()
	select {
	case path := <-paths:
		return path[strings.LastIndexByte(path, '/')+1:]
	case <-time.After(soon):
		t.Fatal("nothing arrives")
		return ""
	}
}

// outcomes waits for the outcomes of a number of calls, by the last word of
// their paths.
func outcomes(t testing.TB, trail *trailReader, calls int) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.Eventually(t, func() bool {
		for _, rec := range trail.more(t) {
			if rec.Kind == audit.Outcome && len(rec.Needs) == 1 {
				found[rec.Needs[0][strings.LastIndexByte(rec.Needs[0], '/')+1:]] = rec.Outcome
			}
		}
		return len(found) >= calls
	}, soon, 10*time.Millisecond)
	require.Len(t, found, calls)
	return found
}

// A Vault that takes half a minute costs a caller its deadline and no more, and
// costs other callers nothing. What a write came to is unknown, and is said to
// be so, to the caller and in the trail: here it was done.
func TestSlowVault(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	address, poison := poisonable(t, seen.URL)
	env := settings(t, v, "VAULT_ADDR="+address, "CALL_TIMEOUT=6s")
	p := startHTTP(t, env)
	dev, bot := connect(t, httpTransport(p.url, devKey), "2026-07-28"), connect(t, httpTransport(p.url, botKey), "2025-06-18")
	stdio, _, _ := startStdio(t, env, devKey)
	for _, s := range []*mcp.ClientSession{dev, stdio} {
		recovers(t, soon, s, "kv.write", obj{"path": "warm", "data": obj{"a": "b"}})
	}
	trail := readTrail(env)
	trail.more(t)
	seen.Reset()
	cure := poison("latency", obj{"latency": 30000})

	const calls = 10
	var done atomic.Int64
	answers, errs := make([]answer, calls), make([]error, calls)
	begin := time.Now()
	wait := storm(calls, func(i, _ int) bool {
		session, tool, args := dev, "kv.read", obj{"path": fmt.Sprint("slow/", i)}
		if i < 2 {
			session = stdio
		}
		if i%2 == 1 {
			tool, args["data"] = "kv.write", obj{"n": i}
		}
		answers[i], errs[i] = ask(context.Background(), session, tool, args)
		done.Add(1)
		return false
	})
	require.Eventually(t, func() bool { return len(seen.Requests()) == calls }, soon, time.Millisecond)
	require.False(t, callThrough(bot)(t, "whoami", obj{}).failed)
	require.Zero(t, done.Load(), "others do not wait for those who wait for Vault")
	wait()
	require.Less(t, time.Since(begin), 25*time.Second, "the deadline is not kept")
	require.Len(t, seen.Requests(), calls, "nothing is tried again when time is over")

	recorded := outcomes(t, trail, calls)
	for i, a := range answers {
		require.NoError(t, errs[i])
		require.Equal(t, "timeout", a.code, "%v", a.body)
		want, details := "timeout", any(nil)
		if i%2 == 1 {
			want, details = "unknown", obj{"outcome": "unknown"}
			got, err := v.GetSecret(t.Context(), fmt.Sprint("mcp/dev/slow/", i))
			require.NoError(t, err)
			require.EqualValues(t, i, got["n"])
		}
		require.Equal(t, details, a.body["details"])
		require.Equal(t, want, recorded[fmt.Sprint(i)])
	}
	cure()
	recovers(t, soon, dev, "kv.read", obj{"path": "warm"})
}

// A connection that breaks before or in the middle of an answer costs a reader
// nothing. A write is never sent again, since it may have been done, as it was
// here.
func TestConnectionBreaks(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	var breaks atomic.Int64 // answers to break
	var half atomic.Bool
	address := between(t, seen.URL, func(resp *http.Response) error {
		switch {
		case breaks.Add(-1) < 0:
		case half.Load():
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(resp.Body, 20), iotest.ErrReader(errors.New("cut"))), resp.Body}
		default:
			panic(http.ErrAbortHandler)
		}
		return nil
	})
	env := settings(t, v, "VAULT_ADDR="+address)
	stdio, _, _ := startStdio(t, env, devKey)
	for name, session := range map[string]*mcp.ClientSession{
		"http": connect(t, httpTransport(startHTTP(t, env).url, devKey), "2026-07-28"), "stdio": stdio,
	} {
		recovers(t, soon, session, "kv.write", obj{"path": "read", "data": obj{"k": "v"}})
		trail := readTrail(env)
		for _, inTheMiddle := range []bool{false, true} {
			half.Store(inTheMiddle)
			trail.more(t)
			seen.Reset()
			breaks.Store(1)
			got := callThrough(session)(t, "kv.read", obj{"path": "read"})
			require.Equal(t, "v", dig(got.body, "data.k"), "%s: %v", name, got.body)
			require.Len(t, seen.Requests(), 2)

			seen.Reset()
			breaks.Store(1)
			written := fmt.Sprint(name, inTheMiddle)
			got = callThrough(session)(t, "kv.write", obj{"path": written, "data": obj{"k": "v"}})
			require.Equal(t, "unavailable", got.code())
			require.Equal(t, obj{"outcome": "unknown"}, got.body["details"])
			require.Len(t, seen.Requests(), 1)
			require.Equal(t, map[string]string{"read": "ok", written: "unknown"}, outcomes(t, trail, 2))
			_, err := v.GetSecret(t.Context(), "mcp/dev/"+written)
			require.NoError(t, err)
		}
	}
}

// Where every connection is reset, a read ends after a few attempts and a write
// after one; with the fault gone, all is well again.
func TestEveryConnectionReset(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	address, poison := poisonable(t, seen.URL)
	p := startHTTP(t, settings(t, v, "VAULT_ADDR="+address))
	session := connect(t, httpTransport(p.url, devKey), "2026-07-28")
	call := callThrough(session)
	write := obj{"path": "app/config", "data": obj{"k": "v"}}
	recovers(t, soon, session, "kv.write", write)
	for kind, attributes := range map[string]obj{"reset_peer": {"timeout": 0}, "limit_data": {"bytes": 40}} {
		cure := poison(kind, attributes)
		seen.Reset()
		require.Equal(t, "unavailable", call(t, "kv.read", obj{"path": "app/config"}).code(), kind)
		// Three attempts; net/http may repeat a request by itself whose kept
		// connection turns out to be closed.
		require.GreaterOrEqual(t, len(seen.Requests()), 2, kind)
		require.LessOrEqual(t, len(seen.Requests()), 4, kind)
		seen.Reset()
		got := call(t, "kv.write", write)
		require.Equal(t, "unavailable", got.code(), kind)
		require.Equal(t, obj{"outcome": "unknown"}, got.body["details"], kind)
		require.Len(t, seen.Requests(), 1, kind)
		cure()
		recovers(t, soon, session, "kv.read", obj{"path": "app/config"})
	}
}
