package vaultx

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/hashicorp/vault/api"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// pin is what one request must be, to the byte.
type pin struct {
	method      string
	path        Path
	query       string
	token       secret.Text
	namespace   string
	wrap        string // X-Vault-Wrap-TTL
	contentType string
	repeatable  bool
}

type pinKey struct{}

// errPinned is a request that is not the one that was resolved: a defect in
// this program, stopped before the network.
var errPinned = errors.New("vaultx: the guard stopped a request that is not the one resolved for the call")

// errTooLarge is a response over the bound.
var errTooLarge = errors.New("vaultx: the response is larger than the bound")

// guard is the RoundTripper below everything. It lets a request pass only if
// the context pins it: scheme, host, method, escaped path, query, and the whole
// set of headers. It also bounds the response.
type guard struct {
	base        *url.URL
	maxResponse int64
	next        http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	p, ok := r.Context().Value(pinKey{}).(*pin)
	if !ok || !g.permits(p, r) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, errPinned
	}
	if !p.repeatable && r.Method == http.MethodGet {
		r = unrepeatable(r)
	}
	resp, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = fault.Bounded(resp.Body, g.maxResponse, errTooLarge)
	return resp, nil
}

// unrepeatable keeps net/http from sending a GET again by itself, which it does
// when a connection that was in use before breaks before the answer: a GET of
// database credentials makes credentials. It repeats nothing that has a body
// which it cannot rewind, if only an empty one.
func unrepeatable(r *http.Request) *http.Request {
	r = r.WithContext(r.Context()) // a RoundTripper must not change the request it is given
	r.Body, r.GetBody = emptyBody{}, nil
	return r
}

type emptyBody struct{}

func (emptyBody) Read([]byte) (int, error) { return 0, io.EOF }
func (emptyBody) Close() error             { return nil }

func (g *guard) permits(p *pin, r *http.Request) bool {
	return p.path.escaped != "" &&
		r.URL.Scheme == g.base.Scheme && r.URL.Host == g.base.Host && (r.Host == "" || r.Host == g.base.Host) &&
		r.URL.User == nil && r.URL.Opaque == "" && r.URL.Fragment == "" && r.Method == p.method &&
		r.URL.EscapedPath() == "/v1/"+p.path.escaped && r.URL.RawQuery == p.query && p.headers(r.Header)
}

// headers reports whether the headers are the pinned ones, and no others.
func (p *pin) headers(h http.Header) bool {
	for name := range h {
		switch name {
		case api.RequestHeaderName, api.AuthHeaderName, api.NamespaceHeaderName, wrapHeader, contentType:
		default:
			return false
		}
	}
	return one(h, api.RequestHeaderName, "true") && one(h, api.AuthHeaderName, p.token.Reveal()) &&
		one(h, api.NamespaceHeaderName, p.namespace) && one(h, wrapHeader, p.wrap) && one(h, contentType, p.contentType)
}

// Headers as net/http writes their names.
const (
	wrapHeader  = "X-Vault-Wrap-Ttl"
	contentType = "Content-Type"
)

// one reports whether a header has exactly the value, or is absent for "".
func one(h http.Header, name, want string) bool {
	values := h[name]
	if want == "" {
		return len(values) == 0
	}
	return len(values) == 1 && subtle.ConstantTimeCompare([]byte(values[0]), []byte(want)) == 1
}

func withPin(ctx context.Context, p *pin) context.Context {
	return context.WithValue(ctx, pinKey{}, p)
}
