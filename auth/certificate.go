package auth

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"slices"
	"sync"
	"time"

	"vault-mcp/fault"
)

// Bounds of certificates and of the files about them.
const (
	maxChain      = 10       // certificates that a caller sends
	maxNames      = 64       // of a certificate
	maxAuthority  = 1 << 20  // bytes of a file of authorities
	maxRevocation = 16 << 20 // bytes of a file of revocation lists
	minRSA        = 2048     // bits of a caller's key

	// verifiedFor is how long a certificate that was found good is not looked at
	// again, unless the files change; and maxVerifiedCerts how many of them are known.
	verifiedFor      = time.Minute
	maxVerifiedCerts = 1024
)

// authorities are the certificate authorities of callers, and the certificates
// that they have taken back. They are not changed once they are made.
type authorities struct {
	pool  *x509.CertPool
	lists []*x509.RevocationList // nil: nobody keeps any
}

// errAuthorities and errRevocations are what is said of a file that is not right.
func errAuthorities() error {
	return fault.New(fault.Invalid, "TLS_CLIENT_CA_FILE: want PEM certificates of certificate authorities, and nothing else in PEM")
}

func errRevocations() error {
	return fault.New(fault.Invalid, "TLS_CLIENT_CRL_FILE: want full revocation lists in PEM, and nothing else")
}

// readAuthorities reads the files; listFile may be empty.
func readAuthorities(file, listFile string) (*authorities, error) {
	data, err := readBounded(file, maxAuthority)
	if err != nil {
		return nil, fault.New(fault.Invalid, "TLS_CLIENT_CA_FILE cannot be read, or is larger than 1 MiB")
	}
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, errAuthorities()
	}
	a := &authorities{pool: x509.NewCertPool()}
	for _, cert := range certs {
		a.pool.AddCert(cert)
	}
	if listFile == "" {
		return a, nil
	}
	if data, err = readBounded(listFile, maxRevocation); err != nil {
		return nil, fault.New(fault.Invalid, "TLS_CLIENT_CRL_FILE cannot be read, or is larger than 16 MiB")
	}
	a.lists, err = parseRevocations(data)
	return a, err
}

// parseRevocations reads PEM revocation lists, at least one and nothing else.
func parseRevocations(data []byte) (lists []*x509.RevocationList, err error) {
	blocks, ok := pemBlocks(data, "X509 CRL")
	if !ok {
		return nil, errRevocations()
	}
	for _, block := range blocks {
		list, err := x509.ParseRevocationList(block)
		// A critical extension means that the list is not of all certificates.
		if err != nil || slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool { return e.Critical }) {
			return nil, errRevocations()
		}
		slices.SortFunc(list.RevokedCertificateEntries, func(a, b x509.RevocationListEntry) int {
			return a.SerialNumber.Cmp(b.SerialNumber)
		})
		lists = append(lists, list)
	}
	return lists, nil
}

// parseCertificates reads PEM certificates, at least one and nothing else.
func parseCertificates(data []byte) (certs []*x509.Certificate, err error) {
	blocks, ok := pemBlocks(data, "CERTIFICATE")
	if !ok {
		return nil, errAuthorities()
	}
	for _, block := range blocks {
		cert, err := x509.ParseCertificate(block)
		if err != nil {
			return nil, errAuthorities()
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// pemBlocks are what PEM of one kind holds. The decoder passes over what it
// cannot read, such as the end of a file that is half written; here it counts.
func pemBlocks(data []byte, kind string) (blocks [][]byte, ok bool) {
	begins := bytes.Count(data, []byte("-----BEGIN "))
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return blocks, len(blocks) > 0 && len(blocks) == begins
		}
		if block.Type != kind {
			return nil, false
		}
		blocks = append(blocks, block.Bytes)
	}
}

func readBounded(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = io.ErrShortBuffer
	}
	return data, err
}

// verify finds a chain from a caller's certificate to an authority, in which
// nothing is revoked, and says until when it is good. The others that the caller
// sent may stand between.
func (a *authorities) verify(certs []*x509.Certificate, now time.Time) (until time.Time, err error) {
	if len(certs) > maxChain {
		return until, refuse("the client sends too many certificates")
	}
	leaf := certs[0]
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
		return until, refuse("the client certificate's key is too short")
	}
	between := x509.NewCertPool()
	for _, cert := range certs[1:] {
		between.AddCert(cert)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: a.pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	switch {
	case err == nil:
	case now.After(leaf.NotAfter):
		return until, refuse("the client certificate has expired")
	case now.Before(leaf.NotBefore):
		return until, refuse("the client certificate is not valid yet")
	default:
		return until, refuse("the client certificate is not one for clients of an authority in TLS_CLIENT_CA_FILE")
	}
	for _, chain := range chains {
		if err = a.revoked(chain, now); err == nil {
			return endOf(chain), nil
		}
	}
	return until, err
}

// endOf is when the first certificate of a chain ends.
func endOf(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, cert := range chain[1:] {
		if cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	}
	return end
}

// revoked holds a chain against the lists. Where there are any, each authority
// in the chain must have a current one: that a list is missing or old tells
// nothing good.
func (a *authorities) revoked(chain []*x509.Certificate, now time.Time) error {
	if a.lists == nil {
		return nil
	}
	for i, cert := range chain[:len(chain)-1] {
		list := a.listOf(chain[i+1], now)
		if list == nil {
			return refuse("an authority of the client certificate has no current list in TLS_CLIENT_CRL_FILE")
		}
		if _, found := slices.BinarySearchFunc(list.RevokedCertificateEntries, cert.SerialNumber, bySerial); found {
			return refuse("the client certificate, or one between it and its authority, is revoked")
		}
	}
	return nil
}

func (a *authorities) listOf(issuer *x509.Certificate, now time.Time) (newest *x509.RevocationList) {
	for _, list := range a.lists {
		if bytes.Equal(list.RawIssuer, issuer.RawSubject) && !now.Before(list.ThisUpdate) && now.Before(list.NextUpdate) &&
			(newest == nil || list.ThisUpdate.After(newest.ThisUpdate)) && list.CheckSignatureFrom(issuer) == nil {
			newest = list
		}
	}
	return newest
}

// verified remembers for a short time which certificates were found good: to
// verify one takes as long as a whole call otherwise.
type verified struct {
	mu    sync.Mutex
	by    *authorities // who found so; others know none
	until map[[sha256.Size]byte]time.Time
}

func (v *verified) has(by *authorities, sent [sha256.Size]byte, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.by == by && now.Before(v.until[sent])
}

func (v *verified) add(by *authorities, sent [sha256.Size]byte, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.by != by || len(v.until) >= maxVerifiedCerts {
		v.by, v.until = by, make(map[[sha256.Size]byte]time.Time)
	}
	v.until[sent] = until
}

// fingerprint is the public name of a certificate.
func fingerprint(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// names are all names of a certificate, for rules about them.
func names(cert *x509.Certificate) (list []string, err error) {
	uris, err := uriNames(cert)
	if err != nil {
		return nil, err
	}
	for _, uri := range uris {
		list = append(list, "uri:"+uri)
	}
	for _, name := range cert.DNSNames {
		list = append(list, "dns:"+name)
	}
	for _, name := range commonNames(cert) {
		list = append(list, "cn:"+name)
	}
	if len(list) > maxNames {
		return nil, refuse("the client certificate has too many names")
	}
	return list, nil
}

// commonNames are the CNs of a certificate's subject; x509 keeps the last alone.
func commonNames(cert *x509.Certificate) (list []string) {
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) {
			name, _ := attribute.Value.(string)
			list = append(list, name)
		}
	}
	return list
}

// uriNames are the URIs of a certificate as they stand there: x509 keeps them
// parsed, and two that differ can be one when they are written again.
func uriNames(cert *x509.Certificate) (list []string, err error) {
	for _, extension := range cert.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var all []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &all); err != nil || len(rest) > 0 {
			return nil, refuse("the client certificate's alternative names cannot be read")
		}
		for _, name := range all {
			if name.Class == asn1.ClassContextSpecific && name.Tag == 6 {
				list = append(list, string(name.Bytes))
			}
		}
	}
	return list, nil
}

func bySerial(entry x509.RevocationListEntry, serial *big.Int) int {
	return entry.SerialNumber.Cmp(serial)
}
