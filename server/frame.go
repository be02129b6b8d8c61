package server

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of one message.
const (
	// MaxMessage is the largest message that is read, in bytes.
	MaxMessage = 4 << 20
	// maxDepth is how deep a message may nest. Vault takes 300 levels; this
	// leaves its data room inside the envelope, the params and the arguments.
	maxDepth = 256
	// maxNameLength bounds a method's and a tool's name, and an id.
	maxNameLength = 256
	// maxInitialize bounds an initialize, whose params the SDK keeps for as long
	// as the session lives.
	maxInitialize = 16 << 10
)

// Frame is what CheckFrame learned of a message. Its slices alias the message.
type Frame struct {
	Method   string // empty for a response
	ID       []byte // the raw id; nil for a notification, or where none could be read
	Tool     []byte // the raw name of a tools/call, with its quotes
	Modern   bool   // the params' _meta names a protocol version: a request of 2026-07-28 or later
	Response bool   // an answer to a request of ours
}

// IsCall reports whether the message wants an answer.
func (f *Frame) IsCall() bool { return f.ID != nil && !f.Response }

// decoders are reused: a decoder's state is the gate's only allocation.
var decoders = sync.Pool{New: func() any { return &gate{} }}

// gate is the state of checking one message.
type gate struct {
	dec  jsontext.Decoder
	src  bytes.Buffer
	data []byte

	frame  Frame
	err    *FrameError // the first finding; checking goes on, for the id
	seen   members
	name   []byte // the params' name, raw, if it is a string
	params paramFaults
	uri    bool // the params have a uri of the right form
	prompt promptParams
}

// members are the top-level members that a message has.
type members struct{ version, id, method, params, result, error bool }

// paramFaults are findings in the params that matter only to some methods; the
// method may come after its params.
type paramFaults struct {
	name, arguments, meta, lookalike, responses, state, cursor, notifications bool
}

// CheckFrame holds one JSON-RPC message against what this server takes: one
// object with exact member names of the right types and no others, nothing
// twice at any depth, valid UTF-8, bounded in size and depth, and nothing
// after it. Whatever it accepts, the SDK's decoder reads in the same way.
//
// The error is a *FrameError. With an error, Frame.ID is the message's id if
// that could be read.
func CheckFrame(data []byte) (Frame, error) {
	g := decoders.Get().(*gate)
	defer decoders.Put(g)
	err := g.check(data)
	frame := g.frame
	g.forget()
	if err != nil {
		return frame, err
	}
	return frame, nil
}

// forget makes the gate ready for the next message and lets go of this one,
// which may hold secrets.
func (g *gate) forget() {
	g.data, g.name, g.err = nil, nil, nil
	g.frame, g.seen, g.params, g.uri, g.prompt = Frame{}, members{}, paramFaults{}, false, promptParams{}
	g.src = bytes.Buffer{}
	g.dec.Reset(&g.src)
}

func (g *gate) check(data []byte) *FrameError {
	switch {
	case len(data) > MaxMessage:
		return &FrameError{codeInvalidRequest, "the message is larger than 4 MiB"}
	case tooDeep(data):
		return &FrameError{codeInvalidRequest, "the message nests too deeply"}
	}
	// A Buffer that only points to data: the decoder then reads it in place.
	g.data, g.src = data, *bytes.NewBuffer(data)
	g.dec.Reset(&g.src)
	switch g.dec.PeekKind() {
	case '{':
	case '[':
		return &FrameError{codeInvalidRequest, "batches are not taken; send one message at a time"}
	default:
		return &FrameError{codeParse, "the message is not a JSON object"}
	}
	if err := g.object(g.topLevel); err != nil {
		return syntax(err)
	}
	if _, err := g.dec.ReadToken(); !errors.Is(err, io.EOF) {
		g.fail(codeParse, "there is something after the message")
	}
	g.conclude()
	return g.err
}

// fail notes the first finding.
func (g *gate) fail(code int, msg string) {
	if g.err == nil {
		g.err = &FrameError{code, msg}
	}
}

// syntax is the finding for an error of the JSON decoder.
func syntax(err error) *FrameError {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return &FrameError{codeInvalidRequest, "a member's name occurs twice in one object"}
	}
	return &FrameError{codeParse, "the message is not valid JSON"}
}

// object reads an object and gives each member's raw name to member, which
// reads the value.
func (g *gate) object(member func(name []byte) error) error {
	if _, err := g.dec.ReadToken(); err != nil {
		return err
	}
	for g.dec.PeekKind() == '"' {
		name, err := g.value()
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := g.dec.ReadToken()
	return err
}

// value reads one value and returns its bytes in the message.
func (g *gate) value() ([]byte, error) {
	v, err := g.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	end := g.dec.InputOffset()
	return g.data[end-int64(len(v)) : end], nil
}

// topLevel takes one member of the message. Names are compared as they are
// written: an escape in a name is a way around a filter and nothing else.
func (g *gate) topLevel(name []byte) error {
	switch string(name) {
	case `"params"`:
		g.seen.params = true
		if g.dec.PeekKind() == '{' {
			return g.object(g.paramsMember)
		}
		g.fail(codeInvalidRequest, "params must be an object")
		return g.dec.SkipValue()
	case `"error"`:
		g.seen.error = true
		return g.errorMember()
	case `"result"`:
		g.seen.result = true
		return g.dec.SkipValue()
	}
	v, err := g.value()
	if err != nil {
		return err
	}
	switch string(name) {
	case `"jsonrpc"`:
		g.seen.version = true
		if string(v) != `"2.0"` {
			g.fail(codeInvalidRequest, `jsonrpc must be "2.0"`)
		}
	case `"id"`:
		g.seen.id = true
		if !isID(v) {
			g.fail(codeInvalidRequest, "the id must be a string or an integer, and not too long")
			return nil
		}
		g.frame.ID = v
	case `"method"`:
		g.seen.method = true
		if !isMethod(v) {
			g.fail(codeInvalidRequest, "the method must be a short string of letters, digits and / _ . - $")
			return nil
		}
		g.frame.Method = methodName(v)
	default:
		g.fail(codeInvalidRequest, "the message has a member that JSON-RPC does not know")
	}
	return nil
}

// errorMember reads the error of a response: the SDK wants these types.
func (g *gate) errorMember() error {
	if g.dec.PeekKind() != '{' {
		g.fail(codeInvalidRequest, "error must be an object")
		return g.dec.SkipValue()
	}
	return g.object(func(name []byte) error {
		v, err := g.value()
		switch string(name) {
		case `"code"`:
			if err == nil && !isInteger(v) {
				g.fail(codeInvalidRequest, "the error's code must be an integer")
			}
		case `"message"`:
			if err == nil && !isString(v) {
				g.fail(codeInvalidRequest, "the error's message must be a string")
			}
		case `"data"`:
		default:
			g.fail(codeInvalidRequest, "the error has a member that JSON-RPC does not know")
		}
		return err
	})
}

// conclude judges what only the whole message tells.
func (g *gate) conclude() {
	if !g.seen.version {
		g.fail(codeInvalidRequest, `jsonrpc must be "2.0"`)
	}
	if !g.seen.method {
		if g.seen.result == g.seen.error || g.seen.params || g.frame.ID == nil {
			g.fail(codeInvalidRequest, "the message is neither a request nor a response")
		}
		g.frame.Response = true
		return
	}
	switch {
	case g.seen.result || g.seen.error:
		g.fail(codeInvalidRequest, "the message is both a request and a response")
	case g.params.meta:
		g.fail(codeInvalidParams, "params._meta must be an object")
	case g.frame.Method == methodInitialize && len(g.data) > maxInitialize:
		g.fail(codeInvalidRequest, "an initialize is larger than 16 KiB")
	case methods[g.frame.Method].takes != noParam:
		g.concludeResource(methods[g.frame.Method])
	case g.frame.Method == methodGetPrompt, g.frame.Method == methodComplete:
		g.checkPrompt()
		return
	case g.params.lookalike && g.frame.Method == methodListen:
		g.fail(codeInvalidParams, msgLookalike)
	case g.params.notifications && g.frame.Method == methodListen:
		g.fail(codeInvalidParams, "params.notifications must be an object, with true and false, and resourceSubscriptions a list of at most 100 URIs")
	case g.frame.Method != methodCall:
	case g.params.lookalike:
		g.fail(codeInvalidParams, msgLookalike)
	case g.name == nil:
		g.fail(codeInvalidParams, msgName)
	case g.params.arguments:
		g.fail(codeInvalidParams, "params.arguments must be an object")
	case g.params.responses, g.params.state:
		g.fail(codeInvalidParams, msgResponses)
	}
	g.frame.Tool = g.name
}
