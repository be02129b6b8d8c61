package vaultx_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/fault/faulttest"
	"vault-mcp/vaultx"
)

// canary stands in everything that the fake says, and must stand in no error.
const canary = "CANARY-hvs.db-host.example"

func says(status int, words string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, _ := json.Marshal(map[string]any{"errors": []string{words + " " + canary}, "request_id": "id-1"})
		w.Header().Set("X-Canary", canary)
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "7")
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

func TestErrorsByStatus(t *testing.T) {
	const once, thrice = 1, 3
	cases := []struct {
		status  int
		words   string
		kind    fault.Kind
		msg     string // a part of the message
		unknown bool   // for an operation that may not be repeated
		tries   int32  // of one that may
	}{
		{307, "", fault.Unavailable, "redirect", false, once},
		{400, "bad", fault.Invalid, "refused", false, once},
		{400, "check-and-set parameter did not match the current version", fault.Conflict, "cas", false, once},
		{400, "check-and-set parameter required for this call", fault.Invalid, "/cas", false, once},
		{400, "missing client token", fault.Unavailable, "own Vault token", false, once},
		{401, "", fault.Unavailable, "own Vault token", false, once},
		{403, "1 error occurred: permission denied", fault.Forbidden, "policy", false, once},
		{403, "2 errors occurred: permission denied, invalid token", fault.Unavailable, "own Vault token", false, once},
		{404, "", fault.NotFound, "nothing", false, once},
		{404, "no handler for route", fault.Internal, "mount", false, once},
		{405, "unsupported operation", fault.Internal, "engine", false, once},
		{412, "required index state not present", fault.Unavailable, "node", false, thrice},
		{413, "", fault.Invalid, "larger", false, once},
		{415, "", fault.Internal, "engine", false, once},
		{418, "", fault.Unavailable, "could not", true, once},
		{429, "rate limit quota exceeded", fault.RateLimited, "limit", false, once}, // Retry-After is too long to wait
		{472, "", fault.Unavailable, "node", false, thrice},
		{473, "", fault.Unavailable, "node", false, thrice},
		{474, "", fault.Unavailable, "node", false, thrice},
		{500, "internal error", fault.Unavailable, "could not", true, thrice},
		{501, "", fault.Unavailable, "initialized", false, once},
		{502, "", fault.Unavailable, "could not", true, thrice},
		{503, "Vault is sealed", fault.Unavailable, "sealed", false, once},
		{503, "overloaded, try again later", fault.Unavailable, "could not", true, thrice},
		{504, "", fault.Timeout, "in time", true, thrice},
		{530, "", fault.Unavailable, "node", false, thrice},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%d %s", c.status, c.words), func(t *testing.T) {
			t.Parallel()
			f := newFake(t, says(c.status, c.words))
			f.alive = true
			b := f.write(t)
			_, err := b.Do(t.Context(), vaultx.Request{Body: map[string]int{"x": 1}})
			got := requireKind(t, c.kind, err)
			require.Contains(t, got.Msg, c.msg)
			require.EqualValues(t, 1, f.requests.Load(), "what may not be repeated was")
			require.Equal(t, c.unknown, got.Details["outcome"] == "unknown", "%v", got.Details)
			requireSilent(t, err, f)
			require.ErrorContains(t, got.Err, fmt.Sprint(c.status), "the log has the status")
			if c.status == 429 {
				require.Equal(t, 7*time.Second, got.RetryAfter)
			}
			require.Equal(t, []string{"id-1"}, b.RequestIDs())

			f.requests.Store(0)
			b = f.read(t)
			_, err = b.Do(t.Context(), vaultx.Request{})
			got = requireKind(t, c.kind, err)
			require.Equal(t, c.tries, f.requests.Load())
			require.NotContains(t, got.Details, "outcome")
			requireSilent(t, err, f)
			require.Len(t, b.RequestIDs(), int(c.tries))
		})
	}
}

// requireSilent asserts that nothing of what the other side is or said stands in
// an error.
func requireSilent(t *testing.T, err error, f *fake) {
	t.Helper()
	text := faulttest.Text(err)
	require.NotContains(t, text, canary)
	require.NotContains(t, text, strings.TrimPrefix(f.URL, "http://"))
	require.NotContains(t, text, "mcp/dev-bot/app")
	require.NotContains(t, text, "fake-token")
}

// A body may be what the 500 is about, so it is not sent again.
func TestA500ToABodyIsNotRepeated(t *testing.T) {
	f := newFake(t, says(500, "could not parse"))
	b := f.client(t).Bind(on(t, "update", kvData, "app"), vaultx.BindOptions{Retryable: true})
	_, err := b.Do(t.Context(), vaultx.Request{Body: map[string]int{"x": 1}})
	requireKind(t, fault.Unavailable, err)
	require.EqualValues(t, 1, f.requests.Load())
}

func TestRetryAfterIsCapped(t *testing.T) {
	for give, want := range map[string]time.Duration{
		"": time.Second, "soon": time.Second, "-5": time.Second, "0": time.Second, "3": 3 * time.Second,
		"86400": time.Minute, "9223372036854775807": time.Minute, "99999999999999999999": time.Second,
		"Wed, 21 Oct 2026 07:28:00 GMT": time.Second,
	} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", give)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		_, err := f.write(t).Do(t.Context(), vaultx.Request{})
		require.Equal(t, want, requireKind(t, fault.RateLimited, err).RetryAfter, give)
	}
}

func TestRetrySucceeds(t *testing.T) {
	var f *fake
	f = newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if f.requests.Load() < 3 {
			says(473, "")(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"request_id":"last","data":{"x":1}}`)
	})
	b := f.read(t)
	resp, err := b.Do(t.Context(), vaultx.Request{})
	require.NoError(t, err)
	require.JSONEq(t, `{"x":1}`, string(resp.Data))
	require.Equal(t, []string{"id-1", "id-1", "last"}, b.RequestIDs())
}

// Neither Retry-After nor the pause between tries outlasts the caller's deadline.
func TestRetryStaysWithinTheDeadline(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	b := f.read(t)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	_, err := b.Do(ctx, vaultx.Request{})
	requireKind(t, fault.RateLimited, err)
	require.NoError(t, ctx.Err(), "it waited although the deadline would have come first")
	require.EqualValues(t, 1, f.requests.Load())
}

// The context ends while Vault does not answer: what may not be repeated has an
// unknown outcome, and a caller that goes away is told apart from a deadline.
func TestNoAnswer(t *testing.T) {
	arrived := make(chan struct{}, 8)
	f := newFake(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := f.write(t).Do(ctx, vaultx.Request{Body: map[string]int{"x": 1}})
	require.Equal(t, "unknown", requireKind(t, fault.Timeout, err).Details["outcome"])
	requireSilent(t, err, f)
	<-arrived

	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err = f.write(t).Do(ctx, vaultx.Request{Body: map[string]int{"x": 1}})
	require.Equal(t, "unknown", requireKind(t, fault.Canceled, err).Details["outcome"])

	_, err = f.read(t).Do(ctx, vaultx.Request{})
	require.NotContains(t, requireKind(t, fault.Canceled, err).Details, "outcome")
	require.EqualValues(t, 2, f.requests.Load(), "a call that is over asks nothing")
}

// OpenBao, and Vault before 1.14, refuse a token that has ended with the words
// with which they refuse a path: what the token can do besides tells.
func TestTokenThatHasEnded(t *testing.T) {
	for name, c := range map[string]struct {
		may  string // the one path that is not refused
		kind fault.Kind
		want bool // ready
	}{
		"may look itself up":   {"/v1/auth/token/lookup-self", fault.Forbidden, true},
		"may see the KV mount": {"/v1/sys/internal/ui/mounts/secret", fault.Forbidden, true},
		"may do nothing":       {"", fault.Unavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			refuse := says(http.StatusForbidden, "1 error occurred: permission denied")
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != c.may {
					refuse(w, r)
					return
				}
				_, _ = io.WriteString(w, `{"data":{"type":"kv","options":{"version":"2"}}}`)
			})
			b := f.write(t)
			_, err := b.Do(t.Context(), vaultx.Request{})
			got := requireKind(t, c.kind, err)
			require.NotContains(t, got.Details, "outcome", "nothing was done")
			require.Equal(t, c.want, f.client(t).Ready(t.Context()) == nil)
			before := f.requests.Load()
			for range 10 {
				_, _ = b.Do(t.Context(), vaultx.Request{})
			}
			require.LessOrEqual(t, f.requests.Load()-before, int32(10+4), "each refusal asked anew")
		})
	}
}

// A write whose answer makes no sense was a write all the same.
func TestAnswerThatMakesNoSense(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":["x"]}`) })
	_, err := vaultx.KVWrite(t.Context(), f.write(t), kvValue(t, `{"a":1}`), nil)
	require.Equal(t, "unknown", requireKind(t, fault.Unavailable, err).Details["outcome"])
	_, err = vaultx.KVRead(t.Context(), f.read(t), 0)
	require.NotContains(t, requireKind(t, fault.Unavailable, err).Details, "outcome")
}
