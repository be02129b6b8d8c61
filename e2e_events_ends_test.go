package main_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// endsWithin is how long a stream may go on after its credential has ended.
const endsWithin = 5 * time.Second

// openEar is one stream that hears of changes, as it comes.
type openEar struct {
	name  string
	heard chan string
	when  chan time.Time // of each that is heard
	ended chan streamEnd
}

// streamEnd is how a stream ended, and when.
type streamEnd struct {
	err error
	at  time.Time
}

// openEars opens a stream in each way at a server, all with one credential.
func openEars(t testing.TB, p *process, credential http.Header, uri string) (ears []*openEar) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	initialized, err := openStream(ctx, p.url, hello, credential)
	require.NoError(t, err)
	eachMessage(initialized, func(message) {})
	session := credential.Clone()
	session.Set("Mcp-Session-Id", initialized.Header.Get("Mcp-Session-Id"))
	session.Set("Mcp-Protocol-Version", "2025-06-18")
	subscribed, err := openStream(ctx, p.url, `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"`+uri+`"}}`, session)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, subscribed.StatusCode)
	eachMessage(subscribed, func(message) {})
	modern := credential.Clone()
	modern.Set("Mcp-Protocol-Version", "2026-07-28")
	modern.Set("Mcp-Method", "subscriptions/listen")
	handle := handleFor(t, p.url, credential, obj{"uri": []string{uri}})

	for _, way := range []struct {
		name, path, body string
		header           http.Header
	}{
		{"session", "/mcp", "", session},
		{"listen", "/mcp", listenFrame(uri), modern},
		{"events", "/events?uri=" + uri, "", credential},
		{"handle", "/events?token=" + handle, "", http.Header{}},
	} {
		method := http.MethodGet
		if way.body != "" {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(ctx, method, p.url+way.path, strings.NewReader(way.body))
		require.NoError(t, err)
		req.Header = way.header.Clone()
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := eventClient.Do(req)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, way.name)
		ears = append(ears, listenTo(way.name, resp))
	}
	return ears
}

// listenTo tells of each data that comes on a stream, and of its end.
func listenTo(name string, resp *http.Response) *openEar {
	e := &openEar{name: name, heard: make(chan string, 1000), when: make(chan time.Time, 1000), ended: make(chan streamEnd, 1)}
	go func() {
		defer func() { _ = resp.Body.Close() }()
		err := eachData(resp.Body, func(data string) {
			if strings.Contains(data, "kv://") && !strings.Contains(data, "acknowledged") {
				e.heard <- data
				e.when <- time.Now()
			} else if strings.Contains(data, `"result"`) {
				e.heard <- "result"
			}
		})
		e.ended <- streamEnd{err, time.Now()}
	}()
	return e
}

func (e *openEar) hears(t *testing.T, what string) {
	t.Helper()
	require.Contains(t, hears(t, e.heard), what, e.name)
}

// ends waits for the stream's end, which comes soon after a time.
func (e *openEar) ends(t *testing.T, after time.Time) error {
	t.Helper()
	select {
	case end := <-e.ended:
		require.Less(t, end.at.Sub(after), endsWithin, e.name)
		return end.err
	case <-time.After(max(time.Second, time.Until(after.Add(endsWithin)))):
		require.Fail(t, "it does not end", e.name)
		return nil
	}
}

// Streams end when their credential does: a key that is revoked, a key and a token
// that expire. From then on nothing is heard with it, over any way in.
func TestStreamsEndWithTheirCredential(t *testing.T) {
	v := devstacktest.Shared(t)
	home := newIssuer(t, "https://issuer.example")
	more := append(noticeSettings("e2e-ends", shareFeed(devstacktest.Redis(t, devstack.RedisOptions{}))...), home.home()...)
	env := settings(t, v, append(more, "API_KEYS_FILE="+filepath.Join(t.TempDir(), "keys.json"))...)
	key := func(more ...string) string {
		ok, out, said := run(t, env, "", append([]string{"key", "create", "--subject", "dev"}, more...)...)
		require.True(t, ok, said)
		return strings.TrimSpace(out)
	}
	revoked := key()
	p := startHTTP(t, env)
	redisIs(t, p, true)
	write := openRPC(p.url, devKey)
	launched := stdioEars(t, v, append(more, "API_KEYS_FILE="+setting(env, "API_KEYS_FILE")), revoked, "kv://dev/ending/")
	expires := time.Now().Add(8 * time.Second).Truncate(time.Second)
	ends := map[string]struct {
		credential http.Header
		end        func() time.Time
	}{
		"a key that is revoked": {withKey(revoked), func() time.Time {
			ok, _, said := run(t, env, "", "key", "revoke", strings.Split(revoked, "_")[1])
			require.True(t, ok, said)
			return time.Now()
		}},
		"a key that expires": {withKey(key("--expires", "8s")), func() time.Time { return expires }},
		// An issuer's clock may be a minute away.
		"a token that expires": {withToken(home.token(obj{"exp": expires.Add(-time.Minute).Unix()})), func() time.Time { return expires }},
	}
	ears := map[string][]*openEar{}
	for name, c := range ends {
		require.Eventually(t, func() bool { // a new key is known within a second
			return status(t, p.url+"/events", c.credential) == http.StatusOK
		}, soon, 300*time.Millisecond)
		ears[name] = openEars(t, p, c.credential, "kv://dev/ending/")
	}
	write.succeed(t, "kv.write", obj{"path": "ending/a", "data": obj{}})
	for _, all := range ears {
		for _, e := range all {
			e.hears(t, "kv://dev/ending/a")
		}
	}
	for _, e := range launched {
		e.hearsOf(t, "kv://dev/ending/a", "kv://dev/ending/")
	}
	over := map[string]time.Time{}
	for name, c := range ends {
		over[name] = c.end()
	}
	for name, all := range ears {
		t.Log(name)
		for _, e := range all {
			_ = e.ends(t, over[name])
		}
	}
	marker := follow(t, p.url+"/events?uri=kv://dev/ending/", withKey(devKey))
	write.succeed(t, "kv.write", obj{"path": "ending/b", "data": obj{}})
	require.Equal(t, "kv://dev/ending/b", (<-marker.told).data["uri"])
	for name, all := range ears {
		for _, e := range all {
			require.NotContains(t, rest(e.heard), "ending/b", name+" "+e.name)
		}
	}
	for _, e := range launched {
		require.Equal(t, "unauthenticated", callThrough(e.session)(t, "whoami", obj{}).code(), e.name)
		require.NotContains(t, rest(e.heard), "ending/b", e.name)
	}
	for name, c := range ends {
		for _, path := range []string{"/events", "/mcp/sse"} {
			require.Equal(t, http.StatusUnauthorized, status(t, p.url+path, c.credential), name)
		}
	}
}

// status is how a stream of events is answered, which is then left.
func status(t *testing.T, url string, credential http.Header) int {
	t.Helper()
	f, status, err := tryFollow(url, credential)
	require.NoError(t, err)
	if f != nil {
		f.close()
	}
	return status
}

// rest is all that waits in a channel.
func rest(heard <-chan string) string {
	var all strings.Builder
	for {
		select {
		case text := <-heard:
			all.WriteString(text + "\n")
		default:
			return all.String()
		}
	}
}

// A principal has so many streams and the server so many, by whatever way they are
// opened; beyond that the answer says when to come again, and a place that is left is
// free.
func TestRoomForStreams(t *testing.T) {
	v := devstacktest.Shared(t)
	p := startHTTP(t, settings(t, v, "MAX_SUBSCRIBERS=3", "MAX_SUBSCRIBERS_PER_PRINCIPAL=2"))
	refused := func(query string, credential http.Header, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/events"+query, http.NoBody)
		require.NoError(t, err)
		req.Header = credential
		resp, err := eventClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		require.Equal(t, want, resp.StatusCode)
		require.NotEmpty(t, resp.Header.Get("Retry-After"))
	}
	handle := func(key string) string { return "?token=" + handleFor(t, p.url, withKey(key), obj{}) }
	follow(t, p.url+"/events", withKey(devKey))
	last := follow(t, p.url+"/events"+handle(devKey), http.Header{})
	for range 3 {
		refused("", withKey(devKey), http.StatusTooManyRequests)
		refused(handle(devKey), http.Header{}, http.StatusTooManyRequests)
	}
	follow(t, p.url+"/events", withKey(botKey))
	refused("", withKey(botKey), http.StatusServiceUnavailable)
	refused(handle(webKey), http.Header{}, http.StatusServiceUnavailable)
	last.close()
	require.Eventually(t, func() bool {
		return status(t, p.url+"/events", withKey(webKey)) == http.StatusOK
	}, soon, 20*time.Millisecond, "the place is not free")
}

// A server that is told to end does so with all streams open, exits with 0, and ends
// each stream as its protocol has it.
func TestEndWithOpenStreams(t *testing.T) {
	v := devstacktest.Shared(t)
	p := startHTTP(t, settings(t, v))
	ears := openEars(t, p, withKey(devKey), "kv://dev/term/")
	openRPC(p.url, devKey).succeed(t, "kv.write", obj{"path": "term/a", "data": obj{}})
	for _, e := range ears {
		e.hears(t, "kv://dev/term/a")
	}
	told := time.Now()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.exit(t), p.stderr())
	require.Less(t, time.Since(told), endsWithin)
	for _, e := range ears {
		require.NoError(t, e.ends(t, told), "%s is cut off and does not end", e.name)
		if e.name == "listen" {
			e.hears(t, "result")
		}
	}
}

// When one replica is killed, those who listen at another go on and miss nothing; and
// who listened at the one that is gone resumes at the other, and misses nothing either.
func TestReplicaIsKilled(t *testing.T) {
	v := devstacktest.Shared(t)
	env := noticeSettings("e2e-killed", shareFeed(devstacktest.Redis(t, devstack.RedisOptions{}))...)
	a, b := startHTTP(t, settings(t, v, env...)), startHTTP(t, settings(t, v, env...))
	redisIs(t, a, true)
	redisIs(t, b, true)
	const filter = "/events?uri=kv://dev/"
	gone, stays := follow(t, a.url+filter, withKey(devKey)), follow(t, b.url+filter, withKey(devKey))
	ears := openEars(t, b, withKey(devKey), "kv://dev/")
	wrote := func(p *process, path string) {
		t.Helper()
		openRPC(p.url, devKey).succeed(t, "kv.write", obj{"path": path, "data": obj{}})
		require.Equal(t, "kv://dev/"+path, (<-stays.told).data["uri"])
		for _, e := range ears {
			e.hears(t, "kv://dev/"+path)
		}
	}
	wrote(a, "before")
	last := <-gone.told
	require.Equal(t, "kv://dev/before", last.data["uri"])
	wrote(a, "just-before")
	require.NoError(t, a.cmd.Process.Kill())
	<-a.done
	wrote(b, "after")
	resuming := withKey(devKey)
	resuming.Set("Last-Event-ID", last.id)
	again := follow(t, b.url+filter, resuming)
	for _, path := range []string{"just-before", "after"} {
		require.Equal(t, "kv://dev/"+path, (<-again.told).data["uri"])
	}
	wrote(b, "later")
	require.Equal(t, "kv://dev/later", (<-again.told).data["uri"])
	require.Empty(t, stays.told)
	for _, e := range ears {
		require.Empty(t, e.heard, e.name)
	}
}
