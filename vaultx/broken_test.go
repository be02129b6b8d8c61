package vaultx_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/fault/faulttest"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// hijack answers with raw bytes and ends the connection, by a reset if asked.
func hijack(t testing.TB, answer string, reset bool) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = buf.WriteString(answer)
		_ = buf.Flush()
		if reset {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		_ = conn.Close()
	}
}

func TestBrokenAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, answer := range map[string]string{
		"half-written body":         head + "Content-Length: 500\r\n\r\n" + `{"data":{"x":"` + canary,
		"half-written chunk":        head + "Transfer-Encoding: chunked\r\n\r\n40\r\n" + `{"data":{"x":"` + canary,
		"half-written error":        strings.Replace(head, "200 OK", "400 Bad", 1) + "Content-Length: 500\r\n\r\n" + `{"errors":["` + canary,
		"half-written header":       "HTTP/1.1 200 OK\r\nX-Canary: " + canary,
		"no HTTP":                   "220 " + canary + " ESMTP\r\n\r\n",
		"malformed header":          "HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n",
		"nothing":                   "",
		"truncated JSON":            head + "Connection: close\r\n\r\n" + `{"request_id":"a","data":{"x":"` + canary,
		"HTML":                      "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>" + canary,
		"another shape":             head + "Connection: close\r\n\r\n" + `["` + canary + `"]`,
		"a member of another type":  head + "Connection: close\r\n\r\n" + `{"lease_duration":"` + canary + `"}`,
		"a name twice":              head + "Connection: close\r\n\r\n" + `{"data":{"` + canary + `":1,"` + canary + `":2}}`,
		"bad UTF-8":                 head + "Connection: close\r\n\r\n" + `{"data":{"x":"` + canary + "\xff\"}}",
		"redirect to a broken URL":  "HTTP/1.1 302 Found\r\nLocation: http://[" + canary + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"header larger than bounds": head + "X-Big: " + strings.Repeat("a", 128<<10) + canary + "\r\n\r\n",
	} {
		for _, reset := range []bool{false, true} {
			if reset && strings.Contains(answer, "Connection: close") {
				continue // a reset may overtake the answer, so this is the row above
			}
			t.Run(fmt.Sprintf("%s, reset %v", name, reset), func(t *testing.T) {
				t.Parallel()
				f := newFake(t, hijack(t, answer, reset))
				_, err := f.write(t).Do(t.Context(), vaultx.Request{Body: map[string]int{"x": 1}})
				got := requireKind(t, fault.Unavailable, err)
				require.Equal(t, "unknown", got.Details["outcome"])
				requireSilent(t, err, f)
				require.EqualValues(t, 1, f.requests.Load())

				f.requests.Store(0)
				_, err = f.read(t).Do(t.Context(), vaultx.Request{})
				requireKind(t, fault.Unavailable, err)
				requireSilent(t, err, f)
				require.EqualValues(t, 3, f.requests.Load())
			})
		}
	}
}

// net/http sends a GET again by itself when a connection that was used before
// breaks. A GET that makes something, as of database credentials, must not be.
func TestOnlyWhatMayBeRepeatedIs(t *testing.T) {
	for _, retryable := range []bool{false, true} {
		var gets atomic.Int32
		addr := serveRaw(t, func(_ int, r *http.Request, w io.Writer) bool {
			if r.Method == http.MethodGet && gets.Add(1) == 1 {
				return false // ends the connection without an answer
			}
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			return true
		})
		c := connect(t, vaultx.Config{Address: "http://" + addr, Token: secret.NewText("fake-token")})
		_, err := c.Bind(on(t, "update", kvData, "app"), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
		require.NoError(t, err) // and the connection is one that was used before
		_, err = c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{Retryable: retryable}).Do(t.Context(), vaultx.Request{})
		if retryable {
			require.NoError(t, err)
			require.EqualValues(t, 2, gets.Load())
			continue
		}
		require.Equal(t, "unknown", requireKind(t, fault.Unavailable, err).Details["outcome"])
		require.EqualValues(t, 1, gets.Load(), "sent again")
	}
}

// serveRaw is a server whose answer to the n-th request of a connection may be
// to end it. No GET may have a body.
func serveRaw(t *testing.T, answer func(n int, r *http.Request, w io.Writer) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				in := bufio.NewReader(conn)
				for n := 0; ; n++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if r.Method == http.MethodGet && (r.ContentLength != 0 || len(r.TransferEncoding) > 0) {
						t.Error("a GET came with a body")
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if !answer(n, r, conn) {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// A body over the bound fails, whatever its status and whether or not its length
// was announced, and costs no more memory than the bound.
func TestHugeAnswer(t *testing.T) {
	block := []byte(strings.Repeat("x", 1<<20))
	for _, status := range []int{200, 404, 500} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			for range 100 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})
		b := f.write(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := b.Do(t.Context(), vaultx.Request{})
		runtime.ReadMemStats(&after)
		got := requireKind(t, fault.Unavailable, err)
		require.Contains(t, got.Msg, "larger")
		require.Equal(t, "unknown", got.Details["outcome"])
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "it read on past the bound")
	}
}

func TestAnswerJustWithinTheBound(t *testing.T) {
	const bound = 4096
	for size, fits := range map[int]bool{bound: true, bound + 1: false} {
		body := `{"data":{"x":"` + strings.Repeat("y", size-len(`{"data":{"x":""}}`)) + `"}}`
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		c := connect(t, vaultx.Config{Address: f.URL, Token: secret.NewText("fake-token"), MaxResponseBytes: bound})
		_, err := c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
		require.Equal(t, fits, err == nil, "%d bytes: %v", size, err)
	}
}

// A body that comes drop by drop ends with the deadline.
func TestSlowDrip(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		for {
			if _, err := io.WriteString(w, " "); err != nil || rc.Flush() != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := f.write(t).Do(ctx, vaultx.Request{})
	require.Equal(t, "unknown", requireKind(t, fault.Timeout, err).Details["outcome"])
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	c := connect(t, vaultx.Config{Address: "http://" + addr, Token: secret.NewText("fake-token")})
	_, err = c.Bind(on(t, "update", kvData, "app"), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
	got := requireKind(t, fault.Unavailable, err)
	require.Equal(t, "Vault cannot be reached", got.Msg)
	require.NotContains(t, got.Details, "outcome", "it never left")
	require.NotContains(t, faulttest.Text(err), addr)
	require.ErrorContains(t, got.Err, "refused")
	// And now calls fail at once.
	_, err = c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
	require.Positive(t, requireKind(t, fault.Unavailable, err).RetryAfter)
}

// One principal whose requests hang has no more than its share, and the others
// are served.
func TestBulkhead(t *testing.T) {
	release := make(chan struct{})
	hanging := make(chan struct{}, 16)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			hanging <- struct{}{}
			<-release
		}
		w.WriteHeader(http.StatusNoContent)
	})
	c := connect(t, vaultx.Config{Address: f.URL, Token: secret.NewText("fake-token"), MaxConcurrent: 8})
	slow := func() error {
		_, err := c.Bind(on(t, "update", kvData, "app"), vaultx.BindOptions{Owner: "slow"}).Do(t.Context(), vaultx.Request{})
		return err
	}
	results := make(chan error, 4)
	for range 4 {
		go func() { results <- slow() }()
	}
	for range 4 {
		<-hanging
	}
	requireKind(t, fault.RateLimited, slow())
	for range 20 {
		_, err := c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{Owner: "quick"}).Do(t.Context(), vaultx.Request{})
		require.NoError(t, err)
	}
	require.NoError(t, c.Ready(t.Context()), "the server's own question is not held up")
	close(release)
	for range 4 {
		require.NoError(t, <-results)
	}
}

// A call that waits before its next try holds up no other.
func TestPauseHoldsNoSlot(t *testing.T) {
	first := make(chan struct{})
	var once sync.Once
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		limited := false
		once.Do(func() { limited = true })
		if !limited {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusTooManyRequests)
		close(first)
	})
	c := connect(t, vaultx.Config{Address: f.URL, Token: secret.NewText("fake-token"), MaxConcurrent: 1})
	do := func(owner string) error {
		_, err := c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{Owner: owner, Retryable: true}).Do(t.Context(), vaultx.Request{})
		return err
	}
	waited := make(chan error, 1)
	go func() { waited <- do("patient") }()
	<-first
	require.NoError(t, do("other"))
	require.Empty(t, waited, "it was there before the first had its second try")
	require.NoError(t, <-waited)
}
