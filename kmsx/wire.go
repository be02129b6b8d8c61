package kmsx

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"vault-mcp/fault"
)

// errTooLarge is a response over the bound.
var errTooLarge = errors.New("the response is larger than the bound")

// wire is the HTTP client below the SDK, for AWS KMS and for what the chain of
// credentials asks: with timeouts, bounded answers, and without redirects,
// which the SDK's own client follows.
type wire struct {
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
	return &wire{transport: t, maxResponse: cfg.MaxResponseBytes, client: &http.Client{
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

// Do implements aws.HTTPClient.
func (w *wire) Do(r *http.Request) (*http.Response, error) {
	resp, err := w.client.Do(r) //nolint:gosec // the SDK's own request, to the endpoint of the configuration
	if err != nil {
		return nil, err
	}
	resp.Body = fault.Bounded(resp.Body, w.maxResponse, errTooLarge)
	return resp, nil
}
