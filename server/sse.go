package server

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"time"

	"vault-mcp/fault"
)

// answer stands between the SDK and the connection. It
//
//   - gives each write a deadline, so that a client which takes nothing is cut
//     off: the failed write ends the request's context
//   - keeps idle event streams alive with comments, from the SDK's first byte
//     on; before it, the SDK may still choose another kind of answer
//   - tells proxies not to buffer event streams
//   - replaces the texts of the SDK's errors, which repeat values of the request
//
// The SDK writes from several goroutines, and the comments come from a timer,
// so everything is under one lock. After finish nothing is written any more.
type answer struct {
	w         http.ResponseWriter
	rc        *http.ResponseController
	requestID string
	timeout   time.Duration // of one write
	keepAlive time.Duration

	mu       sync.Mutex // guards what follows, and every write
	began    bool
	finished bool
	stream   bool // text/event-stream
	failed   int  // the status of an error answer of the SDK, whose text is replaced
	replaced bool
	timer    *time.Timer
}

func (s *Server) newAnswer(w http.ResponseWriter, requestID string) *answer {
	return &answer{
		w: w, rc: http.NewResponseController(w), requestID: requestID,
		timeout: s.opt.WriteTimeout, keepAlive: s.opt.KeepAlive,
	}
}

// Header is the answer's header.
func (a *answer) Header() http.Header { return a.w.Header() }

// Unwrap lets a ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.w }

// WriteHeader starts the answer.
func (a *answer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.finished {
		a.begin(status)
	}
}

func (a *answer) begin(status int) {
	if a.began {
		return
	}
	a.began = true
	h := a.w.Header()
	h.Set("Cache-Control", "no-store")
	kind := h.Get("Content-Type")
	switch {
	case strings.HasPrefix(kind, "text/event-stream"):
		a.stream = true
		h.Set("X-Accel-Buffering", "no")
	case status >= 400 && strings.HasPrefix(kind, "text/plain"):
		a.failed = status // the SDK explains itself in plain text: see Write
		return
	}
	a.w.WriteHeader(status)
}

// Write sends one event, one JSON message, or the text of an error: the SDK
// writes each of them in one piece.
func (a *answer) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished {
		return 0, http.ErrHandlerTimeout
	}
	a.begin(http.StatusOK)
	_ = a.rc.SetWriteDeadline(time.Now().Add(a.timeout))
	if a.failed != 0 {
		if !a.replaced {
			a.replaced = true
			writeProblem(a.w, a.failed, sdkFault(a.failed), a.requestID)
		}
		return len(b), nil
	}
	if _, err := a.w.Write(a.clean(b)); err != nil {
		return 0, err
	}
	if a.stream {
		a.arm()
	}
	return len(b), nil
}

// eventStart is how the SDK starts an event that carries a message.
var eventStart = []byte("event: message\ndata: ")

// clean is b, with the text of an error of the SDK replaced.
func (a *answer) clean(b []byte) []byte {
	if !a.stream {
		return cleanReply(b, a.requestID)
	}
	msg, ok := bytes.CutPrefix(b, eventStart)
	if !ok || !isErrorReply(msg) {
		return b
	}
	var event bytes.Buffer
	event.Write(eventStart)
	event.Write(cleanReply(bytes.TrimRight(msg, "\n"), a.requestID))
	event.WriteString("\n\n")
	return event.Bytes()
}

// FlushError sends what is buffered.
func (a *answer) FlushError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished || !a.began || a.failed != 0 {
		return nil
	}
	_ = a.rc.SetWriteDeadline(time.Now().Add(a.timeout))
	return a.rc.Flush()
}

// arm sets the time of the next comment.
func (a *answer) arm() {
	if a.timer == nil {
		a.timer = time.AfterFunc(a.keepAlive, a.comment)
		return
	}
	a.timer.Reset(a.keepAlive)
}

// comment keeps an idle stream alive.
func (a *answer) comment() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished {
		return
	}
	_ = a.rc.SetWriteDeadline(time.Now().Add(a.timeout))
	if _, err := a.w.Write([]byte(": keep-alive\n\n")); err != nil {
		return
	}
	if a.rc.Flush() == nil {
		a.arm()
	}
}

// finish ends the answer before its handler returns.
func (a *answer) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finished = true
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.failed != 0 && !a.replaced {
		writeProblem(a.w, a.failed, sdkFault(a.failed), a.requestID)
	}
}

// sdkFault says in our words what a status of the SDK means.
func sdkFault(status int) *fault.Error {
	switch status {
	case http.StatusNotFound:
		return fault.New(fault.NotFound, "there is no such session; initialize a new one")
	case http.StatusForbidden:
		return fault.New(fault.Forbidden, "the session belongs to another principal")
	case http.StatusMethodNotAllowed:
		return fault.New(fault.Invalid, "the HTTP method does not fit this endpoint in this protocol version")
	case http.StatusConflict:
		return fault.New(fault.Conflict, "the session has an open stream already")
	case http.StatusRequestEntityTooLarge:
		return fault.New(fault.Invalid, "the message is larger than 4 MiB")
	}
	if status < http.StatusInternalServerError {
		return fault.New(fault.Invalid, "the request's headers do not fit the protocol: "+
			"Accept must take application/json and text/event-stream, MCP-Protocol-Version must be one of those that the server speaks, "+
			"and all but an initialize needs its Mcp-Session-Id")
	}
	return fault.New(fault.Internal, "internal error; the operator finds the cause under the request id")
}

func (a *answer) hasBegun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.began
}
