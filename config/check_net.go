package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"vault-mcp/secret"
)

// httpURL parses an http or https URL with a host and nothing that a base
// address has no use for.
func httpURL(s string) (*url.URL, bool) {
	u, err := url.Parse(s)
	ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Opaque == "" && u.Hostname() != "" &&
		u.User == nil && u.RawQuery == "" && !u.ForceQuery && !strings.Contains(s, "#")
	return u, ok
}

func isBaseURL(s string) error {
	if u, ok := httpURL(s); !ok || u.Path != "" && u.Path != "/" {
		return errors.New("want an http or https URL of scheme, host and port only")
	}
	return nil
}

func isPublicURL(s string) error {
	if _, ok := httpURL(s); s != "" && !ok {
		return errors.New("want an http or https URL without user, query and fragment")
	}
	return nil
}

// isAuthServer takes the URL by which an authorization server names itself. It is
// compared as it stands, so nothing of it is tidied up.
func isAuthServer(s string) error {
	if u, ok := httpURL(s); !ok || u.Scheme != "https" && !isLoopback(u.Hostname()) || strings.ContainsAny(s, "\"\\ ?") {
		return errors.New("want the URLs of issuers: https, or http to this machine, without user, query and fragment")
	}
	return nil
}

// isHostname takes names of up to 253 characters, with or without a point at
// the end.
func isHostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	return s != "" && len(s) <= 253 && ofLetters(s, "._-") && ofLetters(s[:1]+s[len(s)-1:], "")
}

func isHost(s string) error {
	if net.ParseIP(s) == nil && !isHostname(s) {
		return errors.New("want an IP address or a host name, without port")
	}
	return nil
}

// isHostPort takes what can stand in a Host header: a name or address with or
// without a port, IPv6 in brackets.
func isHostPort(s string) error {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil && port != "" && strings.Trim(port, "0123456789") == "" {
		host = h
	} else if inner, ok := strings.CutPrefix(s, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	bracketed := strings.HasPrefix(s, "[")
	if isHost(host) != nil || strings.Contains(host, ":") != bracketed {
		return errors.New("want host names or addresses, each with or without a port (IPv6 in brackets), and no *")
	}
	return nil
}

func isNetwork(s string) error {
	network, err := netip.ParsePrefix(s)
	if addr, other := netip.ParseAddr(s); other == nil {
		network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil || strings.Contains(s, "%") || network.Bits() == 0 || network.Masked() != network || network.Addr().Is4In6() {
		return errors.New("want addresses and networks, like 192.0.2.1 or 10.0.0.0/8, and not all addresses")
	}
	return nil
}

// isHeaderName takes no underscore: servers differ in whether it is a hyphen.
// The other headers mean something already.
func isHeaderName(s string) error {
	taken := []string{"authorization", "x-api-key", "connection", "host", "forwarded", "x-forwarded-for", "content-type", "accept"}
	if s == "" || len(s) > 64 || !ofLetters(s, "-") || slices.Contains(taken, strings.ToLower(s)) {
		return errors.New("want the name of a header of its own, of letters, digits and hyphens")
	}
	return nil
}

func isOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != s || isHostPort(u.Host) != nil {
		return errors.New("want origins, each a scheme and a host with or without a port, like https://app.example, and no *")
	}
	return nil
}

// isRedis takes the address of a Redis, without a query: that could switch off
// the check of its certificate.
func isRedis(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" ||
		strings.Trim(strings.TrimPrefix(u.Path, "/"), "0123456789") != "" {
		return errors.New("want redis://[user:password@]host[:port][/number], or rediss:// for TLS")
	}
	return nil
}

// isHeader takes what can be sent in an HTTP header without change.
func isHeader(s string) error {
	if !secret.IsHeaderText(s) {
		return errors.New("want printable ASCII without blanks or line breaks")
	}
	return nil
}
