package vaultx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-mcp/fault"
)

// What agents are told. None of it comes from Vault: its texts may hold hosts,
// user names and parts of requests.
const (
	msgUnreachable = "Vault cannot be reached"
	msgSealed      = "Vault is sealed"
	msgStandby     = "this Vault node cannot serve requests now"
	msgFailed      = "Vault could not do this now"
	msgToken       = "the server's own Vault token is not accepted; an operator must renew it"
	msgDenied      = "Vault's policy does not allow the server to do this"
	msgNothing     = "there is nothing at this path"
	msgRefused     = "Vault refused the request as not valid"
	msgConflict    = "the secret's current version is not the one that cas names"
	msgRedirect    = "Vault answered with a redirect, which is never followed"
)

// Statuses that only Vault and OpenBao use.
const (
	statusDRSecondary  = 472
	statusPerfStandby  = 473
	statusNoActiveNode = 474
	statusRemovedNode  = 530
)

// passingError marks a fault that may be gone on the next try.
type passingError struct{ error }

func (p passingError) Unwrap() error { return p.error }

func passing(err error) bool {
	var p passingError
	return errors.As(err, &p)
}

// answeredError is the cause kept for logs: the status, and no text.
type answeredError int

func (a answeredError) Error() string { return "Vault answered " + strconv.Itoa(int(a)) }

// classify turns what came of a request into the one error that leaves this
// package. Only the operation and the status decide, and a few fixed words in
// Vault's text, which goes no further.
func classify(ctx context.Context, op Operation, retryable bool, status int, answer []byte, raw *api.Response, err error) *fault.Error {
	if err != nil {
		return broken(ctx, retryable, err)
	}
	cause := error(answeredError(status))
	switch status {
	case http.StatusBadRequest:
		return badRequest(op, answer, cause)
	case http.StatusUnauthorized, http.StatusForbidden:
		if bytes.Contains(answer, []byte("invalid token")) || status == http.StatusUnauthorized {
			return fault.Wrap(fault.Unavailable, msgToken, cause)
		}
		return fault.Wrap(fault.Forbidden, msgDenied, cause)
	case http.StatusNotFound:
		return fault.Wrap(fault.NotFound, msgNothing, cause)
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return fault.Wrap(fault.Internal, "Vault does not know this operation; the mount may hold another engine", cause)
	case http.StatusRequestEntityTooLarge:
		return fault.Wrap(fault.Invalid, "the request is larger than Vault accepts", cause)
	case http.StatusTooManyRequests:
		f := fault.Wrap(fault.RateLimited, "Vault's own limit is reached", passingError{cause})
		f.RetryAfter = retryAfter(raw)
		return f
	case http.StatusPreconditionFailed, statusDRSecondary, statusPerfStandby, statusNoActiveNode, statusRemovedNode:
		return fault.Wrap(fault.Unavailable, msgStandby, passingError{cause})
	case http.StatusNotImplemented:
		return fault.Wrap(fault.Unavailable, "Vault is not initialized", cause)
	case http.StatusServiceUnavailable:
		if bytes.Contains(answer, []byte("sealed")) {
			return fault.Wrap(fault.Unavailable, msgSealed, cause)
		}
		return fault.Wrap(fault.Unavailable, msgFailed, passingError{cause})
	case http.StatusGatewayTimeout:
		return unknownUnless(retryable, fault.Wrap(fault.Timeout, "Vault did not answer in time", passingError{cause}))
	}
	if status >= 300 && status < 400 {
		return fault.Wrap(fault.Unavailable, msgRedirect, cause)
	}
	return unknownUnless(retryable, fault.Wrap(fault.Unavailable, msgFailed, passingError{cause}))
}

func badRequest(op Operation, answer []byte, cause error) *fault.Error {
	switch {
	case bytes.Contains(answer, []byte("check-and-set parameter did not match")):
		return fault.Wrap(fault.Conflict, msgConflict, cause)
	case bytes.Contains(answer, []byte("check-and-set parameter required")):
		f := fault.Field("/cas", "is required for this secret")
		f.Err = cause
		return f
	}
	return fault.Wrap(fault.Invalid, msgRefused, fmt.Errorf("%w to %s", cause, op.Template))
}

// broken classifies a request to which no whole answer came.
func broken(ctx context.Context, retryable bool, err error) *fault.Error {
	cause := causeOf(err)
	var dial *net.OpError
	switch {
	case errors.Is(err, errPinned):
		return fault.Wrap(fault.Internal, "internal error; the operator finds the cause under the request id", cause)
	case errors.Is(err, errTooLarge):
		return unknownUnless(retryable, fault.Wrap(fault.Unavailable, "Vault's answer is larger than this server passes on", cause))
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return unknownUnless(retryable, fault.Wrap(fault.Timeout, "Vault did not answer in time", cause))
	case ctx.Err() != nil:
		return unknownUnless(retryable, fault.Wrap(fault.Canceled, "the caller went away or cancelled the call", cause))
	case errors.As(err, &dial) && dial.Op == "dial":
		return fault.Wrap(fault.Unavailable, msgUnreachable, passingError{cause})
	}
	return unknownUnless(retryable, fault.Wrap(fault.Unavailable, "the connection to Vault broke", passingError{cause}))
}

// unknownUnless marks an operation that may or may not have been done. One that
// may be repeated is not worth the word.
func unknownUnless(retryable bool, f *fault.Error) *fault.Error {
	if retryable {
		return f
	}
	return f.With("outcome", "unknown")
}

// causeOf strips the URL, which holds a path, from a network error.
func causeOf(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// longestRetryAfter caps what is passed on of Vault's Retry-After.
const longestRetryAfter = time.Minute

func retryAfter(raw *api.Response) time.Duration {
	if raw == nil {
		return time.Second
	}
	n, err := strconv.Atoi(raw.Header.Get("Retry-After"))
	if err != nil || n < 1 {
		return time.Second
	}
	return min(time.Duration(n)*time.Second, longestRetryAfter)
}

// outage says whether what came of a request means that further ones would
// fail alike: nobody listens, or Vault is sealed or not serving.
func outage(status int, err error) error {
	var dial *net.OpError
	if err != nil && errors.As(err, &dial) && dial.Op == "dial" && !errors.Is(err, context.Canceled) {
		return fault.Wrap(fault.Unavailable, msgUnreachable, causeOf(err))
	}
	switch status {
	case http.StatusServiceUnavailable, http.StatusNotImplemented:
		return fault.Wrap(fault.Unavailable, msgFailed, answeredError(status))
	}
	return nil
}
