package kmsx

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"vault-mcp/fault"
	"vault-mcp/gate"
)

// errTooLarge is a response over the bound.
var errTooLarge = errors.New("the response is larger than the bound")

// wire is the HTTP client below the SDK, for AWS KMS: with timeouts, bounded
// answers, and without redirects, which the SDK's own client follows. It holds a
// request back until there is room for it: here, and not around the SDK's call,
// so that neither its pauses between two tries nor its wait for credentials hold
// up the others.
type wire struct {
	gate        *gate.Gate
	transport   *http.Transport
	client      *http.Client
	maxResponse int64
}

func newWire(cfg Config) *wire {
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}
	t := &http.Transport{
		Proxy:               proxy,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 3 * time.Second,
		MaxIdleConns:        cfg.MaxConcurrent, MaxIdleConnsPerHost: cfg.MaxConcurrent,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		// Over HTTP/2 all requests share a connection; without pings one that has
		// died silently would go on failing them all for many minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 3 * time.Second},
	}
	return &wire{gate: gate.New(cfg.MaxConcurrent), transport: t, maxResponse: cfg.MaxResponseBytes, client: &http.Client{
		Transport: t, Timeout: longestCall,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// proxy is that of the environment, for TLS only: what passes it is sealed. The
// metadata services of instances and containers are asked without TLS, and
// never through another machine.
func proxy(r *http.Request) (*url.URL, error) {
	if r.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// fromOwner carries the principal for whom a request is made.
type fromOwner struct{}

// Do implements aws.HTTPClient. The slot is given back when the answer has been
// read: the SDK closes every body.
func (w *wire) Do(r *http.Request) (*http.Response, error) {
	owner, _ := r.Context().Value(fromOwner{}).(string)
	leave, err := w.gate.Enter(r.Context(), owner)
	if err != nil {
		return nil, heldBack{err}
	}
	resp, err := w.client.Do(r) //nolint:gosec // the SDK's own request, to the endpoint of the configuration
	if err != nil {
		leave()
		return nil, err
	}
	resp.Body = &slotBody{ReadCloser: fault.Bounded(resp.Body, w.maxResponse, errTooLarge), leave: sync.OnceFunc(leave)}
	return resp, nil
}

// slotBody is an answer that is still being read.
type slotBody struct {
	io.ReadCloser
	leave func()
}

// Close ends the reading and gives back the slot.
func (b *slotBody) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}

// heldBack is a request for which there was no room. The SDK takes what fails
// before there is an answer for a broken connection, and would try again; whoever
// is held back here has waited already.
type heldBack struct{ error }

func (h heldBack) Unwrap() error { return h.error }

// RetryableError is how the SDK asks.
func (heldBack) RetryableError() bool { return false }
