package devstacktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// CA is a certificate authority of a test.
type CA struct {
	Cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	between []*CA // from this one up to the root, which is left out
}

// Change makes a certificate another than Issue's: a good one for clients and
// servers on this machine, for an hour.
type Change func(*x509.Certificate)

// NewCA makes an authority that signs itself.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	return newCA(t, name, nil)
}

// Between makes an authority that c has signed.
func (c *CA) Between(t testing.TB, name string, changes ...Change) *CA {
	t.Helper()
	return newCA(t, name, c, changes...)
}

func newCA(t testing.TB, name string, by *CA, changes ...Change) *CA {
	t.Helper()
	cert := template(t, name)
	cert.IsCA, cert.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	for _, change := range changes {
		change(cert)
	}
	ca := &CA{key: newKey(t)}
	if by == nil {
		ca.Cert = sign(t, cert, cert, ca.key, ca.key)
		return ca
	}
	ca.Cert = sign(t, cert, by.Cert, ca.key, by.key)
	ca.between = append([]*CA{ca}, by.between...)
	return ca
}

// Issue makes a certificate with its key, and those between it and the root.
func (c *CA) Issue(t testing.TB, name string, changes ...Change) tls.Certificate {
	t.Helper()
	cert := template(t, name)
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, change := range changes {
		change(cert)
	}
	key := newKey(t)
	pair := tls.Certificate{PrivateKey: key, Leaf: sign(t, cert, c.Cert, key, c.key)}
	pair.Certificate = [][]byte{pair.Leaf.Raw}
	for _, ca := range c.between {
		pair.Certificate = append(pair.Certificate, ca.Cert.Raw)
	}
	return pair
}

// URI gives a certificate URIs.
func URI(list ...string) Change {
	return func(c *x509.Certificate) {
		for _, text := range list {
			u, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// DNS gives a certificate DNS names.
func DNS(list ...string) Change {
	return func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, list...) }
}

// Ends ends a certificate after so long.
func Ends(after time.Duration) Change {
	return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(after) }
}

// ForLocalhost makes a certificate one of a server on this machine.
func ForLocalhost(c *x509.Certificate) {
	c.DNSNames = append(c.DNSNames, "localhost")
	c.IPAddresses = append(c.IPAddresses, net.IPv4(127, 0, 0, 1))
}

// Revoke is a list of what c has taken back, in PEM, that is good for so long.
func (c *CA) Revoke(t testing.TB, lasts time.Duration, certs ...*x509.Certificate) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(lasts)}
	for _, cert := range certs {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.Cert, c.key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// PEM is the certificate of c.
func (c *CA) PEM() []byte { return CertPEM(c.Cert) }

// CertPEM is certificates in PEM.
func CertPEM(certs ...*x509.Certificate) (text []byte) {
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}

// WritePair writes a certificate and its key into a folder, and gives the names.
func WritePair(t testing.TB, dir string, pair tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	var certs []byte
	for _, cert := range pair.Certificate {
		certs = append(certs, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	}
	require.NoError(t, os.WriteFile(certFile, certs, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return certFile, keyFile
}

func template(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	require.NoError(t, err)
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func sign(t testing.TB, cert, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, by, &key.PublicKey, byKey)
	require.NoError(t, err)
	made, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return made
}
