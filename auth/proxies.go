package auth

import (
	"net/netip"
	"strings"

	"vault-mcp/fault"
)

// Proxies are the addresses of proxies that are trusted to say for whom they
// speak: the client's address, and what its certificate is. The zero value, and
// nil, trust nobody.
type Proxies struct{ networks []netip.Prefix }

// ParseProxies reads a list of addresses and networks (10.0.0.0/8). The error
// names the entry by its number.
func ParseProxies(list []string) (*Proxies, error) {
	p := &Proxies{}
	for i, text := range list {
		network, err := netip.ParsePrefix(text)
		if !strings.Contains(text, "/") {
			var addr netip.Addr
			addr, err = netip.ParseAddr(text)
			network = netip.PrefixFrom(addr, addr.BitLen())
		}
		switch {
		case err != nil || !network.IsValid() || strings.Contains(text, "%"): // a zone
			return nil, fault.Newf(fault.Invalid, "entry %d is not an address or a network like 10.0.0.0/8", i+1)
		case network.Addr().Is4In6():
			return nil, fault.Newf(fault.Invalid, "entry %d is an IPv4 address in IPv6 form; want it in its own", i+1)
		case network.Bits() == 0:
			return nil, fault.Newf(fault.Invalid, "entry %d is everybody; want the addresses of the proxies", i+1)
		case network.Masked() != network:
			return nil, fault.Newf(fault.Invalid, "entry %d has bits set beyond its length", i+1)
		}
		p.networks = append(p.networks, network)
	}
	return p, nil
}

// Trusts reports whether an address is one of the proxies'.
func (p *Proxies) Trusts(addr netip.Addr) bool {
	if p == nil || !addr.IsValid() {
		return false
	}
	addr = addr.Unmap().WithZone("")
	for _, network := range p.networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}
