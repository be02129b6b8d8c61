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
//     off: the failed write ends the request's context. In HTTP/2 a deadline
//     that passes ends the request also where nothing is being written; so there
//     it stands while something is, and no longer
//   - keeps idle event streams alive with comments, from the SDK's first byte
//     on; before it, the SDK may still choose another kind of answer
//   - tells proxies not to buffer event streams
//   - records what the SDK refuses, and replaces the texts of its errors, which
//     repeat values of the request
//
// The SDK writes from several goroutines, and the comments come from a timer,
// so everything is under one lock. After finish nothing is written any more.
type answer struct {
	s  *Server
	c  *caller
	w  http.ResponseWriter
	rc *http.ResponseController
	h2 bool // HTTP/2

	most time.Duration // that a write may take

	mu       sync.Mutex // guards what follows, and every write
	began    bool
	finished bool
	stream   bool // text/event-stream
	last     bool // what was written is the answer to the request: nothing comes after it
	failed   int  // the status of an error answer of the SDK, see failure
	replaced bool
	stepped  bool // what the SDK wrote was answered by stepUp
	timer    *time.Timer
	until    time.Time // the deadline of the last write
	cutOff   bool      // it was not kept
	opened   func()    // told once, when an event stream begins
}

func (s *Server) newAnswer(w http.ResponseWriter, c *caller, protocol int) *answer {
	a := &answer{s: s, c: c, w: w, rc: http.NewResponseController(w), h2: protocol >= 2, most: s.opt.WriteTimeout}
	a.written() // the deadline of setDeadlines is for those who need no answer
	return a
}

// writing sets the deadline of what is written next.
func (a *answer) writing() {
	a.until = time.Now().Add(a.most)
	_ = a.rc.SetWriteDeadline(a.until)
}

// broke notes that a write failed. What failed at its deadline, the client did not
// take.
func (a *answer) broke(err error) error {
	if !a.cutOff && !time.Now().Before(a.until) {
		a.cutOff = true
		a.s.cutOffs.add(a.c.remote, a.c.requestID)
	}
	return err
}

// stands makes it the answer of a stream that lasts as long as its credential.
func (a *answer) stands() { a.most = min(a.most, streamWait) }

// written ends the deadline where it would end more than a write.
func (a *answer) written() {
	if a.h2 {
		_ = a.rc.SetWriteDeadline(time.Time{})
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
		if a.opened != nil {
			a.opened()
		}
	case status >= 400 && strings.HasPrefix(kind, "text/plain"):
		a.failed = status // the SDK explains itself in plain text: see failure
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
	a.writing()
	defer a.written()
	if a.stepUp(b) {
		return len(b), nil
	}
	a.begin(http.StatusOK)
	if a.failed != 0 {
		a.failure()
		return len(b), nil
	}
	if _, err := a.w.Write(a.clean(b)); err != nil {
		return 0, a.broke(err)
	}
	a.last = a.stream && isReply(b)
	if a.stream && !a.last {
		a.arm()
	}
	return len(b), nil
}

// isReply reports whether an event is a response. We ask clients nothing, so
// whatever has an id is one.
func isReply(event []byte) bool {
	msg, ok := bytes.CutPrefix(event, eventStart)
	return ok && bytes.HasPrefix(msg, replyStart)
}

// replyStart is how the SDK starts a response.
var replyStart = []byte(`{"jsonrpc":"2.0","id":`)

// replyID is the raw id of a response, in an event or not.
func replyID(msg []byte) ([]byte, bool) {
	after, ok := bytes.CutPrefix(bytes.TrimPrefix(msg, eventStart), replyStart)
	if !ok {
		return nil, false
	}
	return after[:idEnd(after)], true
}

// failure answers in place of the SDK's text, and records the refusal.
func (a *answer) failure() {
	if a.replaced {
		return
	}
	a.replaced = true
	status, f := a.failed, sdkFault(a.failed)
	told := a.s.reject(a.c, a.c.principal, f)
	if told.Kind != f.Kind { // the record failed, which is another error
		status = 0
	}
	writeProblem(a.w, status, told, a.c.requestID)
}

// eventStart is how the SDK starts an event that carries a message.
var eventStart = []byte("event: message\ndata: ")

// clean is b, with the text of an error of the SDK replaced.
func (a *answer) clean(b []byte) []byte {
	if !a.stream {
		return a.s.cleanReply(a.c, b)
	}
	msg, ok := bytes.CutPrefix(b, eventStart)
	if !ok || !isErrorReply(msg) {
		return b
	}
	var event bytes.Buffer
	event.Write(eventStart)
	event.Write(a.s.cleanReply(a.c, bytes.TrimRight(msg, "\n")))
	event.WriteString("\n\n")
	return event.Bytes()
}

// FlushError sends what is buffered. After the answer the handler returns, and
// net/http sends the rest in one piece: a system call less on each side.
func (a *answer) FlushError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished || !a.began || a.failed != 0 || a.last {
		return nil
	}
	a.writing()
	defer a.written()
	if err := a.rc.Flush(); err != nil {
		return a.broke(err)
	}
	return nil
}

// send writes a piece of a stream of our own, and sends it, until a time. The
// comments of such a stream are its own, too.
func (a *answer) send(piece []byte, until time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished {
		return http.ErrHandlerTimeout
	}
	_ = a.rc.SetWriteDeadline(until)
	defer a.written()
	if _, err := a.w.Write(piece); err != nil {
		return err
	}
	return a.rc.Flush()
}

// arm sets the time of the next comment.
func (a *answer) arm() {
	if a.timer == nil {
		a.timer = time.AfterFunc(a.s.opt.KeepAlive, a.comment)
		return
	}
	a.timer.Reset(a.s.opt.KeepAlive)
}

// comment keeps an idle stream alive.
func (a *answer) comment() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.finished {
		return
	}
	a.writing()
	defer a.written()
	_, err := a.w.Write([]byte(": keep-alive\n\n"))
	if err == nil {
		err = a.rc.Flush()
	}
	if err != nil {
		_ = a.broke(err)
		return
	}
	a.arm()
}

// finish ends the answer before its handler returns.
func (a *answer) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finished = true
	a.writing() // of what net/http sends when the handler has returned
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.failed != 0 {
		a.failure()
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
	return fault.New(fault.Internal, fault.MsgInternal)
}

func (a *answer) hasBegun() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.began
}
