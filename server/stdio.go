package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	sdkauth "github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/zap"

	"vault-mcp/fault"
	"vault-mcp/tools"
)

// forcedGrace is what is left for records and answers after calls under way
// were cancelled because the drain's time was over.
const forcedGrace = time.Second

// ServeStdio serves one client over in and out, a message a line, until in
// ends or ctx does. Either way it takes no more then, lets what is under way
// finish within DrainTimeout and its answers be written, and returns nil. It
// returns an error if out broke, in failed, or something had to be cut off.
//
// in is closed at the end if it can be.
func (s *Server) ServeStdio(ctx context.Context, in io.Reader, out io.Writer, launch Launch) error {
	conn := &stdioConn{
		s: s, in: in, out: out, launch: launch,
		messages: make(chan jsonrpc.Message),
		stopped:  make(chan struct{}), drained: make(chan struct{}), closed: make(chan struct{}),
		pending: make(map[jsonrpc.ID]*caller),
	}
	session, err := s.mcp.Connect(context.WithoutCancel(ctx), conn, nil)
	if err != nil {
		return fmt.Errorf("stdio: %w", err)
	}
	s.log.Info("serving stdio", zap.String("version", s.opt.Version))
	done := s.opt.Runner.WatchRefusals(transportStdio)
	defer done()
	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()

	over := false
	select {
	case err = <-ended:
		over = true
	case <-conn.stopped: // the input ended, or the output broke
	case <-ctx.Done():
	}
	s.log.Info("stopping", zap.String("transport", transportStdio))
	conn.stop(nil)
	if !over {
		err = s.drainStdio(conn, ended)
	}
	_ = conn.Close()
	if c, ok := in.(io.Closer); ok {
		_ = c.Close()
	}
	err = errors.Join(err, s.finishCalls()) //nolint:contextcheck // has bounds of its own
	s.end()
	s.flows.land()
	// Who tells of changes; one that waits for the output ends with the process.
	within(forcedGrace, s.flows) //nolint:contextcheck // has a bound of its own
	s.log.Info("stopped", zap.String("transport", transportStdio))
	return errors.Join(err, conn.fault())
}

// stdioConn is the SDK's transport and connection over stdin and stdout, with
// the frame gate between. One bad line is answered with an error and recorded;
// the session goes on.
type stdioConn struct {
	s      *Server
	in     io.Reader
	out    io.Writer
	launch Launch

	messages chan jsonrpc.Message // from the reading goroutine to Read
	stopped  chan struct{}        // no more input is taken
	drained  chan struct{}        // stopped, and every call is answered
	closed   chan struct{}        // the SDK is done with us

	writing sync.Mutex

	mu      sync.Mutex
	pending map[jsonrpc.ID]*caller // calls under way
	sending int                    // answers that are being written
	err     error                  // what broke
}

// Connect starts reading; the SDK calls it once.
func (c *stdioConn) Connect(context.Context) (mcp.Connection, error) {
	go c.pump()
	return c, nil
}

// SessionID is empty: there is one session.
func (c *stdioConn) SessionID() string { return "" }

// Read gives the SDK the next message; io.EOF once the input has ended and all
// calls are answered, since after io.EOF the SDK writes no more answers.
func (c *stdioConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	select {
	case msg := <-c.messages:
		return msg, nil
	case <-c.drained:
	case <-c.closed:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return nil, io.EOF
}

// Write sends a message of the SDK.
func (c *stdioConn) Write(_ context.Context, msg jsonrpc.Message) error {
	resp, isResponse := msg.(*jsonrpc.Response)
	if isResponse {
		cancelled := errors.Is(resp.Error, context.Canceled)
		if resp.Error != nil && !cancelled {
			resp.Error = c.s.cleanError(c.callerOf(resp.ID), resp.Error)
		}
		// The id is free before the answer can be read, since a client may
		// use it again at once.
		c.answered(resp.ID)
		defer c.sent()
		if cancelled { // who cancels a request wants no answer
			return nil
		}
	}
	line, err := jsonrpc.EncodeMessage(msg)
	if err != nil {
		return err
	}
	return c.writeLine(line)
}

func (c *stdioConn) writeLine(line []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.out.Write(append(line, '\n'))
	if err != nil { // nobody is there any more; calls under way end as at the end of input
		c.stop(fmt.Errorf("stdio: writing: %w", err))
	}
	return err
}

// pump reads lines until the input ends or no more is wanted. It is the one
// goroutine that cannot always be ended: a read of a terminal or pipe may last
// as long as the process.
func (c *stdioConn) pump() {
	lines := newLineReader(c.in)
	for {
		line, err := lines.next()
		switch {
		case errors.Is(err, errLineTooLong):
			c.refuse(nil, &FrameError{codeInvalidRequest, "the message is larger than 4 MiB"})
			continue
		case errors.Is(err, io.EOF), err != nil && isClosed(c.stopped): // we close it ourselves when we are done
			c.stop(nil)
			return
		case err != nil:
			c.stop(fmt.Errorf("stdio: reading: %w", err))
			return
		}
		if line = bytes.TrimSpace(line); len(line) > 0 && !c.take(line) {
			return
		}
	}
}

// take gives one line's message to the SDK. It is false when no more is wanted.
func (c *stdioConn) take(line []byte) bool {
	if isClosed(c.stopped) {
		return false
	}
	frame, err := CheckFrame(line)
	var refusal *FrameError
	if errors.As(err, &refusal) {
		c.refuse(frame.ID, refusal)
		return true
	}
	if frame.Response { // we ask nothing, so there is nothing to answer
		return true
	}
	ignore, refusal := checkMethod(&frame)
	if refusal != nil {
		c.refuse(frame.ID, refusal)
	}
	if ignore || refusal != nil {
		return true
	}
	msg, err := jsonrpc.DecodeMessage(line)
	req, ok := msg.(*jsonrpc.Request)
	if err != nil || !ok { // the gate takes nothing that the SDK does not
		c.refuse(frame.ID, &FrameError{codeParse, "the message could not be read"})
		return true
	}
	from := c.newCaller()
	if frame.Method == methodListen {
		from.id = bytes.Clone(frame.ID)
	}
	req.Extra = &mcp.RequestExtra{TokenInfo: &sdkauth.TokenInfo{Extra: map[string]any{callerKey: from}}}
	if frame.IsCall() {
		if refusal := c.began(req.ID, from); refusal != nil {
			c.refuse(nil, refusal)
			return true
		}
	}
	select {
	case c.messages <- req:
		return true
	case <-c.stopped:
	case <-c.closed:
	}
	if frame.IsCall() {
		c.answered(req.ID)
		c.sent()
	}
	return false
}

func (c *stdioConn) newCaller() *caller {
	return &caller{launch: c.launch, transport: transportStdio, requestID: tools.NewRequestID()}
}

// refuse answers a line that never reaches the SDK, and records it.
func (c *stdioConn) refuse(rawID []byte, refusal *FrameError) {
	from := c.newCaller()
	told := c.s.reject(from, nil, refusal.fault())
	code := int64(refusal.Code)
	if told.Kind == fault.Internal || told.Kind == fault.Unavailable { // the record failed
		code = codeInternal
	}
	_ = c.writeLine(errorReply(rawID, rpcError(code, told, from.requestID)))
}
