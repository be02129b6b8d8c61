package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	sdkauth "github.com/modelcontextprotocol/go-sdk/auth"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// Headers of MCP over HTTP, as net/http spells them.
const (
	headerVersion = "Mcp-Protocol-Version"
	headerSession = "Mcp-Session-Id"
)

// passed are the headers that the SDK gets to see; credentials are not among
// them. It takes the first of several values, a proxy before us perhaps the
// last: so each may stand once, but for Accept, which is a list.
var passed = []string{
	headerVersion, headerSession, "Mcp-Method", "Mcp-Name",
	"Content-Type", "Last-Event-Id",
}

// admit holds a request against the limit of its address and authenticates it.
func (s *Server) admit(a *answer, r *http.Request, c *caller) bool {
	return s.admitAddress(a, c) && s.identify(a, r, c)
}

// admitAddress holds a request against the limit of its address.
func (s *Server) admitAddress(a *answer, c *caller) bool {
	if s.opt.Addresses == nil || s.opt.Addresses.Allow(c.remote) {
		return true
	}
	limited := fault.New(fault.RateLimited, "too many requests from this address")
	limited.RetryAfter = addressRetry
	writeProblem(a, 0, s.reject(c, nil, limited), c.requestID)
	return false
}

// identify finds the principal of what was shown.
func (s *Server) identify(a *answer, r *http.Request, c *caller) bool {
	p, err := s.opt.Authenticate(r.Context(), c.shown)
	if err == nil && !p.Valid(time.Now()) {
		err = fault.New(fault.Unauthenticated, "a valid credential is needed")
	}
	if err != nil {
		s.refuseCredential(a, c, err)
		return false
	}
	c.principal = p
	for _, name := range passed {
		if len(r.Header[name]) > 1 {
			s.refuse(a, 0, c, fault.Newf(fault.Invalid, "the header %s stands twice", name))
			return false
		}
	}
	return true
}

// streamWait is how long a stream waits at most for the answer who its caller is by
// now, and for its client to take what is written, where WriteTimeout is not shorter:
// neither is a time to look at the credential, and with Recheck each stays below the
// five seconds after which a revoked one is not served any more.
const streamWait = 2500 * time.Millisecond

// again is the principal that what a caller showed gives by now.
func (s *Server) again(ctx context.Context, c *caller) (*auth.Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	if c.launch != nil {
		return c.launch(ctx)
	}
	return s.opt.Authenticate(ctx, c.shown)
}

// identifyAgain finds the principal of what was shown when a stream was opened,
// which may be another by now, or none.
func (s *Server) identifyAgain(ctx context.Context, c *caller) (*auth.Principal, bool) {
	p, err := s.again(ctx, c)
	if err != nil || p == nil || p.ID() != c.principal.ID() || p.Prefix != c.principal.Prefix {
		return nil, false
	}
	return p, true
}

// addressRetry is how long an address over its limit is told to wait.
const addressRetry = 10 * time.Second

// refuseCredential answers a request without a good credential. What is wrong
// with one is for the log; the caller learns only that it is.
func (s *Server) refuseCredential(a *answer, c *caller, err error) {
	f := fault.From(err)
	if f.Kind == fault.Unauthenticated {
		problem, given := "", c.handle || hasCredential(c.shown.Header)
		if given {
			problem = "invalid_token"
		}
		// To refuse a certificate costs more than a key does. That of a trusted proxy
		// is not its client's.
		own := len(c.shown.Certificates) > 0 && !s.opt.Proxies.Trusts(c.shown.Peer)
		if s.opt.Addresses != nil && (given || own) {
			s.opt.Addresses.Failed(c.remote)
		}
		a.Header().Set("WWW-Authenticate", s.resource.unauthenticated(problem))
	}
	told := s.reject(c, nil, f)
	if told.Kind == fault.Unauthenticated {
		told = fault.New(fault.Unauthenticated, "a valid credential is needed")
	}
	writeProblem(a, 0, told, c.requestID)
}

func hasCredential(h http.Header) bool {
	return len(h["Authorization"]) > 0 || len(h["X-Api-Key"]) > 0
}

// streamContext is the context of a long-lived stream. It ends with the
// request, when the credential expires, and soon after the credential no longer
// gives the same principal.
func (e *endpoint) streamContext(r *http.Request, c *caller) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	if until := c.principal.ExpiresAt; !until.IsZero() {
		var undo context.CancelFunc
		ctx, undo = context.WithDeadline(ctx, until)
		outer := cancel
		cancel = func() { undo(); outer() }
	}
	go func() {
		tick := time.NewTicker(e.opt.Recheck)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, ok := e.identifyAgain(ctx, c); !ok {
				cancel()
				return
			}
		}
	}()
	return ctx, cancel
}

// fromKey carries the caller of an HTTP request as far as the SDK's door.
type fromKey struct{}

// withTokenInfo puts a handler of the SDK behind the only door through which
// the SDK takes a TokenInfo: its own bearer check. The credential was checked
// before; what the door sees is a fixed word in its place.
func withTokenInfo(h http.Handler) http.Handler {
	verify := func(ctx context.Context, _ string, _ *http.Request) (*sdkauth.TokenInfo, error) {
		c, ok := ctx.Value(fromKey{}).(*caller)
		if !ok {
			return nil, sdkauth.ErrInvalidToken
		}
		return c.tokenInfo(), nil
	}
	opt := &sdkauth.RequireBearerTokenOptions{AllowMissingExpiration: true}
	return sdkauth.RequireBearerToken(verify, opt)(h)
}

// checkedBearer stands where a checked credential stood.
var checkedBearer = []string{"Bearer checked"}

// sdkRequest is a request as the SDK gets it: the headers that it needs, and
// the body that was read.
func sdkRequest(ctx context.Context, r *http.Request, c *caller, body []byte) *http.Request {
	req := r.WithContext(context.WithValue(ctx, fromKey{}, c))
	req.Header = make(http.Header, len(passed)+2)
	for _, name := range passed {
		if value, ok := r.Header[name]; ok {
			req.Header[name] = value
		}
	}
	req.Header["Accept"] = r.Header["Accept"]
	req.Header["Authorization"] = checkedBearer
	req.Body, req.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	return req
}

func equalsUTF8(charset string) bool {
	return strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}
