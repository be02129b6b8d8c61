package server

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/fault"
	"vault-mcp/tools"
)

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

// cleanError makes an error of the SDK fit to be sent. Ours are recognised by
// the request's id, which no caller knows beforehand, in their data.
func cleanError(err error, requestID string) *jsonrpc.Error {
	var e *jsonrpc.Error
	if !errors.As(err, &e) {
		e = &jsonrpc.Error{}
	}
	if requestID != "" && bytes.Contains(e.Data, []byte(requestID)) {
		return e
	}
	clean := &jsonrpc.Error{Code: e.Code}
	if clean.Code == 0 { // the SDK's errors without a code are about the session's state
		clean.Code = codeInvalidRequest
	}
	clean.Message = sdkMessages[clean.Code]
	if clean.Message == "" {
		clean.Message = "the request could not be served"
	}
	if clean.Code == mcp.CodeUnsupportedProtocolVersion {
		clean.Data = e.Data
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
// an error response.
func cleanReply(msg []byte, requestID string) []byte {
	if !isErrorReply(msg) {
		return msg
	}
	decoded, err := jsonrpc.DecodeMessage(msg)
	resp, ok := decoded.(*jsonrpc.Response)
	if err != nil || !ok {
		return errorReply(nil, &jsonrpc.Error{Code: codeInternal, Message: sdkMessages[codeInternal]})
	}
	resp.Error = cleanError(resp.Error, requestID)
	clean, err := jsonrpc.EncodeMessage(resp)
	if err != nil {
		return errorReply(nil, &jsonrpc.Error{Code: codeInternal, Message: sdkMessages[codeInternal]})
	}
	return clean
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
	body, err := jsonv2.Marshal(problem{Title: title, Status: status, ErrorObject: tools.NewErrorObject(f, requestID)})
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
