package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openStream posts a message to /mcp, or gets a session's stream where there is none,
// and leaves the answer open.
func openStream(ctx context.Context, url, body string, header http.Header) (*http.Response, error) {
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, url+"/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	return eventClient.Do(req)
}

// message is what comes on a stream of MCP.
type message struct {
	Method string
	Params struct{ URI string }
}

// eachMessage reads a stream of MCP to its end.
func eachMessage(resp *http.Response, take func(message)) {
	defer func() { _ = resp.Body.Close() }()
	_ = eachData(resp.Body, func(data string) { // whoever reads it may be cut off at any time
		var m message
		if json.Unmarshal([]byte(data), &m) == nil {
			take(m)
		}
	})
}

// eachData gives the data of each event of a stream, to its end; the error is nil if
// that was in order.
func eachData(stream io.Reader, take func(string)) error {
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			take(data)
		}
	}
	return lines.Err()
}

// notices are the times at which URIs were last told of.
type notices struct {
	mu   sync.Mutex
	last map[string]time.Time
	n    int
}

func (n *notices) take(m message) {
	if m.Method != "notifications/resources/updated" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last[m.Params.URI] = time.Now()
	n.n++
}

// lacks names a secret whose last change was not told, by itself or by its folder.
func (n *notices) lacks(folder string, made map[string]written, read time.Time) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for uri, w := range made {
		if n.last[uri].Before(w.began) && n.last[folder].Before(w.began) && read.Before(w.began) {
			return uri
		}
	}
	return ""
}

// sessionSoul is a session of an older revision, whose stream comes and goes.
type sessionSoul struct {
	notices
	url, folder string
	header      http.Header
}

func newSessionSoul(t *testing.T, url, owner, key string) *sessionSoul {
	t.Helper()
	s := &sessionSoul{url: url, folder: "kv://" + owner + "/w/", notices: notices{last: map[string]time.Time{}}}
	s.header = withKey(key)
	s.header.Set("Mcp-Session-Id", legacySession(t, url, key))
	s.header.Set("Mcp-Protocol-Version", "2025-06-18")
	resp, err := openStream(t.Context(), url, `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"`+s.folder+`"}}`, s.header)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	eachMessage(resp, func(message) {})
	return s
}

// once listens at the server that has the session.
func (s *sessionSoul) once(ctx context.Context, _ string) error {
	resp, err := openStream(ctx, s.url, "", s.header)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusConflict { // the last stream is not seen to have ended yet
		time.Sleep(10 * time.Millisecond)
	}
	eachMessage(resp, s.take)
	return nil
}

func (s *sessionSoul) lacks(made map[string]written) string {
	return s.notices.lacks(s.folder, made, time.Time{})
}

// listening is a client of 2026-07-28, which listens anew, and then reads what it
// holds.
type listening struct {
	notices
	owner, key string
	read       time.Time // when it was acknowledged last
}

func newListening(owner, key string) *listening {
	return &listening{owner: owner, key: key, notices: notices{last: map[string]time.Time{}}}
}

func (l *listening) folder() string { return "kv://" + l.owner + "/w/" }

func (l *listening) once(ctx context.Context, url string) error {
	header := withKey(l.key)
	header.Set("Mcp-Protocol-Version", "2026-07-28")
	header.Set("Mcp-Method", "subscriptions/listen")
	resp, err := openStream(ctx, url, listenFrame(l.folder()), header)
	if err != nil {
		return err
	}
	eachMessage(resp, func(m message) {
		if m.Method == "notifications/subscriptions/acknowledged" {
			l.mu.Lock()
			l.read = time.Now()
			l.mu.Unlock()
		}
		l.take(m)
	})
	return nil
}

func (l *listening) lacks(made map[string]written) string {
	l.mu.Lock()
	read := l.read
	l.mu.Unlock()
	return l.notices.lacks(l.folder(), made, read)
}

// listenFrame is a subscriptions/listen.
func listenFrame(uri string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{` + modernMeta + `"notifications":{"resourceSubscriptions":["` + uri + `"]}}}`
}
