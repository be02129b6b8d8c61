package server

import (
	"net/http"
	"net/netip"
	"strings"

	"vault-mcp/auth"
)

// maxHops is how many proxies between a client and us are looked at.
const maxHops = 32

// present is what a request shows of its sender.
func present(r *http.Request) auth.Presented {
	p := auth.Presented{Header: r.Header, Peer: peer(r)}
	if r.TLS != nil {
		p.Certificates = r.TLS.PeerCertificates
	}
	return p
}

// peer is the other end of the connection; not valid where it has no address.
func peer(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// client is the address of who sent a request: the peer's, or, where that is a
// trusted proxy, the one that it says. Each proxy adds at the end of the header
// from whom it has the request; so the client is the last who is no trusted
// proxy, and what stands before that is the client's own invention. A part that
// is no address ends the search, at the proxy that wrote it.
func (s *Server) client(r *http.Request) string {
	at := peer(r)
	if !at.IsValid() || !s.opt.Proxies.Trusts(at) {
		return remoteHost(r)
	}
	hops := strings.Split(strings.Join(r.Header[s.forwarded], ","), ",")
	for i := len(hops) - 1; i >= max(0, len(hops)-maxHops); i-- {
		text, ok := strings.TrimSpace(hops[i]), true
		if s.forwarded == headerForwarded {
			text, ok = forwardedFor(text)
		}
		next := hop(text)
		if !ok || !next.IsValid() {
			break
		}
		if at = next; !s.opt.Proxies.Trusts(at) {
			break
		}
	}
	return at.String()
}

// Headers that say for whom a proxy speaks.
const (
	headerForwarded    = "Forwarded" // RFC 7239
	headerForwardedFor = "X-Forwarded-For"
)

// hop reads an address with or without a port, IPv6 with or without brackets.
func hop(text string) netip.Addr {
	at, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}
		}
		at = withPort.Addr()
	}
	return at.Unmap().WithZone("")
}

// forwardedFor takes for= out of an element of Forwarded, where it stands once.
// An element with a comma or semicolon in quotes is not understood, which no
// address needs.
func forwardedFor(element string) (text string, ok bool) {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if ok {
			return "", false
		}
		if inner, quoted := strings.CutPrefix(value, `"`); quoted {
			value = strings.TrimSuffix(inner, `"`)
		}
		text, ok = value, true
	}
	return text, ok
}
