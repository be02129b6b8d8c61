package auth

import (
	"crypto/x509"
	"net/http"
	"time"
)

// Credential takes the key out of headers, for the fuzz target.
func Credential(h http.Header) (string, error) { return credential(h) }

// NewTestLimiter makes a Limiter of another size, by another clock.
func NewTestLimiter(room int, clock func() time.Duration) *Limiter {
	return &Limiter{newBuckets(room, clock)}
}

// NewTestAddressLimiter makes an AddressLimiter of another size, by another clock.
func NewTestAddressLimiter(room int, clock func() time.Duration) *AddressLimiter {
	return newAddressLimiter(room, clock)
}

// Buckets counts the buckets that a Limiter keeps.
func (l *Limiter) Buckets() int { return l.buckets.count() }

// Buckets counts the buckets that an AddressLimiter keeps.
func (l *AddressLimiter) Buckets() int { return l.requests.count() + l.failures.count() }

func (b *buckets) count() int {
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		n += len(s.full)
		s.mu.Unlock()
	}
	return n
}

// CommonName takes the CN out of a subject that a proxy sends, in OpenSSL's older
// form or as RFC 4514 has it.
func CommonName(dn string, older bool) (string, error) {
	m := mtls{opt: MTLSOptions{SubjectPrefix: "CN="}}
	if older {
		m.opt.SubjectPrefix = "/CN="
	}
	return m.subjectOf(dn)
}

// CertificatesOf reads the header of a proxy that holds a certificate.
func CertificatesOf(value string) ([]*x509.Certificate, error) { return certificatesOf(value) }
