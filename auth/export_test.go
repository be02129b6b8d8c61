package auth

import (
	"context"
	"crypto/x509"
	"net/http"
	"time"
)

// Credential takes the key or the JWT out of headers, for the fuzz target.
func Credential(h http.Header) (key, token string, err error) { return credential(h) }

// NewTestLimiter makes a Limiter of another size, by another clock.
func NewTestLimiter(room int, clock func() time.Duration) *Limiter {
	return &Limiter{buckets: newBuckets(room, clock)}
}

// SharedPatience is how long a call waits for Redis.
const SharedPatience = sharedPatience

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

// Principal makes the principal of an identity, as each kind of credential does.
func (a *Authenticator) Principal(id Identity) (*Principal, error) { return a.home.principal(id) }

// FetchKeysBy gives the home issuer another source of keys, on the schedule of a
// URL.
func (a *Authenticator) FetchKeysBy(every time.Duration, fetch func(context.Context) ([]byte, error)) {
	i := a.jwts.all[0]
	i.keys.close()
	i.keys = newRemoteKeys(every, func(ctx context.Context) (*jwks, error) {
		body, err := fetch(ctx)
		if err != nil {
			return nil, err
		}
		return parseJWKS(body)
	})
}

// MayDial is the rule about addresses of issuers.
func MayDial(address string, home bool) error { return mayDial(address, home) }

// VerifiedJWTs counts the tokens that are known to be good.
func (a *Authenticator) VerifiedJWTs() int {
	a.jwts.verified.mu.Lock()
	defer a.jwts.verified.mu.Unlock()
	return len(a.jwts.verified.known)
}

// ForgetJWTs forgets them.
func (a *Authenticator) ForgetJWTs() {
	a.jwts.verified.mu.Lock()
	defer a.jwts.verified.mu.Unlock()
	clear(a.jwts.verified.known)
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
