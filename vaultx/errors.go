package vaultx

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

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
	msgChildDenied = "the principal's policy in Vault does not allow this; an operator can compare it by 'vault-mcp policy diff'"
	msgNothing     = "there is nothing at this path"
	msgRefused     = "Vault refused the request as not valid"
	msgConflict    = "the secret's current version is not the one that cas names"
	msgLease       = "Vault could not renew or end the lease now; what it is of may be down, so try again later"
	msgRedirect    = "Vault answered with a redirect, which is never followed"
	msgLate        = "Vault did not answer in time"
	msgNoEngine    = "Vault has no engine at this mount; an operator must check the settings of mounts"
	msgCertificate = "Vault's TLS certificate is not accepted; an operator must check VAULT_CACERT and VAULT_TLS_SERVER_NAME"
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

// outcome is what came of one request.
type outcome struct {
	status int
	answer []byte
	header http.Header
	err    error // no whole answer came
}

// classify turns an outcome into the one error that leaves this package. Only
// the operation and the status decide, and a few fixed words in Vault's text,
// which goes no further.
func (b *Bound) classify(ctx context.Context, o outcome, hasBody bool) *fault.Error {
	if o.err != nil {
		return b.broken(ctx, o.err)
	}
	cause := error(answeredError(o.status))
	if f := transitRefused(b.op, o, cause); f != nil {
		return f
	}
	switch o.status {
	case http.StatusBadRequest:
		return badRequest(b.op, o.answer, cause)
	case http.StatusUnauthorized, http.StatusForbidden:
		if o.status == http.StatusUnauthorized || o.says("invalid token") || b.used.IsZero() {
			return fault.Wrap(fault.Unavailable, msgToken, refusedError{cause, b.used})
		}
		if b.ours || !b.client.ended(ctx) {
			return fault.Wrap(fault.Forbidden, b.denied(), cause)
		}
		if b.tokens != nil { // a child may have ended with the server's token
			cause = refusedError{cause, b.used}
		}
		return fault.Wrap(fault.Unavailable, msgToken, cause)
	case http.StatusNotFound:
		if o.says("no handler for route") {
			return fault.Wrap(fault.Internal, msgNoEngine, cause)
		}
		return fault.Wrap(fault.NotFound, msgNothing, cause)
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
		return fault.Wrap(fault.Internal, "Vault does not know this operation; the mount may hold another engine", cause)
	case http.StatusRequestEntityTooLarge:
		return fault.Wrap(fault.Invalid, "the request is larger than Vault accepts", cause)
	case http.StatusTooManyRequests:
		f := fault.Wrap(fault.RateLimited, "Vault's own limit is reached", passingError{cause})
		f.RetryAfter = retryAfter(o.header)
		return f
	case http.StatusPreconditionFailed, statusDRSecondary, statusPerfStandby, statusNoActiveNode, statusRemovedNode:
		return fault.Wrap(fault.Unavailable, msgStandby, passingError{cause})
	case http.StatusNotImplemented:
		return fault.Wrap(fault.Unavailable, "Vault is not initialized", cause)
	case http.StatusServiceUnavailable:
		if o.says("sealed") {
			return fault.Wrap(fault.Unavailable, msgSealed, cause)
		}
		return b.unlessRetryable(fault.Wrap(fault.Unavailable, msgFailed, passingError{cause}))
	case http.StatusGatewayTimeout:
		return b.unlessRetryable(fault.Wrap(fault.Timeout, msgLate, passingError{cause}))
	case http.StatusInternalServerError:
		// Vault says 500 to bodies that it cannot take, too (too deep, a wrong
		// digest length): sending one again would only multiply it.
		if !hasBody {
			cause = passingError{cause}
		}
	default:
		if o.status < 400 {
			return fault.Wrap(fault.Unavailable, msgRedirect, cause)
		}
		if o.status > 500 {
			cause = passingError{cause}
		}
	}
	return b.unlessRetryable(fault.Wrap(fault.Unavailable, msgFailed, cause))
}

// denied is what a policy's refusal is called: whose policy it is.
func (b *Bound) denied() string {
	if b.tokens != nil {
		return msgChildDenied
	}
	return msgDenied
}

// says reports whether Vault's text has some fixed words.
func (o outcome) says(words string) bool { return bytes.Contains(o.answer, []byte(words)) }

func badRequest(op Operation, answer []byte, cause error) *fault.Error {
	switch {
	case bytes.Contains(answer, []byte("check-and-set parameter did not match")):
		return fault.Wrap(fault.Conflict, msgConflict, cause)
	case bytes.Contains(answer, []byte("missing client token")):
		return fault.Wrap(fault.Unavailable, msgToken, cause)
	case bytes.Contains(answer, []byte("check-and-set parameter required")):
		f := fault.Field("/cas", "is required for this secret")
		f.Err = cause
		return f
	case bytes.Contains(answer, []byte("failed to renew entry")), bytes.Contains(answer, []byte("failed to revoke entry")):
		// A 400, though it is something behind Vault that has failed.
		return fault.Wrap(fault.Unavailable, msgLease, fmt.Errorf("%w to %s", cause, op.Template)).With("outcome", "unknown")
	case bytes.Contains(answer, []byte("lease is not renewable")):
		return fault.Wrap(fault.Invalid, "the lease cannot be renewed; get a new one instead", errNotRenewable)
	}
	return fault.Wrap(fault.Invalid, refusedMessage(op), fmt.Errorf("%w to %s", cause, op.Template))
}

// broken classifies a request to which no whole answer came.
func (b *Bound) broken(ctx context.Context, err error) *fault.Error {
	cause := causeOf(err)
	var certificate *tls.CertificateVerificationError
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	switch {
	case errors.Is(err, errPinned):
		return fault.Wrap(fault.Internal, fault.MsgInternal, cause)
	case errors.Is(err, errTooLarge):
		return b.unlessRetryable(fault.Wrap(fault.Unavailable, "Vault's answer is larger than this server passes on", cause))
	case isDial(err) && ctx.Err() == nil:
		return fault.Wrap(fault.Unavailable, msgUnreachable, cause) // for the breaker, not for a retry
	case errors.As(err, &certificate):
		return fault.Wrap(fault.Unavailable, msgCertificate, cause)
	case late:
		return b.unlessRetryable(fault.Wrap(fault.Timeout, msgLate, cause))
	case ctx.Err() != nil:
		return b.unlessRetryable(fault.Wrap(fault.Canceled, "the caller went away or cancelled the call", cause))
	}
	return b.unlessRetryable(fault.Wrap(fault.Unavailable, "the connection to Vault broke", passingError{cause}))
}

// isDial reports whether a request failed before there was a connection.
func isDial(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// unlessRetryable marks an operation that may or may not have been done. One
// that may be repeated is not worth the word.
func (b *Bound) unlessRetryable(f *fault.Error) *fault.Error {
	if b.opt.Retryable {
		return f
	}
	return f.With("outcome", "unknown")
}

// longestRetryAfter caps what is passed on of Vault's Retry-After.
const longestRetryAfter = time.Minute

func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 1 {
		return time.Second
	}
	return min(time.Duration(min(n, 3600))*time.Second, longestRetryAfter)
}

// health is what an outcome says of Vault as a whole, and why it is out.
func (o outcome) health(ctx context.Context) (health, string) {
	var certificate *tls.CertificateVerificationError
	switch {
	case isDial(o.err) && ctx.Err() == nil:
		return gone, msgUnreachable
	case errors.As(o.err, &certificate):
		return gone, msgCertificate
	case o.err != nil:
		return silent, ""
	}
	switch o.status {
	case http.StatusServiceUnavailable:
		if o.says("sealed") {
			return gone, msgSealed
		}
		return doubtful, msgFailed
	case http.StatusNotImplemented:
		return gone, "Vault is not initialized"
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return silent, "" // said of something behind Vault, or by something before it
	}
	return there, ""
}
