package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/fault"
	"vault-mcp/tools"
)

// JSON-RPC error codes that the gate and the adapters use.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeNoMethod       = -32601
	codeInvalidParams  = -32602
	codeInternal       = -32603
	codeNoResource     = -32002 // before 2026-07-28, which has codeInvalidParams for it
)

// FrameError says why a message was refused. Its text is one of a fixed set
// and never holds anything of the message.
type FrameError struct {
	Code int    // JSON-RPC error code
	Msg  string // for the caller
}

func (e *FrameError) Error() string { return e.Msg }

// fault is a frame error as an error of ours.
func (e *FrameError) fault() *fault.Error {
	if e.Code == codeNoMethod {
		return fault.New(fault.NotFound, e.Msg)
	}
	return fault.New(fault.Invalid, e.Msg)
}

// rpcError is an error of ours as a JSON-RPC error; its data is the object that
// errors are over every surface.
func rpcError(code int64, f *fault.Error, requestID string) *jsonrpc.Error {
	return &jsonrpc.Error{Code: code, Message: f.Msg, Data: tools.NewErrorObject(f, requestID).JSON()}
}

// protocolError is an error of ours as the answer to a request that has no other
// way to say it than JSON-RPC's: all but a tool's call.
func protocolError(err error, version, requestID string) *jsonrpc.Error {
	f, code := fault.From(err), int64(codeInvalidRequest)
	switch f.Kind {
	case fault.Invalid:
		code = codeInvalidParams
	case fault.NotFound:
		if code = codeInvalidParams; version < modernVersion {
			code = codeNoResource
		}
	case fault.Unavailable, fault.Timeout, fault.Canceled, fault.Internal:
		code = codeInternal
	default: // the caller may not: the request is not valid for it
	}
	return rpcError(code, f, requestID)
}

// errorReply is a whole JSON-RPC error response. A nil id becomes null.
func errorReply(rawID []byte, e *jsonrpc.Error) []byte {
	if rawID == nil {
		rawID = []byte("null")
	}
	msg, _ := jsonv2.Marshal(e.Message) // a string of ours always encodes
	var b bytes.Buffer
	b.WriteString(`{"jsonrpc":"2.0","id":`)
	b.Write(rawID)
	b.WriteString(`,"error":{"code":`)
	b.WriteString(strconv.FormatInt(e.Code, 10))
	b.WriteString(`,"message":`)
	b.Write(msg)
	if len(e.Data) > 0 {
		b.WriteString(`,"data":`)
		b.Write(e.Data)
	}
	b.WriteString(`}}`)
	return b.Bytes()
}

// sdkMessages replace the texts of the SDK's own errors: those repeat methods,
// names, headers, and sometimes whole params.
var sdkMessages = map[int64]string{
	codeParse:              "the message is not valid JSON",
	codeInvalidRequest:     "the request is not valid, or not at this point of the session",
	codeNoMethod:           "this server has no such method in this protocol version",
	codeInvalidParams:      "the params are not what the method takes",
	codeInternal:           "internal error",
	mcp.CodeHeaderMismatch: "an MCP header is missing, malformed or differs from the body",
	mcp.CodeUnsupportedProtocolVersion: "this server does not speak that protocol version; " +
		"data.supported lists those it does",
	mcp.CodeMissingRequiredClientCapabilities: "the client lacks a capability that this request needs",
}

// cleanError makes an error that the SDK answers with fit to be sent, and
// records it: what the SDK refuses never became a call. Errors that are ours
// come by here as well, and pass.
func (s *Server) cleanError(c *caller, err error) *jsonrpc.Error {
	var e *jsonrpc.Error
	if !errors.As(err, &e) {
		e = &jsonrpc.Error{}
	}
	if isOurs(c, e.Data) {
		return e
	}
	code := e.Code
	if code == 0 { // the SDK's errors without a code are about the session's state
		code = codeInvalidRequest
	}
	f := fault.New(fault.Invalid, "the request could not be served")
	if msg := sdkMessages[code]; msg != "" {
		f.Msg = msg
	}
	switch {
	case errors.Is(err, context.Canceled):
		f = fault.From(context.Canceled)
	case code == codeNoMethod:
		f.Kind = fault.NotFound
	case code == codeInternal:
		f.Kind = fault.Internal
	}
	told := s.reject(c, c.principal, f)
	if told.Kind != f.Kind { // the record failed
		return rpcError(codeInternal, told, c.requestID)
	}
	clean := rpcError(code, told, c.requestID)
	if code == mcp.CodeUnsupportedProtocolVersion {
		clean.Data = versionData(e.Data)
	}
	return clean
}

// isOurs recognises errors of our own by the request's id in their data, which
// no caller knows beforehand.
func isOurs(c *caller, data []byte) bool {
	return c.requestID != "" && bytes.Contains(data, []byte(c.requestID))
}

// versionData is what the protocol wants with an unsupported version: those
// that are, and the one asked for. That one is repeated only where it looks
// like a version, since it is the caller's to choose.
func versionData(data []byte) []byte {
	var d mcp.UnsupportedProtocolVersionData
	if jsonv2.Unmarshal(data, &d) != nil {
		return nil
	}
	if len(d.Requested) > len("v2026-07-28") || strings.Trim(d.Requested, "v0123456789.-") != "" {
		d.Requested = ""
	}
	clean, err := jsonv2.Marshal(d)
	if err != nil {
		return nil
	}
	return clean
}

// isErrorReply reports whether an encoded message of the SDK is an error
// response: `{"jsonrpc":"2.0","id":…,"error":…`. It looks only at the head.
func isErrorReply(msg []byte) bool {
	rest, ok := bytes.CutPrefix(msg, []byte(`{"jsonrpc":"2.0","`))
	if !ok {
		return false
	}
	if after, ok := bytes.CutPrefix(rest, []byte(`id":`)); ok {
		end := idEnd(after)
		if rest, ok = bytes.CutPrefix(after[end:], []byte(`,"`)); !ok {
			return false
		}
	}
	return bytes.HasPrefix(rest, []byte(`error"`))
}

// idEnd is the length of the id at the start of b.
func idEnd(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		if i := bytes.IndexByte(b, ','); i >= 0 {
			return i
		}
		return len(b)
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// cleanReply is an encoded message of the SDK, with its error cleaned if it is
// an error response. The SDK sends some without an id, which its own decoder
// does not take.
func (s *Server) cleanReply(c *caller, msg []byte) []byte {
	if !isErrorReply(msg) {
		return msg
	}
	var reply struct {
		ID    jsontext.Value `json:"id"`
		Error struct {
			Code int64          `json:"code"`
			Data jsontext.Value `json:"data"`
		} `json:"error"`
	}
	if jsonv2.Unmarshal(msg, &reply) != nil {
		reply.Error.Code = codeInternal
	}
	if isOurs(c, reply.Error.Data) {
		return msg
	}
	return errorReply(reply.ID, s.cleanError(c, &jsonrpc.Error{
		Code: reply.Error.Code, Data: json.RawMessage(reply.Error.Data),
	}))
}

// statuses maps kinds of errors to HTTP.
var statuses = map[fault.Kind]int{
	fault.Invalid:         http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Forbidden:       http.StatusForbidden,
	fault.NotFound:        http.StatusNotFound,
	fault.Conflict:        http.StatusConflict,
	fault.RateLimited:     http.StatusTooManyRequests,
	fault.Unavailable:     http.StatusServiceUnavailable,
	fault.Timeout:         http.StatusGatewayTimeout,
	fault.Canceled:        499,
	fault.Internal:        http.StatusInternalServerError,
}

// Status is the HTTP status of a kind of error.
func Status(k fault.Kind) int {
	if status, ok := statuses[k]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// problem is an application/problem+json document (RFC 9457) that is at the
// same time the error object of every other surface.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	tools.ErrorObject
}

// writeProblem answers with an error. The status is the kind's unless given.
func writeProblem(w http.ResponseWriter, status int, f *fault.Error, requestID string) {
	if status == 0 {
		status = Status(f.Kind)
	}
	title := http.StatusText(status)
	if title == "" {
		title = string(f.Kind)
	}
	body, err := jsonv2.Marshal(problem{Title: title, Status: status, ErrorObject: tools.NewErrorObject(f, requestID)}, jsonv2.Deterministic(true))
	if err != nil {
		body = []byte(`{"title":"error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if f.RetryAfter > 0 {
		h.Set("Retry-After", retryAfter(f.RetryAfter))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// retryAfter is a wait in whole seconds, at least one.
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}
