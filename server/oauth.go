package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// OAuth says who issues access tokens for this server. Without an authorization
// server there is no metadata, and challenges name none.
type OAuth struct {
	AuthorizationServers []string // their issuer URLs, as their tokens say them
}

// wellKnown is where clients look for the metadata of a protected resource
// (RFC 9728); the resource's own path may follow.
const wellKnown = "/.well-known/oauth-protected-resource"

// initialScopes are what a client without a token is told to ask for. More it is
// told when a tool needs it.
const initialScopes = string(auth.Read + " " + auth.List)

// resource is this server as OAuth knows it: what tokens are issued for, and
// what clients are told of it.
type resource struct {
	servers  []string
	url      string          // of the resource; empty where it is not known
	metadata string          // URL of the metadata; empty where there is none
	paths    map[string]bool // where the metadata is
	document []byte
}

// newResource checks the settings. Where there is no public URL, the resource is
// named after the listener: see listening.
func newResource(opt Options) (*resource, error) {
	r := &resource{servers: opt.OAuth.AuthorizationServers}
	for i, issuer := range r.servers {
		if !isIssuer(issuer) {
			return nil, fmt.Errorf("OAUTH_AUTHORIZATION_SERVERS: entry %d is not an issuer's URL: want https, or http to this machine, without user, query and fragment", i+1)
		}
	}
	if opt.PublicURL == "" {
		return r, nil
	}
	base, err := canonicalBase(opt.PublicURL)
	if err != nil {
		return nil, err
	}
	return r, r.at(base)
}

// Resource is the name of this server in the audience of tokens (RFC 8707),
// given its public URL.
func Resource(publicURL string) (string, error) {
	base, err := canonicalBase(publicURL)
	return base + "/mcp", err
}

// canonicalBase is the public URL in the one spelling that names us: scheme and
// host in lower case, no port that goes without saying, no slash at the end.
func canonicalBase(publicURL string) (string, error) {
	u, err := url.Parse(publicURL)
	if err != nil {
		return "", errors.New("PUBLIC_URL is not a URL with a host")
	}
	origin, ok := parseOrigin(u.Scheme + "://" + u.Host)
	base := origin + strings.TrimRight(u.EscapedPath(), "/")
	if !ok || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(base, `"\ `) {
		return "", errors.New("PUBLIC_URL is not an http or https URL without user, query and fragment")
	}
	return base, nil
}

// isIssuer holds an issuer's URL to RFC 8414; plain http is for development.
func isIssuer(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && u.Opaque == "" && u.User == nil &&
		(u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())) &&
		!strings.ContainsAny(s, "?#\"\\ ")
}

// listening names the resource after a listener that only this machine reaches,
// if nothing else names it.
func (r *resource) listening(scheme string, addr net.Addr) error {
	tcp, ok := addr.(*net.TCPAddr)
	if r.url != "" || !ok || !tcp.IP.IsLoopback() {
		return nil
	}
	return r.at(scheme + "://" + net.JoinHostPort(tcp.IP.String(), strconv.Itoa(tcp.Port)))
}

// at names the resource, and makes what is told of it.
func (r *resource) at(base string) (err error) {
	r.url = base + "/mcp"
	if len(r.servers) == 0 {
		return nil
	}
	r.document, err = jsonv2.Marshal(map[string]any{
		"resource":                 r.url,
		"resource_name":            "vault-mcp",
		"authorization_servers":    r.servers,
		"scopes_supported":         auth.AllScopes(),
		"bearer_methods_supported": []string{"header"},
	}, jsonv2.Deterministic(true))
	if err != nil {
		return err
	}
	// Below the public URL, and not below its host alone, so that a proxy which
	// passes on a part of its paths passes this on as well.
	r.metadata = base + wellKnown + "/mcp"
	r.paths = map[string]bool{wellKnown: true, wellKnown + "/mcp": true}
	if u, err := url.Parse(r.url); err == nil {
		r.paths[wellKnown+u.Path] = true // where the RFC has it, which is the same unless there is a path
	}
	return nil
}

// challenge is the value of WWW-Authenticate: how to get a token that will do.
// problem is an error code of RFC 6750, or empty; scope is what to ask for.
func (r *resource) challenge(problem, scope string) string {
	parts := []string{`realm="vault-mcp"`}
	if r.metadata != "" {
		parts = append(parts, `resource_metadata="`+r.metadata+`"`)
	}
	if problem != "" {
		parts = append(parts, `error="`+problem+`"`)
	}
	if scope != "" {
		parts = append(parts, `scope="`+scope+`"`)
	}
	return "Bearer " + strings.Join(parts, ", ")
}

// unauthenticated is the challenge of a request without a good credential.
func (r *resource) unauthenticated(problem string) string {
	if r.metadata == "" {
		return r.challenge(problem, "")
	}
	return r.challenge(problem, initialScopes)
}

// describeResource serves the metadata. It needs no credential: it says how to
// get one.
func (s *Server) describeResource(a *answer, r *http.Request, c *caller) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		a.Header().Set("Allow", "GET, HEAD")
		writeProblem(a, http.StatusMethodNotAllowed, fault.New(fault.Invalid, "this document is read with GET"), c.requestID)
		return
	}
	h := a.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(s.resource.document)))
	a.WriteHeader(http.StatusOK)
	_, _ = a.Write(s.resource.document)
}

// askScope notes on the request of a refused call that a token with a further
// scope would do. Whether it would was decided where the call was refused; here
// is only how HTTP says so: see answer.stepUp.
func (c *caller) askScope(err error) {
	if scope, ok := tools.StepUp(err); ok && c.launch == nil {
		c.wanted.Store(&wanted{scope: string(scope), err: fault.From(err)})
	}
}

// wanted is the scope that a refused call needs.
type wanted struct {
	scope string
	err   *fault.Error
}

// stepUp answers a call that was refused for want of a scope which its caller's
// token may get: in place of the SDK's result it sends 403 with a challenge that
// names the scope. It reports whether it did. The message is what the SDK writes;
// only its id is taken.
func (a *answer) stepUp(message []byte) bool {
	want := a.c.wanted.Load()
	if want == nil || a.began {
		return a.stepped
	}
	id, ok := replyID(message)
	if !ok {
		return false
	}
	body := errorReply(id, rpcError(codeInvalidRequest, want.err, a.c.requestID))
	h := a.w.Header()
	h.Set("WWW-Authenticate", a.s.resource.challenge("insufficient_scope", want.scope))
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	a.begin(http.StatusForbidden)
	_, _ = a.w.Write(body)
	a.stepped = true
	return true
}
