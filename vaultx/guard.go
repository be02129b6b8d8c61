package vaultx

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/hashicorp/vault/api"

	"vault-mcp/secret"
)

// pin is what one request must be, to the byte.
type pin struct {
	method string
	path   Path
	query  string
	token  secret.Text
	wrap   string // X-Vault-Wrap-TTL
}

type pinKey struct{}

// errPinned is a request that is not the one that was resolved: a defect in
// this program, stopped before the network.
var errPinned = errors.New("vaultx: the guard stopped a request that is not the one resolved for the call")

// errTooLarge is a response over the bound.
var errTooLarge = errors.New("vaultx: the response is larger than the bound")

// guard is the RoundTripper below everything. It lets a request pass only if
// the context pins it: scheme, host, method, escaped path, query, token,
// namespace and wrapping. It also bounds the response.
type guard struct {
	base        *url.URL
	namespace   string
	maxResponse int64
	next        http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	p, ok := r.Context().Value(pinKey{}).(*pin)
	if !ok || !g.permits(p, r) {
		return nil, errPinned
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: g.maxResponse}
	return resp, nil
}

func (g *guard) permits(p *pin, r *http.Request) bool {
	return p.path.escaped != "" &&
		r.URL.Scheme == g.base.Scheme && r.URL.Host == g.base.Host && (r.Host == "" || r.Host == g.base.Host) &&
		r.URL.User == nil && r.Method == p.method &&
		r.URL.EscapedPath() == "/v1/"+p.path.escaped && r.URL.RawQuery == p.query &&
		one(r.Header, api.AuthHeaderName, p.token.Reveal()) &&
		one(r.Header, api.NamespaceHeaderName, g.namespace) &&
		one(r.Header, wrapHeader, p.wrap) &&
		len(r.Header.Values("Authorization")) == 0
}

const wrapHeader = "X-Vault-Wrap-TTL"

// one reports whether a header has exactly the value, or is absent for "".
func one(h http.Header, name, want string) bool {
	values := h.Values(name)
	if want == "" {
		return len(values) == 0
	}
	return len(values) == 1 && subtle.ConstantTimeCompare([]byte(values[0]), []byte(want)) == 1
}

func withPin(ctx context.Context, p *pin) context.Context {
	return context.WithValue(ctx, pinKey{}, p)
}

// boundedBody fails, rather than ends, after so many bytes.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
