package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"vault-mcp/fault"
)

// Presented is all that a request shows of who sends it.
type Presented struct {
	Header http.Header
	Peer   netip.Addr // other end of the connection: the caller's, or that of a proxy

	// Certificates are those of the connection's TLS, the caller's own first. TLS
	// has proved that the peer has its key; nothing else is known of them.
	Certificates []*x509.Certificate
}

// maxCertHeader is the longest certificate that a proxy passes on, in bytes.
const maxCertHeader = 16 << 10

// MTLSOptions say how a caller is known by its certificate.
type MTLSOptions struct {
	Identity string // the name that is the subject: uri, dns or cn
	CAFile   string // authorities of callers; empty: only the headers of proxies count
	CRLFile  string // what they took back; empty: nobody looks

	// What is said by proxies, and by nobody else.
	Proxies       *Proxies
	VerifyHeader  string // SUCCESS: the proxy has verified the certificate; empty: headers never count
	SubjectHeader string // the certificate's subject
	SubjectPrefix string // the attribute of it that is our subject, with =; begins with / for OpenSSL's older form
	CertHeader    string // the certificate itself, which counts instead; empty: none
}

// mtls knows callers by their certificates. A peer that is a trusted proxy
// speaks for others and never for itself: its own certificate is nobody's.
type mtls struct {
	opt         MTLSOptions
	authorities *Watched[*authorities] // nil: none
	verified    verified
	home        *home
	now         func() time.Time
}

func newMTLS(opt MTLSOptions, h *home, now func() time.Time) (*mtls, error) {
	m := &mtls{opt: opt, home: h, now: now}
	for _, name := range []*string{&m.opt.VerifyHeader, &m.opt.SubjectHeader, &m.opt.CertHeader} {
		*name = http.CanonicalHeaderKey(*name)
	}
	if !slices.Contains([]string{"uri", "dns", "cn"}, opt.Identity) {
		return nil, fault.New(fault.Invalid, "MTLS_IDENTITY is uri, dns or cn")
	}
	kind := strings.TrimPrefix(strings.TrimSuffix(opt.SubjectPrefix, "="), "/")
	if opt.VerifyHeader != "" && (!strings.HasSuffix(opt.SubjectPrefix, "=") || !isAttributeType(kind)) {
		return nil, fault.New(fault.Invalid, "MTLS_SUBJECT_CN_PREFIX is the type of an attribute and =, such as CN=")
	}
	if opt.CAFile == "" {
		if opt.CertHeader != "" {
			return nil, fault.New(fault.Invalid, "MTLS_CERT_HEADER wants TLS_CLIENT_CA_FILE, against which certificates are verified")
		}
		return m, nil
	}
	files := []string{opt.CAFile}
	if opt.CRLFile != "" {
		files = append(files, opt.CRLFile)
	}
	read := func() (*authorities, error) { return readAuthorities(opt.CAFile, opt.CRLFile) }
	var err error
	// As with keys: what cannot be read may be a revocation.
	m.authorities, err = Watch(files, read, WatchOptions{Patience: patience})
	return m, err
}

// check reports what is wrong with the files.
func (m *mtls) check() error {
	if m == nil || m.authorities == nil {
		return nil
	}
	return m.authorities.Failure()
}

// certified is a certificate that is good: of the connection or as a proxy has
// passed it on; or what a proxy says of one that it has verified.
type certified struct {
	leaf *x509.Certificate
	ends time.Time
	dn   string // where there is no leaf
}

// read finds the certificate of a request, nil if it has none. One that is there
// and not good is an error, whatever else the request has.
func (m *mtls) read(p Presented) (*certified, error) {
	switch {
	case m == nil:
		return nil, nil
	case m.opt.Proxies.Trusts(p.Peer):
		return m.fromProxy(p.Header)
	case len(p.Certificates) > 0 && m.authorities != nil:
		return m.verify(p.Certificates)
	}
	return nil, nil // no certificate is a good answer
}

// verify holds a chain of certificates against the authorities.
func (m *mtls) verify(certs []*x509.Certificate) (*certified, error) {
	by, now := m.authorities.Current(), m.now()
	if by == nil {
		return nil, refuse("no client certificate is accepted until TLS_CLIENT_CA_FILE and TLS_CLIENT_CRL_FILE can be read again")
	}
	good := &certified{leaf: certs[0], ends: certs[0].NotAfter}
	sent := sha256.New() // also those between, without which it may not be good
	for _, cert := range certs[:min(len(certs), maxChain+1)] {
		_, _ = sent.Write(cert.Raw)
	}
	name := [sha256.Size]byte(sent.Sum(nil))
	if m.verified.has(by, name, now) {
		return good, nil
	}
	until, err := by.verify(certs, now)
	if err != nil {
		return nil, err
	}
	if soon := now.Add(verifiedFor); soon.Before(until) {
		until = soon
	}
	m.verified.add(by, name, until)
	return good, nil
}

// fromProxy reads the headers of a trusted proxy. They are one whole: verified,
// and the certificate or its subject; or nothing at all.
func (m *mtls) fromProxy(h http.Header) (*certified, error) {
	if m.opt.VerifyHeader == "" {
		return nil, nil // headers do not count
	}
	about := m.opt.SubjectHeader
	if m.opt.CertHeader != "" {
		about = m.opt.CertHeader
	}
	word, given := h[m.opt.VerifyHeader], h[about]
	if len(word) > 1 || len(given) > 1 {
		return nil, refuse("a header of the proxy about the client certificate stands twice")
	}
	if named(h["Connection"], m.opt.VerifyHeader, about) {
		return nil, refuse("the Connection header names a header of the proxy about the client certificate")
	}
	verify, value := strings.Join(word, ""), strings.Join(given, "")
	switch {
	case value == "" && (verify == "" || verify == "NONE"):
		return nil, nil // the client has none
	case verify != "SUCCESS":
		return nil, refuse("the proxy does not say SUCCESS of the client certificate")
	case value == "":
		return nil, refuse("the proxy says SUCCESS, but does not send what is in the client certificate")
	case m.opt.CertHeader == "":
		return &certified{dn: value}, nil
	}
	certs, err := certificatesOf(value)
	if err != nil {
		return nil, err
	}
	return m.verify(certs)
}

// named reports whether a list of words, as in Connection, has one of the names.
func named(lists []string, names ...string) bool {
	for _, list := range lists {
		for word := range strings.SplitSeq(list, ",") {
			word = strings.TrimSpace(word)
			if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, word) }) {
				return true
			}
		}
	}
	return false
}

// certificatesOf reads a header that holds a certificate: as RFC 9440 has it
// (base64 between colons), or as PEM escaped for a URL, which nginx, Envoy and
// others write; that may have more certificates after the caller's own.
func certificatesOf(value string) ([]*x509.Certificate, error) {
	bad := refuse("the proxy's header has no certificate, neither as RFC 9440 has it nor as PEM escaped for a URL")
	if len(value) > maxCertHeader {
		return nil, bad
	}
	if inner, ok := strings.CutPrefix(value, ":"); ok {
		inner, ok = strings.CutSuffix(inner, ":")
		der, err := base64.StdEncoding.Strict().DecodeString(inner)
		if !ok || err != nil || strings.ContainsAny(inner, "\r\n") {
			return nil, bad
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, bad
		}
		return []*x509.Certificate{cert}, nil
	}
	text, err := url.PathUnescape(value) // a plus is a plus
	if err != nil || !strings.HasPrefix(text, "-----BEGIN CERTIFICATE-----") {
		return nil, bad
	}
	certs, err := parseCertificates([]byte(text))
	if err != nil {
		return nil, bad
	}
	return certs, nil
}

// pretended reports whether a request has headers about a certificate that do
// not count, since its peer is not a trusted proxy.
func (m *mtls) pretended(p Presented) bool {
	return m != nil && !m.opt.Proxies.Trusts(p.Peer) && m.opt.VerifyHeader != "" &&
		(len(p.Header[m.opt.VerifyHeader]) > 0 || len(p.Header[m.opt.SubjectHeader]) > 0 || len(p.Header[m.opt.CertHeader]) > 0)
}

// principal is that of a certificate.
func (m *mtls) principal(c *certified) (*Principal, error) {
	id := Identity{Method: MethodMTLS, Scopes: AllScopes(), ExpiresAt: c.ends}
	var err error
	if c.leaf == nil {
		id.Subject, err = m.subjectOf(c.dn)
		id.CredentialID = "dn-" + fingerprint([]byte(c.dn))
		if m.namesCN() {
			id.Names = []string{"cn:" + id.Subject}
		}
	} else {
		id.Subject, id.Names, err = m.nameOf(c.leaf)
		id.CredentialID = "cert-" + fingerprint(c.leaf.Raw)
	}
	if err != nil {
		return nil, err
	}
	p, err := m.home.principal(id)
	if f := fault.From(err); err != nil && f.Kind == fault.Invalid {
		return nil, refuse("the name in the client certificate cannot be a subject: " + f.Msg)
	}
	return p, err
}

// namesCN reports whether what a proxy's subject is searched for is the CN. Rules
// about certificates know no other attribute, and must not take one for it.
func (m *mtls) namesCN() bool {
	return typeName(strings.TrimSuffix(strings.TrimPrefix(m.opt.SubjectPrefix, "/"), "=")) == "cn"
}

// subjectOf takes the caller's name out of the subject that a proxy sent.
func (m *mtls) subjectOf(dn string) (string, error) {
	parse := parseDN
	kind, oneline := strings.CutPrefix(m.opt.SubjectPrefix, "/")
	if oneline {
		parse = parseOneline
	}
	attributes, err := parse(dn)
	if err != nil {
		return "", err
	}
	return only(attributes, strings.TrimSuffix(kind, "="))
}

// nameOf is the name by which a certificate's holder is known, of which it must
// have exactly one, and all names that it has.
func (m *mtls) nameOf(cert *x509.Certificate) (subject string, all []string, err error) {
	if all, err = names(cert); err != nil {
		return "", nil, err
	}
	prefix := m.opt.Identity + ":"
	for _, name := range all {
		if found, ok := strings.CutPrefix(name, prefix); ok {
			if subject != "" {
				return "", nil, refuse("the client certificate has several names of the kind in MTLS_IDENTITY")
			}
			if err := isName(found); err != nil {
				return "", nil, err
			}
			subject = found
		}
	}
	if subject == "" {
		return "", nil, refuse("the client certificate has no name of the kind in MTLS_IDENTITY")
	}
	return subject, all, nil
}
