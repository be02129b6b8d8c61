package server

import (
	"errors"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

var errCutOff = errors.New("stdio: what was under way did not end in time and was cut off")

// drainStdio waits for the session to end after the input did.
func (s *Server) drainStdio(conn *stdioConn, ended <-chan error) error {
	s.draining.Store(true)
	s.endStream()
	for _, step := range []struct {
		within time.Duration
		then   func()
	}{
		{s.opt.DrainTimeout, s.endCalls},
		{forcedGrace, func() { _ = conn.Close() }},
		{forcedGrace, func() {}},
	} {
		timer := time.NewTimer(step.within)
		select {
		case err := <-ended:
			timer.Stop()
			return err
		case <-timer.C:
			step.then()
		}
	}
	return errCutOff
}

// finishCalls lets calls finish that outlive the session: those of a client that
// is gone.
func (s *Server) finishCalls() error {
	s.calls.land()
	if within(s.opt.DrainTimeout, s.calls) {
		return nil
	}
	s.endCalls()
	if within(forcedGrace, s.calls) {
		return nil
	}
	return errCutOff
}

// Close ends Read. It may be called more than once.
func (c *stdioConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !isClosed(c.closed) {
		close(c.closed)
	}
	return nil
}

// stop takes no more input.
func (c *stdioConn) stop(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	if !isClosed(c.stopped) {
		close(c.stopped)
	}
	c.settle()
}

// settle tells that all is answered, if that is so. The lock is held.
func (c *stdioConn) settle() {
	if isClosed(c.stopped) && len(c.pending) == 0 && c.sending == 0 && !isClosed(c.drained) {
		close(c.drained)
	}
}

func (c *stdioConn) fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// maxPending bounds the requests under way: more than there is room for calls,
// so that those beyond are told that the server is busy, but no more than a
// client can pile up that writes and does not read.
const maxPending = 1024

// began notes a call, unless its id is in use (which of the two an answer
// belongs to, nobody could tell) or too much is under way.
func (c *stdioConn) began(id jsonrpc.ID, from *caller) *FrameError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, used := c.pending[id]; used {
		return &FrameError{codeInvalidRequest, "the id is that of a request under way"}
	}
	if len(c.pending) >= maxPending {
		return &FrameError{codeInvalidRequest, "too many requests are under way"}
	}
	c.pending[id] = from
	return nil
}

// answered frees the id of a call whose answer is ready; sent is to follow.
func (c *stdioConn) answered(id jsonrpc.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
	c.sending++
}

// sent notes that the answer is written, or that there is none.
func (c *stdioConn) sent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sending--
	c.settle()
}

// callerOf is the caller of a request under way.
func (c *stdioConn) callerOf(id jsonrpc.ID) *caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from := c.pending[id]; from != nil {
		return from
	}
	return c.newCaller()
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
