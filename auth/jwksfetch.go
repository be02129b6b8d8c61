package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/go-json-experiment/json"

	"vault-mcp/fault"
)

// keyURL is a URL from which keys may come: https, so that nobody in between
// puts others in their place, or http on this machine.
func keyURL(text string) (*url.URL, bool) {
	u, err := url.Parse(text)
	ok := err == nil && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())) && u.Opaque == "" &&
		u.Hostname() != "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery && !strings.Contains(text, "#")
	return u, ok
}

// isLoopback reports whether a host is this machine by its name alone.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// fetcher gets documents from one host, of the operator's choice, and from no
// other.
type fetcher struct{ client *http.Client }

// newFetcher makes the fetcher for the host of a URL. No proxy stands between: it
// would choose the address in our place. Connections are not kept, since minutes
// pass between fetches.
func newFetcher(u *url.URL) *fetcher {
	home := isLoopback(u.Hostname())
	dialer := &net.Dialer{
		Timeout: fetchTimeout,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			return mayDial(address, home)
		},
	}
	return &fetcher{&http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    fetchTimeout,
			ResponseHeaderTimeout:  fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // a body is bounded as it is sent
			DisableKeepAlives:      true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || r.URL.Scheme != u.Scheme || r.URL.Host != u.Host {
				return errRedirect
			}
			return nil
		},
	}}
}

var (
	errRedirect = errors.New("a redirect to another place, or one too many")
	errAddress  = errors.New("an address that no issuer has")
)

// nat64 addresses hold one of IPv4 in their last four bytes.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// metadata are addresses outside the link-local ranges at which clouds hand
// credentials to whoever asks.
var metadata = map[netip.Addr]bool{
	netip.MustParseAddr("fd00:ec2::254"):   true,
	netip.MustParseAddr("100.100.100.200"): true,
}

// mayDial refuses addresses at which no issuer is: link-local ones, where clouds
// keep their credentials, those that are no single host, and, unless the operator
// named it, this machine. It sees the address to which a name was resolved, for
// each connection, so that a name that changes its address gains nothing.
// Private networks are where many issuers are.
func mayDial(address string, home bool) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errAddress
	}
	addr := to.Addr().WithZone("").Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	if addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() || metadata[addr] ||
		addr.Is4() && addr.As4()[0] == 0 || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		addr.IsLoopback() != home {
		return errAddress
	}
	return nil
}

// get fetches one document. What goes wrong is said in our words: those of the
// other side may be anything.
func (f *fetcher) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the URL is not usable")
	}
	r.Header.Set("Accept", "application/json, application/jwk-set+json")
	answer, err := f.client.Do(r)
	if err != nil {
		return nil, fetchFault(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fault.Newf(fault.Unavailable, "it answers with status %d", answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxJWKS+1))
	switch {
	case err != nil:
		return nil, fetchFault(err)
	case len(body) > maxJWKS:
		return nil, fault.Newf(fault.Unavailable, "its answer has over %d bytes", maxJWKS)
	}
	return body, nil
}

// fetchFault classifies what can go wrong on the way.
func fetchFault(err error) error {
	var timeout net.Error
	var badCert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errRedirect):
		return fault.Wrap(fault.Unavailable, "it redirects to another place", err)
	case errors.Is(err, errAddress):
		return fault.Wrap(fault.Unavailable, "its name leads to an address at which no issuer may be", err)
	case errors.As(err, &badCert):
		return fault.Wrap(fault.Unavailable, "its certificate is not valid", err)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return fault.Wrap(fault.Unavailable, "it does not answer in time", err)
	}
	return fault.Wrap(fault.Unavailable, "it cannot be reached", err)
}

// fetchURL fetches a key set from a URL.
func fetchURL(u *url.URL) func(context.Context) (*jwks, error) {
	f := newFetcher(u)
	return func(ctx context.Context) (*jwks, error) { return f.keys(ctx, u.String()) }
}

func (f *fetcher) keys(ctx context.Context, address string) (*jwks, error) {
	body, err := f.get(ctx, address)
	if err != nil {
		return nil, err
	}
	return parseJWKS(body)
}

// fetchDiscovered fetches the discovery document of an OpenID Connect issuer, and
// the key set that it names. It has to be the document of that very issuer, and
// its keys have to be in the same place; each time, so that one that changes in
// this leaves the old keys in force. at is the one URL of keys that the operator
// permits instead; empty: none.
func fetchDiscovered(issuer, at string) func(context.Context) (*jwks, error) {
	base, _ := keyURL(issuer) // checked before
	document, keysAt := newFetcher(base), newFetcher(base)
	if at != "" {
		u, _ := keyURL(at)
		keysAt = newFetcher(u)
	}
	return func(ctx context.Context) (*jwks, error) {
		body, err := document.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, err
		}
		var doc struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		if json.Unmarshal(body, &doc) != nil || doc.JWKS == "" {
			return nil, fault.New(fault.Unavailable, "its discovery document is not one")
		}
		if doc.Issuer != issuer {
			return nil, fault.New(fault.Unavailable, "its discovery document is that of another issuer")
		}
		u, ok := keyURL(doc.JWKS)
		if at != "" && doc.JWKS != at || at == "" && (!ok || u.Scheme != base.Scheme || u.Host != base.Host) {
			return nil, fault.New(fault.Unavailable, "its discovery document names keys in another place than the issuer's; JWT_JWKS_URL (jwks_url) permits one")
		}
		return keysAt.keys(ctx, doc.JWKS)
	}
}
