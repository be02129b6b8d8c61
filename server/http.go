package server

import (
	"net"
	"net/http"
	"time"

	"vault-mcp/fault"
	"vault-mcp/tools"
)

// route serves one path.
type route func(a *answer, r *http.Request, c *caller)

// Handler serves everything over HTTP:
//
//	/mcp       streamable HTTP, all protocol revisions
//	/mcp/rpc   the same server without sessions, JSON answers only
//	/events    change events as a stream, for what is no MCP client; also /mcp/sse
//	/events/tokens
//	           a handle that opens such a stream, for who can send no headers
//	/healthz   {ok, time}
//	/livez     {ok}
//	/readyz    {ok, time, and each check's {ok, detail}}, 200 or 503
//	/.well-known/oauth-protected-resource, …/mcp
//	           who issues access tokens for this server, if anybody does
//
// Health needs no credential and tells nothing but fixed words; it is also
// served under any Host, since a cluster probes by address.
func (s *Server) Handler() http.Handler {
	endpoint := s.newEndpoint()
	routes := map[string]route{
		"/mcp":     endpoint.streamable,
		"/mcp/rpc": endpoint.rpc,
		"/events":  s.follow,
		"/mcp/sse": s.follow,

		"/events/tokens": s.giveToken,
	}
	probes := map[string]http.HandlerFunc{
		"/healthz": s.health.healthz,
		"/livez":   s.health.livez,
		"/readyz":  s.readyz,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.setDeadlines(w, r)
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		if len(r.TransferEncoding) > 0 && r.ProtoMajor == 1 {
			// A chunked request may have had a Content-Length as well, which
			// net/http takes off unseen, and then another request may hide in its
			// body: the connection must end with it (RFC 9112, 6.1).
			h.Set("Connection", "close")
		}
		c := &caller{remote: s.client(r), shown: present(r), transport: transportMCP, requestID: tools.NewRequestID()}
		h.Set("X-Request-Id", c.requestID)
		if probe, ok := probes[r.URL.Path]; ok && r.URL.RawPath == "" {
			probe(w, r)
			return
		}
		a := s.newAnswer(w, c, r.ProtoMajor)
		defer a.finish()
		defer s.recoverHTTP(a, c)
		if !s.mayAddress(a, r, c) {
			return
		}
		route, ok := routes[r.URL.Path]
		if s.resource.paths[r.URL.Path] {
			route, ok = s.describeResource, true
		}
		if !ok || r.URL.RawPath != "" {
			writeProblem(a, 0, fault.New(fault.NotFound, "there is nothing at this path"), c.requestID)
			return
		}
		s.cors(a, r, func() { route(a, r, c) })
	})
}

// setDeadlines bounds the time to take the answer (a deadline from an earlier
// request on the connection may be over) and to send the body. That includes a
// body which is refused unread: net/http reads some of it after the answer.
func (s *Server) setDeadlines(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout))
	if r.ContentLength != 0 {
		_ = rc.SetReadDeadline(time.Now().Add(s.opt.ReadTimeout))
	}
}

// recoverHTTP turns a panic of ours into a 500, and records it.
func (s *Server) recoverHTTP(a *answer, c *caller) {
	p := recover()
	switch p {
	case nil:
	case http.ErrAbortHandler: // the sentinel of net/http, compared as it compares
		panic(p)
	default:
		told := s.reject(c, c.principal, fault.Panicked(p))
		if a.hasBegun() {
			panic(http.ErrAbortHandler) // what was sent cannot be taken back
		}
		writeProblem(a, 0, told, c.requestID)
	}
}

// mayAddress holds the request's Host and Origin against the lists.
func (s *Server) mayAddress(a *answer, r *http.Request, c *caller) bool {
	switch {
	case !s.hosts.allowsHost(r.Host):
		s.refuse(a, 0, c, fault.New(fault.Forbidden, "the Host header is not one of this server's names (ALLOWED_HOSTS)"))
	case !s.hosts.allowsOrigin(r):
		s.refuse(a, 0, c, fault.New(fault.Forbidden, "requests from this origin are not allowed (CORS_ALLOW_ORIGINS)"))
	default:
		return true
	}
	return false
}

// refuse records a refusal and answers it. The status is the kind's unless
// given.
func (s *Server) refuse(a *answer, status int, c *caller, f *fault.Error) {
	told := s.reject(c, c.principal, f)
	if told.Kind != f.Kind { // the record failed, which is another error
		status = 0
	}
	writeProblem(a, status, told, c.requestID)
}

// remoteHost is the peer's address without its port.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
