package main_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// recorded is all that came on a stream.
type recorded struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *recorded) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.Write(p)
}

func (r *recorded) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.String()
}

// record keeps what comes on a stream, with the head of its answer.
func record(t *testing.T, resp *http.Response) *recorded {
	t.Helper()
	r := &recorded{}
	require.NoError(t, resp.Header.Write(r))
	go func() {
		_, _ = io.Copy(r, resp.Body) // to whatever end
		_ = resp.Body.Close()
	}()
	return r
}

// TestCanaryEvents changes secrets with marked values in every way, while streams of
// each kind are open, and asks for streams, handles and subscriptions with the mark in
// each place: it stands in no frame, no answer, no log and no record. Neither do the
// handles and the credentials by which streams were opened.
func TestCanaryEvents(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	logs := t.TempDir()
	env := settings(t, v, "LOG_DIR="+logs)
	p := startHTTP(t, env)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	handle := handleFor(t, p.url, withKey(devKey), obj{"uri": []string{"kv://dev/"}})
	spent := handleFor(t, p.url, withKey(devKey), obj{})
	frames := map[string]*recorded{"all events": record(t, get(t, ctx, p.url+"/events", withKey(devKey))), "handle": record(t, get(t, ctx, p.url+"/events?token="+handle, http.Header{}))}
	session := withKey(devKey)
	session.Set("Mcp-Session-Id", legacySession(t, p.url, devKey))
	session.Set("Mcp-Protocol-Version", "2025-06-18")
	subscribed := post(t, p.url+"/mcp", `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"kv://dev/"}}`, session)
	require.Equal(t, http.StatusOK, subscribed.status, subscribed.body)
	modern := withKey(devKey)
	modern.Set("Mcp-Protocol-Version", "2026-07-28")
	modern.Set("Mcp-Method", "subscriptions/listen")
	for name, header := range map[string]http.Header{"session": session, "listen": modern} {
		resp, err := openStream(ctx, p.url, map[string]string{"listen": listenFrame("kv://dev/")}[name], header)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		frames[name] = record(t, resp)
	}

	call := openRPC(p.url, devKey)
	for _, step := range append([]step{
		{tool: "kv.write", args: obj{"path": "app/db", "data": obj{"password": canary, canary: "x"}}},
		{tool: "kv.patch", args: obj{"path": "app/db", "data": obj{"password": canary + "2"}}},
	}, changeSteps("app/db")...) {
		call.succeed(t, step.tool, step.args)
	}
	for _, refused := range []obj{{"path": "app/db", "data": obj{"p": canary}, "cas": 1}, {"path": canary + "/../x", "data": obj{}}, {"path": "app/db", "data": canary}} {
		require.True(t, call(t, "kv.write", refused).failed)
	}
	call.succeed(t, "kv.write", obj{"path": "app/last", "data": obj{"p": canary}})
	for name, r := range frames {
		require.Eventually(t, func() bool { return strings.Contains(r.text(), "kv://dev/app/last") }, soon, 10*time.Millisecond, name)
	}
	markedFollowers(t, p.url)
	for _, frame := range markedSubscriptions() {
		for surface, call := range rawHTTP(t, p.url, devKey) {
			requireNoMark(t, call(t, frame), surface+" "+short(frame))
		}
	}
	cancel()
	p.stop(t)
	for name, r := range frames {
		requireNoMark(t, r.text(), name)
		require.NotContains(t, r.text(), devKey)
	}
	requireNoMark(t, p.stderr(), "stderr")
	require.NotZero(t, requireNoMarkBelow(t, logs))
	require.NotZero(t, requireNoMarkBelow(t, setting(env, "STATE_DIR")))
	for _, value := range []string{handle, strings.TrimPrefix(handle, "events_"), spent, devKey} {
		require.NotContains(t, p.stderr(), value)
		requireNowhereBelow(t, logs, value)
		requireNowhereBelow(t, setting(env, "STATE_DIR"), value)
	}
}

// get opens a stream of events.
func get(t *testing.T, ctx context.Context, url string, header http.Header) *http.Response { //nolint:revive // t comes first in tests
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	req.Header = header
	resp, err := eventClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp
}

// markedSubscriptions are messages about what is heard, with the mark where something
// else is wanted.
func markedSubscriptions() (frames []string) {
	for _, uri := range []string{quote(canary), quote("kv://" + canary + "/x"), quote("kv://dev/" + canary + "/../x"), quote("kv://dev/x?version=" + canary), `{"` + canary + `":1}`, `["` + canary + `"]`} {
		for _, method := range []string{"resources/subscribe", "resources/unsubscribe"} {
			frames = append(frames, `{"jsonrpc":"2.0","id":7,"method":"`+method+`","params":{`+metaHole+`"uri":`+uri+`}}`)
		}
		for _, params := range []string{
			`"notifications":{"resourceSubscriptions":[` + uri + `]}`, `"notifications":{"` + canary + `":true,"resourceSubscriptions":[` + uri + `]}`, `"notifications":` + uri,
		} {
			frames = append(frames, `{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{`+metaHole+params+`}}`)
		}
	}
	return frames
}

// markedFollowers ask for streams and handles that are refused, with the mark in each
// part of the request.
func markedFollowers(t *testing.T, server string) {
	t.Helper()
	for _, query := range []string{
		"uri=" + canary, "uri=kv://" + canary + "/", "uri=kv://dev/" + canary + "/../x", "type=" + canary, canary + "=1", "token=" + canary, "token=events_" + canary,
		"last_event_id=" + canary + "&type=x", "token=" + canary + "&uri=" + canary, url.QueryEscape(canary+"\n") + "=%zz" + canary,
	} {
		for _, path := range []string{"/events", "/mcp/sse"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+path+"?"+query, http.NoBody)
			require.NoError(t, err)
			req.Header = withKey(devKey)
			if strings.HasPrefix(query, "token=") {
				req.Header = http.Header{}
			}
			req.Header.Set("Last-Event-Id", canary)
			resp, err := eventClient.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.GreaterOrEqual(t, resp.StatusCode, 400, query)
			requireNoMark(t, raw{resp.StatusCode, resp.Header, string(body)}.all(), path+"?"+query)
		}
	}
	for _, body := range []string{
		canary, `{"uri":["` + canary + `"]}`, `{"type":["` + canary + `"]}`, `{"` + canary + `":1}`, `{"uri":"` + canary + `"}`, `{"uri":["kv://` + canary + `/"]}`, `{"uri":[]}` + canary,
	} {
		answer := exchange(t, server+"/events/tokens", devKey, body, nil)
		require.GreaterOrEqual(t, answer.status, 400, body)
		requireNoMark(t, answer.all(), "/events/tokens "+body)
	}
}
