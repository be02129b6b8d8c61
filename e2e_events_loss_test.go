package main_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

const (
	lossWrites  = 6000 // in all, and half of them before Redis is killed
	lossWriters = 3    // of each principal, at each replica
)

// written is what became of one secret, which one writer alone writes.
type written struct {
	version int       // the last one that was answered
	began   time.Time // when that one was asked for
}

// changesMade is what all writers did, by URI.
type changesMade struct {
	mu  sync.Mutex
	all map[string]written
	n   atomic.Int64
}

func (c *changesMade) of(owner string) map[string]written {
	c.mu.Lock()
	defer c.mu.Unlock()
	some := map[string]written{}
	for uri, w := range c.all {
		if strings.HasPrefix(uri, "kv://"+owner+"/") {
			some[uri] = w
		}
	}
	return some
}

// write writes secrets in turn until it is told to stop.
func (c *changesMade) write(t *testing.T, call caller, owner string, writer int, stop <-chan struct{}) {
	t.Helper()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		path := fmt.Sprintf("w/%d/%d", writer, i%7)
		began := time.Now()
		got := call(t, "kv.write", obj{"path": path, "data": obj{"n": i}})
		if !assertServed(t, got) {
			return
		}
		c.mu.Lock()
		c.all["kv://"+owner+"/"+path] = written{int(got.body["version"].(float64)), began}
		c.mu.Unlock()
		c.n.Add(1)
	}
}

func assertServed(t *testing.T, got reply) bool {
	t.Helper()
	if got.failed {
		t.Errorf("a write is refused: %v", got.body)
	}
	return !got.failed
}

// soul is one who hears of changes, with whatever interrupts it.
type soul interface {
	// once listens at a server until the context ends.
	once(ctx context.Context, url string) error
	// lacks names a secret of which it does not know as much as it was promised.
	lacks(made map[string]written) string
}

// live has it listen at the servers in turn, for a short time each, until it is
// settled to listen at one.
func live(ctx context.Context, s soul, settle <-chan struct{}, urls []string) {
	for i := rand.IntN(2); ctx.Err() == nil; i++ {
		turn, cancel := context.WithCancel(ctx)
		end := time.AfterFunc(time.Duration(30+rand.IntN(600))*time.Millisecond, func() {
			select {
			case <-settle:
			default:
				cancel()
			}
		})
		_ = s.once(turn, urls[i%len(urls)]) // it is to be cut off
		end.Stop()
		cancel()
	}
}

// Changes of two tenants are written at two replicas, while those who hear of them
// pause, are cut off, and resume at the other replica, and Redis is killed and comes
// back empty. At the end each reader of /events had every version of every secret of
// its own, or a resync where some are missing; and each subscriber was notified after
// the last change of each.
func TestNothingIsLostWithoutNotice(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	env := noticeSettings("loss", append(shareFeed(r), "LOG_LEVEL=info", "RATE_LIMIT_REQUESTS=1000000", "MAX_SUBSCRIBERS_PER_PRINCIPAL=1000")...)
	a, b := startHTTP(t, settings(t, v, env...)), startHTTP(t, settings(t, v, env...))
	redisIs(t, a, true)
	redisIs(t, b, true)
	urls := []string{a.url, b.url}

	made := &changesMade{all: map[string]written{}}
	settle, stop := make(chan struct{}), make(chan struct{})
	souls := map[string]soul{}
	for owner, key := range map[string]string{"dev": devKey, "dev-bot": botKey} {
		for i, pause := range []time.Duration{0, 0, 20 * time.Millisecond, 500 * time.Millisecond} {
			souls[fmt.Sprint("reader ", i, " of ", owner)] = &reader{owner: owner, key: key, pause: pause, settle: settle, last: map[string]int{}, excused: map[string]bool{}}
		}
		for i, url := range urls {
			souls[fmt.Sprint("session ", i, " of ", owner)] = newSessionSoul(t, url, owner, key)
			souls[fmt.Sprint("listener ", i, " of ", owner)] = newListening(owner, key)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var living, writing sync.WaitGroup
	defer living.Wait()
	defer cancel()
	for _, s := range souls {
		living.Go(func() { live(ctx, s, settle, urls) })
	}
	for name, s := range souls { // who has not begun to listen is promised nothing
		if r, ok := s.(*reader); ok {
			require.Eventually(t, r.begun, soon, time.Millisecond, name)
		}
	}
	for i, p := range []*process{a, b} {
		for n := range lossWriters {
			writing.Go(func() { made.write(t, openRPC(p.url, devKey), "dev", 10*i+n, stop) })
			writing.Go(func() { made.write(t, openRPC(p.url, botKey), "dev-bot", 10*i+n, stop) })
		}
	}
	disturb(t, made, r, a, b)
	close(stop)
	writing.Wait()
	close(settle)
	for name, s := range souls {
		_, owner, _ := strings.Cut(name, " of ")
		mine := made.of(owner)
		lacks := s.lacks(mine)
		for end := time.Now().Add(soon); lacks != "" && time.Now().Before(end); lacks = s.lacks(mine) {
			time.Sleep(20 * time.Millisecond)
		}
		require.Empty(t, lacks, "%s has not heard of what it should", name)
	}
	requireHeardMuch(t, souls)
}

// disturb kills Redis when half of the writes are done, and ends when it has been
// back for a while.
func disturb(t *testing.T, made *changesMade, r *devstack.Redis, replicas ...*process) {
	t.Helper()
	wrote := func(n int64) func() bool { return func() bool { return made.n.Load() >= n || t.Failed() } }
	require.Eventually(t, wrote(lossWrites/2), soon, time.Millisecond)
	r.Kill()
	require.Eventually(t, wrote(made.n.Load()+lossWrites/8), soon, time.Millisecond)
	for _, p := range replicas {
		require.Eventually(t, func() bool { return strings.Contains(p.stderr(), `"events are not shared"`) }, soon, time.Millisecond)
	}
	require.NoError(t, r.Restart(t.Context()))
	for _, p := range replicas {
		require.Eventually(t, func() bool { return strings.Contains(p.stderr(), `"events are shared again"`) }, soon, time.Millisecond)
	}
	require.Eventually(t, wrote(made.n.Load()+lossWrites/4), soon, time.Millisecond)
	require.Eventually(t, wrote(lossWrites), soon, time.Millisecond)
}

// requireHeardMuch holds against a test that shows nothing: most was heard as it
// happened, and some readers had to be told that they missed something.
func requireHeardMuch(t *testing.T, souls map[string]soul) {
	t.Helper()
	resyncs, heard := 0, 0
	for name, s := range souls {
		if r, ok := s.(*reader); ok {
			t.Logf("%s: %d events in %d streams, %d resyncs, %d events again", name, r.heard, r.streams, r.resyncs, r.again)
			require.Greater(t, r.streams, 3, name)
			resyncs += r.resyncs
			if r.pause == 0 {
				heard = max(heard, r.heard)
			}
		}
	}
	require.Positive(t, resyncs)
	require.Greater(t, heard, lossWrites/4, "hardly anything was heard")
}

// reader is a client of /events that resumes.
type reader struct {
	owner, key string
	pause      time.Duration   // after some of what it reads
	settle     <-chan struct{} // from when on it does not pause

	mu                             sync.Mutex
	id                             string
	last                           map[string]int  // version that was heard, by URI
	excused                        map[string]bool // it was told to look again since
	all                            bool            // it was, and so for those that it had not heard of
	heard, again, resyncs, streams int
	wrong                          string
}

func (r *reader) once(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events?type=resource.changed", http.NoBody)
	if err != nil {
		return err
	}
	req.Header = withKey(r.key)
	r.mu.Lock()
	r.streams++
	if r.id != "" {
		req.Header.Set("Last-Event-ID", r.id)
	}
	r.mu.Unlock()
	resp, err := eventClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for n := 0; ; n++ {
		e, ok := readEvent(lines)
		if !ok {
			return lines.Err()
		}
		r.take(e)
		if n%16 == 0 {
			select {
			case <-time.After(r.pause):
			case <-r.settle:
			}
		}
	}
}

// begun reports whether it has a place in the feed.
func (r *reader) begun() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id != ""
}

func (r *reader) take(e feedEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id = e.id
	switch e.name {
	case "resync":
		r.resyncs++
		r.all = true
		for uri := range r.last {
			r.excused[uri] = true
		}
	case "resource.changed":
		r.heard++
		uri, n := e.data["uri"].(string), int(e.data["version"].(float64))
		last, known := r.last[uri]
		switch {
		case !strings.HasPrefix(uri, "kv://"+r.owner+"/"):
			r.wrong = "it heard of " + uri
		case known && n <= last && !r.all:
			r.wrong = fmt.Sprintf("%s: after %d came %d", uri, last, n)
		case known && n <= last: // where it was to look again anyway
			r.again++
			return
		case n != last+1 && !r.excused[uri] && (known || !r.all):
			r.wrong = fmt.Sprintf("%s: after %d came %d", uri, last, n)
		}
		r.last[uri], r.excused[uri] = n, false
	}
}

func (r *reader) lacks(made map[string]written) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong != "" {
		return r.wrong
	}
	for uri, w := range made {
		_, known := r.last[uri]
		if r.last[uri] < w.version && !r.excused[uri] && (known || !r.all) {
			return uri
		}
	}
	return ""
}
