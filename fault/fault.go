// Package fault is the error taxonomy of vault-mcp.
//
// Every error that can reach a caller is an *Error. Its Msg is written for the
// agent and never contains a value from the request or text from an upstream;
// its Err is the cause, for logs only. Foreign errors are classified once,
// where they enter (vaultx, kmsx); everything that is not an *Error by the time
// it leaves is internal, and its text stays inside.
//
// Kinds are a closed set. errors.Is works on the kind and on the cause:
//
//	errors.Is(err, fault.NotFound)
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an error is. It is itself an error, so that
// errors.Is(err, fault.Conflict) reads as it should.
type Kind string

// The kinds. The strings are the `code` of error objects over every surface.
const (
	Invalid         Kind = "invalid"
	Unauthenticated Kind = "unauthenticated"
	Forbidden       Kind = "forbidden"
	NotFound        Kind = "not_found"
	Conflict        Kind = "conflict"
	RateLimited     Kind = "rate_limited"
	Unavailable     Kind = "unavailable"
	Timeout         Kind = "timeout"
	Canceled        Kind = "canceled"
	Internal        Kind = "internal"
)

// Kinds lists every kind; tables that map kinds are tested against it.
func Kinds() []Kind {
	return []Kind{
		Invalid, Unauthenticated, Forbidden, NotFound, Conflict,
		RateLimited, Unavailable, Timeout, Canceled, Internal,
	}
}

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return string(k) }

// Error is a failure that may be shown to a caller.
type Error struct {
	Kind       Kind
	Msg        string         // for the agent: no value, no upstream text
	RetryAfter time.Duration  // how long to wait, when known; else 0
	Details    map[string]any // small facts for the agent, e.g. {"field": "/path"}
	Err        error          // the cause, for the log only
}

// New makes an error of a kind with a message for the agent.
func New(k Kind, msg string) *Error { return &Error{Kind: k, Msg: msg} }

// Newf is New with a format. Its arguments must not be values from a request.
func Newf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// Wrap makes an error with a message for the agent and a cause for the log.
func Wrap(k Kind, msg string, cause error) *Error {
	return &Error{Kind: k, Msg: msg, Err: cause}
}

// Field makes an Invalid error about one argument, named by its JSON pointer
// ("/path", "/versions/0").
func Field(pointer, want string) *Error {
	return &Error{
		Kind:    Invalid,
		Msg:     pointer + ": " + want,
		Details: map[string]any{"field": pointer},
	}
}

// With returns a copy of e with one more detail.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Details = make(map[string]any, len(e.Details)+1)
	for k, v := range e.Details {
		c.Details[k] = v
	}
	c.Details[key] = value
	return &c
}

// Error is safe to show to a caller: it never includes the cause.
func (e *Error) Error() string { return string(e.Kind) + ": " + e.Msg }

// Unwrap lets errors.Is and errors.As see both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// From turns any error into an *Error. An *Error anywhere in the chain is
// returned as it is; a context's end becomes timeout or canceled; anything
// else is internal, with the cause kept for the log.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return Wrap(Timeout, "the operation did not finish in time", err)
	case errors.Is(err, context.Canceled):
		return Wrap(Canceled, "the caller went away or cancelled the call", err)
	default:
		return Wrap(Internal, MsgInternal, err)
	}
}

// KindOf is the kind of an error, Internal where it has none, "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	return From(err).Kind
}
