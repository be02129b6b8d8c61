package kmsx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"vault-mcp/fault"
)

// What agents are told. None of it comes from AWS: its texts hold account
// numbers, roles and parts of requests.
const (
	msgInternal    = "internal error; the operator finds the cause under the request id"
	msgUnreachable = "AWS KMS cannot be reached"
	msgCredentials = "the server's own AWS credentials are missing or not accepted; an operator must renew them"
	msgDenied      = "AWS's policies do not allow the server to do this with this key"
	msgFailed      = "AWS KMS could not do this now"
	msgKeyStore    = "the key is not available to AWS KMS now"
	msgThrottled   = "AWS KMS's own limit is reached"
	msgLate        = "AWS KMS did not answer in time"
	msgRedirect    = "AWS KMS answered with a redirect, which is never followed"
	msgCertificate = "the TLS certificate of AWS KMS is not accepted; an operator must check AWS_CA_BUNDLE and AWS_KMS_ENDPOINT"
	msgUnreadable  = "AWS KMS's answer cannot be read"
	msgRefused     = "AWS KMS refused the request as not valid"
)

var (
	errOther    = errors.New("kmsx: a bound client was asked for another operation than its own")
	errNobody   = errors.New("kmsx: a ciphertext was to be bound to a principal without a name")
	errShape    = errors.New("the answer is not of the shape that AWS KMS gives, or is about another key")
	errHeldBack = errors.New("kmsx: there was no room for the request")
	// errFalse is how AWS says that a signature is not the key's.
	errFalse = errors.New("KMSInvalidSignatureException")
)

// answer is what an exception of AWS's means to a caller.
type answer struct {
	kind  fault.Kind
	field string // the argument that it is about
	msg   string
}

// answers are the exceptions that are known, by name.
var answers = map[string]answer{
	"AccessDeniedException":         {fault.Forbidden, "", msgDenied},
	"AccessDenied":                  {fault.Forbidden, "", msgDenied},
	"NotFoundException":             {fault.NotFound, "", "there is no such key in this account and region"},
	"InvalidArnException":           {fault.Invalid, fieldKeyID, "is not the ARN of a key that there can be here"},
	"DisabledException":             {fault.Conflict, "", "the key is disabled; an operator must enable it"},
	"KMSInvalidStateException":      {fault.Conflict, "", "the key's state (such as pending deletion) does not allow this"},
	"InvalidKeyUsageException":      {fault.Invalid, fieldKeyID, "must be a key for this operation and algorithm"},
	"InvalidCiphertextException":    {fault.Invalid, fieldCiphertext, "cannot be decrypted: it was altered, or made with another key or another encryption_context"},
	"IncorrectKeyException":         {fault.Invalid, fieldCiphertext, "was made with another key"},
	"InvalidGrantTokenException":    {fault.Invalid, fieldGrantTokens, "has one that is not valid"},
	"ValidationException":           {fault.Invalid, "", msgRefused},
	"ValidationError":               {fault.Invalid, "", msgRefused},
	"SerializationException":        {fault.Invalid, "", msgRefused},
	"UnsupportedOperationException": {fault.Invalid, "", "AWS KMS does not do this with such a key"},
	"KMSInvalidSignatureException":  {fault.Invalid, fieldSignature, "is not the key's"},

	"KeyUnavailableException":             {fault.Unavailable, "", msgKeyStore},
	"DependencyTimeoutException":          {fault.Unavailable, "", msgKeyStore},
	"CloudHsmClusterInUseException":       {fault.Unavailable, "", msgKeyStore},
	"CloudHsmClusterNotActiveException":   {fault.Unavailable, "", msgKeyStore},
	"CustomKeyStoreInvalidStateException": {fault.Unavailable, "", msgKeyStore},
	"XksProxyUriUnreachableException":     {fault.Unavailable, "", msgKeyStore},
	"XksProxyInvalidResponseException":    {fault.Unavailable, "", msgKeyStore},
	"KMSInternalException":                {fault.Unavailable, "", msgFailed},
	"InternalFailure":                     {fault.Unavailable, "", msgFailed},
	"ServiceUnavailable":                  {fault.Unavailable, "", msgFailed},
	"ServiceUnavailableException":         {fault.Unavailable, "", msgFailed},
	"ExpiredTokenException":               {fault.Unavailable, "", msgCredentials},
	"ExpiredToken":                        {fault.Unavailable, "", msgCredentials},
	"RequestExpired":                      {fault.Unavailable, "", msgCredentials},
	"UnrecognizedClientException":         {fault.Unavailable, "", msgCredentials},
	"InvalidClientTokenId":                {fault.Unavailable, "", msgCredentials},
	"InvalidSignatureException":           {fault.Unavailable, "", msgCredentials},
	"SignatureDoesNotMatch":               {fault.Unavailable, "", msgCredentials},
	"IncompleteSignature":                 {fault.Unavailable, "", msgCredentials},
	"IncompleteSignatureException":        {fault.Unavailable, "", msgCredentials},
	"MissingAuthenticationToken":          {fault.Unavailable, "", msgCredentials},
	"MissingAuthenticationTokenException": {fault.Unavailable, "", msgCredentials},
	"OptInRequired":                       {fault.Unavailable, "", msgCredentials},
}

// retryAfter is what is asked of callers where AWS says nothing.
const retryAfter = time.Second

// classify turns an error of the SDK into the one error that leaves this
// package. Names of exceptions, statuses and types decide; AWS's texts are not
// looked at and go no further.
func classify(ctx context.Context, err error) *fault.Error {
	var (
		said        smithy.APIError
		answered    *awshttp.ResponseError
		credentials credentialsError
		certificate *tls.CertificateVerificationError
		timeout     net.Error
		held        heldBack
	)
	status := 0
	if errors.As(err, &answered) {
		status = answered.HTTPStatusCode()
	}
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	switch {
	case status >= 300 && status < 400:
		return fault.Wrap(fault.Unavailable, msgRedirect, answeredError(status))
	case errors.Is(err, errTooLarge):
		return fault.Wrap(fault.Unavailable, "AWS KMS's answer is larger than this server passes on", errTooLarge)
	case late:
		return fault.Wrap(fault.Timeout, msgLate, context.DeadlineExceeded)
	case ctx.Err() != nil:
		return fault.Wrap(fault.Canceled, "the caller went away or cancelled the call", context.Canceled)
	case errors.As(err, &held):
		f := *fault.From(held.error)
		f.Err = errHeldBack
		return &f
	case errors.As(err, &credentials):
		return fault.Wrap(fault.Unavailable, msgCredentials, errors.New("the AWS SDK's chain gave no credentials"))
	case errors.As(err, &said):
		return exception(said.ErrorCode(), status)
	case errors.As(err, &certificate):
		return fault.Wrap(fault.Unavailable, msgCertificate, causeOf(err))
	case isDeserialization(err) || status >= 200 && status < 300:
		return unreadable()
	case errors.As(err, &timeout) && timeout.Timeout() && !isDial(err):
		return fault.Wrap(fault.Timeout, msgLate, causeOf(err))
	}
	return fault.Wrap(fault.Unavailable, msgUnreachable, causeOf(err))
}

// isDial reports whether a request failed before there was a connection.
func isDial(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial"
}

// exception is what an exception of AWS's means.
func exception(code string, status int) *fault.Error {
	cause := error(answeredError(status))
	if code != "" && len(code) <= 64 && only(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		cause = errors.New(code)
	}
	if _, throttles := retry.DefaultThrottleErrorCodes[code]; throttles || status == http.StatusTooManyRequests {
		f := fault.Wrap(fault.RateLimited, msgThrottled, cause)
		f.RetryAfter = retryAfter
		return f
	}
	a, known := answers[code]
	if !known {
		return fault.Wrap(fault.Unavailable, msgFailed, cause)
	}
	f := fault.Wrap(a.kind, a.msg, cause)
	if a.field != "" {
		f = fault.Field(a.field, a.msg)
		f.Err = cause
	}
	if code == errFalse.Error() {
		f.Err = errFalse
	}
	return f
}

// answeredError is the cause kept for logs where there is no name: the status,
// and no text.
type answeredError int

func (a answeredError) Error() string { return fmt.Sprintf("AWS KMS answered %d", int(a)) }

func unreadable() *fault.Error { return fault.Wrap(fault.Unavailable, msgUnreadable, errShape) }

func isDeserialization(err error) bool {
	var shape *smithy.DeserializationError
	return errors.As(err, &shape)
}

// causeOf is what the log may say of a network error, told anew from what is
// known of its type: its own text holds the address, and may quote what the
// other side sent.
func causeOf(err error) error {
	var (
		op          *net.OpError
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		timeout     net.Error
	)
	switch {
	case errors.As(err, &certificate):
		return errors.New("the certificate is not valid for this")
	case errors.As(err, &dns):
		return errors.New("the host's name cannot be resolved")
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("timed out")
	case errors.As(err, &op):
		return errors.New("the connection failed at: " + op.Op)
	}
	return errors.New("the connection broke")
}
