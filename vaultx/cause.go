package vaultx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// plainCauses are errors whose text is a constant.
var plainCauses = []error{
	errPinned, errTooLarge, context.Canceled, context.DeadlineExceeded,
	io.ErrUnexpectedEOF, io.EOF, net.ErrClosed, http.ErrSchemeMismatch,
}

// causeOf is what the log may say of a network error. The error's own text may
// hold the path and the address, and quotes what the other side sent ("malformed
// HTTP response ..."), so it is told anew from what is known of its type.
func causeOf(err error) error {
	var (
		where, why  string
		op          *net.OpError
		errno       syscall.Errno
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		timeout     net.Error
	)
	if errors.As(err, &op) {
		where = op.Op + ": "
	}
	switch {
	case errors.As(err, &errno):
		why = errno.Error()
	case errors.As(err, &dns):
		why = "the host's name cannot be resolved"
		if dns.IsNotFound {
			why = "there is no host of this name"
		}
	case errors.As(err, &certificate):
		why = certificateCause(certificate)
	case errors.As(err, &record):
		why = "the other side does not speak TLS"
	case op != nil && (op.Op == "remote error" || op.Op == "local error"):
		why = op.Err.Error() // a TLS alert, by the table of crypto/tls
	default:
		why = plainCause(err)
	}
	if why == "" && errors.As(err, &timeout) && timeout.Timeout() {
		why = "timed out"
	}
	if why == "" {
		why = fmt.Sprintf("an error of type %T", innermost(err))
	}
	return errors.New(where + why)
}

func plainCause(err error) string {
	for _, known := range plainCauses {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return ""
}

func certificateCause(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return "the certificate is signed by an authority that is not trusted"
	case errors.As(err, &name):
		return "the certificate is for another name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet"
	}
	return "the certificate is not valid for this"
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
