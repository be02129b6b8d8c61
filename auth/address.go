package auth

import (
	"net/netip"
	"time"
)

// Limits of one network address, before authentication. Requests are bounded
// only against a flood, since a hub or proxy brings many callers from one
// address, and each of those has its own limit as a principal. Failed
// authentications are rare for those who mean well: after ten in a row one is
// forgiven every six seconds, and until then every request of the address is
// refused, so that keys cannot be guessed faster than 14 400 a day.
var (
	addressRequests = Limit{Requests: 2000, Window: time.Second, Burst: 4000}
	addressFailures = Limit{Requests: 1, Window: 6 * time.Second, Burst: 10}
)

// AddressLimiter holds network addresses to limits, in memory and in bounded
// space. IPv6 addresses count by their /64, which is what one customer gets.
//
// Whoever stands behind one address shares its fate: a proxy before the server
// should itself hold back clients whose credentials fail. Where more addresses
// fail at once than there is room for, those without room go uncounted rather
// than counted against others.
type AddressLimiter struct {
	requests, failures *buckets
	request, failure   rate
}

// NewAddressLimiter makes an AddressLimiter.
func NewAddressLimiter() *AddressLimiter { return newAddressLimiter(defaultBuckets, nil) }

func newAddressLimiter(room int, clock func() time.Duration) *AddressLimiter {
	l := &AddressLimiter{
		requests: newBuckets(room, clock), request: newRate(addressRequests),
		failures: newBuckets(room, clock), failure: newRate(addressFailures),
	}
	l.failures.seeds = l.requests.seeds // one key for both
	return l
}

// Allow counts a request of an address, with or without a port. It is false if
// there were too many, or too many failed authentications before it.
func (l *AddressLimiter) Allow(addr string) bool {
	key := l.key(addr)
	return !l.failures.empty(key, l.failure) && l.requests.take(key, l.request, 1).OK
}

// Failed counts a failed authentication of an address.
func (l *AddressLimiter) Failed(addr string) { l.failures.take(l.key(addr), l.failure, 1) }

// key is that of an address's network. One that cannot be read, such as that of
// a local socket, counts as it stands.
func (l *AddressLimiter) key(addr string) bucketKey {
	network := networkOf(addr)
	if !network.IsValid() {
		return l.requests.key(addr)
	}
	bytes := network.As16()
	return l.requests.key(string(bytes[:]))
}

// Network names what addresses count by: an IPv4 address or an IPv6 /64, and
// what is no address as it stands.
func Network(addr string) string {
	if network := networkOf(addr); network.IsValid() {
		return network.String()
	}
	return addr
}

// networkOf is an IPv4 address, also where it stands in IPv6 form, or the first
// address of an IPv6 /64. It is not valid for what is no address.
func networkOf(addr string) netip.Addr {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		withPort, err := netip.ParseAddrPort(addr)
		if err != nil {
			return netip.Addr{}
		}
		ip = withPort.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		network, _ := ip.Prefix(64) // always fits
		return network.Addr()
	}
	return ip
}
