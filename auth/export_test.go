package auth

import (
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
