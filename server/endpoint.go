package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/fault"
)

// modernVersion is the first protocol revision without sessions. The SDK serves
// it with a stateless handler, and older ones with a stateful handler; one
// handler cannot do both.
const modernVersion = "2026-07-28"

// endpoint is MCP over HTTP.
type endpoint struct {
	*Server
	stateful, stateless, plain http.Handler
}

func (s *Server) newEndpoint() *endpoint {
	get := func(*http.Request) *mcp.Server { return s.mcp }
	handler := func(opt mcp.StreamableHTTPOptions) http.Handler {
		opt.MaxRequestBodyBytes = MaxMessage
		// Our own list of hosts is stricter, and lets a proxy on this machine
		// pass on the name under which it was addressed.
		opt.DisableLocalhostProtection = true
		return withTokenInfo(mcp.NewStreamableHTTPHandler(get, &opt))
	}
	return &endpoint{
		Server:    s,
		stateful:  handler(mcp.StreamableHTTPOptions{SessionTimeout: s.opt.SessionTimeout}),
		stateless: handler(mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true}),
		plain:     handler(mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true, JSONResponse: true}),
	}
}

// streamable serves /mcp.
func (e *endpoint) streamable(a *answer, r *http.Request, c *caller) {
	switch r.Method {
	case http.MethodPost:
		e.post(a, r, c, e.choose)
	case http.MethodGet, http.MethodDelete:
		if !e.admit(a, r, c) {
			return
		}
		switch {
		case r.Header.Get(headerVersion) >= modernVersion: // where there is no such method
			e.stateless.ServeHTTP(a, sdkRequest(r.Context(), r, c, nil))
		case r.Method == http.MethodGet:
			e.stream(a, r, c, e.stateful) //nolint:contextcheck // a stream ends with its credential, and at shutdown
		default:
			e.stateful.ServeHTTP(a, sdkRequest(r.Context(), r, c, nil))
		}
	default:
		a.Header().Set("Allow", "POST, GET, DELETE")
		e.refuse(a, http.StatusMethodNotAllowed, c, fault.New(fault.Invalid, "this endpoint takes POST, GET and DELETE"))
	}
}

// rpc serves /mcp/rpc.
func (e *endpoint) rpc(a *answer, r *http.Request, c *caller) {
	c.transport = transportRPC
	if r.Method != http.MethodPost {
		a.Header().Set("Allow", "POST")
		e.refuse(a, http.StatusMethodNotAllowed, c, fault.New(fault.Invalid, "this endpoint takes POST"))
		return
	}
	c.gone = r.Context() // one request, one answer: who hangs up wants none
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Del(headerSession)
	e.post(a, r, c, func(*answer, *http.Request, *caller, *Frame) http.Handler { return e.plain })
}

// post takes one message and gives it to the handler that choose finds for it;
// nil where choose has answered itself.
func (e *endpoint) post(a *answer, r *http.Request, c *caller, choose func(*answer, *http.Request, *caller, *Frame) http.Handler) {
	if !e.requests.enter() {
		a.Header().Set("Connection", "close")
		e.refuse(a, 0, c, shuttingDown())
		return
	}
	left := sync.OnceFunc(e.requests.leave)
	defer left()
	if !e.isMessage(a, r, c, MaxMessage) || !e.admit(a, r, c) {
		return
	}
	body, ok := e.readBody(a, r, c, MaxMessage)
	defer giveBack(body)
	if !ok {
		return
	}
	frame, err := CheckFrame(body.Bytes())
	var refusal *FrameError
	var ignore bool
	if !errors.As(err, &refusal) && !frame.Response {
		ignore, refusal = checkMethod(&frame)
	}
	switch {
	case refusal != nil:
		e.refuseFrame(a, r, c, &frame, refusal)
		return
	case ignore || frame.Response: // we ask nothing, so there is nothing to answer
		a.WriteHeader(http.StatusAccepted)
		return
	}
	handler := choose(a, r, c, &frame)
	if handler == nil {
		return
	}
	defer func() { c.seat.release() }()
	if frame.Method == methodListen {
		if !e.sit(a, c) {
			return
		}
		c.id = bytes.Clone(frame.ID)
		left() // a stream is not waited for at shutdown
		a.stands()
		e.streamBody(a, r, c, handler, body.Bytes()) //nolint:contextcheck // a stream ends with its credential, and at shutdown
		return
	}
	handler.ServeHTTP(a, sdkRequest(r.Context(), r, c, body.Bytes()))
}

func shuttingDown() *fault.Error {
	f := fault.New(fault.Unavailable, "the server is shutting down")
	f.RetryAfter = busyRetry
	return f
}

// choose finds the handler of a message's protocol era. A message without a
// session must be one that opens one.
func (e *endpoint) choose(a *answer, r *http.Request, c *caller, f *Frame) http.Handler {
	switch {
	case r.Header.Get(headerVersion) >= modernVersion:
		return e.stateless
	case r.Header.Get(headerSession) != "":
		return e.stateful
	case f.Modern: // lacks its headers; the stateless handler tells which
		return e.stateless
	case f.Method != methodInitialize:
		e.refuse(a, 0, c, fault.New(fault.Invalid, "the request needs its Mcp-Session-Id, or an initialize before it"))
		return nil
	}
	if !e.sit(a, c) {
		return nil
	}
	return e.stateful
}

// sit reserves a seat for what the caller opens.
func (e *endpoint) sit(a *answer, c *caller) bool {
	seat, full := e.sessions.reserve(c.principal.ID(), e.open)
	if full != nil {
		e.refuse(a, 0, c, full)
		return false
	}
	c.seat = seat
	return true
}

// isMessage checks what the headers say of a body before it is read.
func (s *Server) isMessage(a *answer, r *http.Request, c *caller, most int64) bool {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	switch {
	case err != nil || kind != "application/json" || (charset != "" && !equalsUTF8(charset)):
		s.refuse(a, http.StatusUnsupportedMediaType, c, fault.New(fault.Invalid, "the Content-Type must be application/json, in UTF-8"))
	case r.Header.Get("Content-Encoding") != "":
		s.refuse(a, http.StatusUnsupportedMediaType, c, fault.New(fault.Invalid, "a compressed body is not taken"))
	case r.ContentLength > most:
		a.Header().Set("Connection", "close")
		s.refuse(a, http.StatusRequestEntityTooLarge, c, tooLarge(most))
	default:
		return true
	}
	return false
}

// tooLarge refuses a body above a bound of whole KiB.
func tooLarge(most int64) *fault.Error {
	if most >= 1<<20 {
		return fault.Newf(fault.Invalid, "the message is larger than %d MiB", most>>20)
	}
	return fault.Newf(fault.Invalid, "the message is larger than %d KiB", most>>10)
}

// bodies are reused; see giveBack.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Sizes of a body's buffer.
const (
	bodyExpected = 64 << 10 // what is set aside on a client's word alone
	bodyKept     = 1 << 20  // a larger buffer is not kept
)

// readBody reads a body, within its bound of size.
func (s *Server) readBody(a *answer, r *http.Request, c *caller, most int64) (*bytes.Buffer, bool) {
	body := bodies.Get().(*bytes.Buffer)
	body.Grow(int(min(max(r.ContentLength, 0), bodyExpected)) + bytes.MinRead)
	_, err := body.ReadFrom(io.LimitReader(r.Body, most+1))
	if err == nil && int64(body.Len()) <= most {
		_ = a.rc.SetReadDeadline(time.Time{}) // set in setDeadlines; it is for the body alone
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.Header().Set("Connection", "close")
		s.refuse(a, http.StatusRequestTimeout, c, fault.New(fault.Timeout, "the body did not arrive in time"))
	case err != nil:
		a.Header().Set("Connection", "close")
		s.refuse(a, 0, c, fault.New(fault.Invalid, "the body could not be read"))
	case int64(body.Len()) > most:
		a.Header().Set("Connection", "close")
		s.refuse(a, http.StatusRequestEntityTooLarge, c, tooLarge(most))
	default:
		return body, true
	}
	return body, false
}

// giveBack keeps a body's buffer for the next, without what was in it.
func giveBack(body *bytes.Buffer) {
	if body == nil || body.Cap() > bodyKept {
		return
	}
	clear(body.Bytes())
	body.Reset()
	bodies.Put(body)
}

// refuseFrame answers a message that never reaches the SDK, and records it.
func (e *endpoint) refuseFrame(a *answer, r *http.Request, c *caller, f *Frame, refusal *FrameError) {
	told := e.reject(c, c.principal, refusal.fault())
	status, code := http.StatusBadRequest, int64(refusal.Code)
	switch {
	case told.Kind == fault.Internal || told.Kind == fault.Unavailable: // the record failed
		status, code = Status(told.Kind), codeInternal
	case refusal.Code == codeNoMethod && r.Header.Get(headerVersion) >= modernVersion:
		status = http.StatusNotFound
	case refusal.Code == codeNoMethod: // well-formed: an answer, not an error of HTTP
		status = http.StatusOK
	}
	a.Header().Set("Content-Type", "application/json")
	a.WriteHeader(status)
	_, _ = a.Write(errorReply(f.ID, rpcError(code, told, c.requestID)))
}

// streamBody is stream for a message that opens a stream.
func (e *endpoint) streamBody(a *answer, r *http.Request, c *caller, handler http.Handler, body []byte) {
	if !e.flows.enter() {
		e.refuse(a, 0, c, shuttingDown())
		return
	}
	defer e.flows.leave()
	ctx, cancel := e.streamContext(r, c)
	defer cancel()
	handler.ServeHTTP(a, sdkRequest(ctx, r, c, body))
}

// stream serves a stream that has no message of its own. At shutdown it has no
// result to end with, so it just ends.
func (e *endpoint) stream(a *answer, r *http.Request, c *caller, handler http.Handler) {
	if !e.flows.enter() {
		e.refuse(a, 0, c, shuttingDown())
		return
	}
	defer e.flows.leave()
	ctx, cancel := e.streamContext(r, c)
	defer cancel()
	defer context.AfterFunc(e.streams, cancel)()
	session, on := r.Header.Get(headerSession), &standing{from: c}
	a.stands()
	a.opened = func() { e.subscribers.opened(session, on) } // the SDK took it
	go e.keepSession(ctx, r, c, session)
	defer e.subscribers.closed(session, on)
	handler.ServeHTTP(a, sdkRequest(ctx, r, c, nil))
}
