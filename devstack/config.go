package devstack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// nonceHeader carries Vault.nonce in each answer of a Vault with storage.
const nonceHeader = "X-Devstack"

// writeConfig writes the configuration of a Vault with storage. Raft is the one
// lasting storage that a minimal build of Vault has.
func (v *Vault) writeConfig() error {
	if err := os.Mkdir(v.path("data"), 0o700); err != nil {
		return err
	}
	lines := []string{"tls_disable = true"}
	if v.opt.TLS {
		lines = []string{
			"tls_cert_file = " + strconv.Quote(v.path("server.pem")),
			"tls_key_file = " + strconv.Quote(v.path("server-key.pem")),
			"tls_client_ca_file = " + strconv.Quote(v.CACert),
			fmt.Sprintf("tls_require_and_verify_client_cert = %t", v.opt.RequireClientCert),
		}
	}
	plugins := ""
	if v.opt.PostgresPlugin != "" {
		plugins = fmt.Sprintf("plugin_directory = %q", v.pluginFolder())
	}
	text := fmt.Sprintf(`
disable_mlock = true
%s
api_addr      = %q
cluster_addr  = "https://%s"

storage "raft" {
  path                   = %q
  node_id                = "devstack"
  performance_multiplier = 1
}

listener "tcp" {
  address         = %q
  cluster_address = %q
  %s
  custom_response_headers {
    "default" = { %q = [%q] }
  }
}
`, plugins, v.Addr, loopback(v.port+1), v.path("data"), v.listen(), loopback(v.port+1),
		strings.Join(lines, "\n  "), nonceHeader, v.nonce)
	return os.WriteFile(v.path("vault.hcl"), []byte(text), 0o600)
}

// answers reports whether our own Vault answers: one that has no token yet is
// known by the header of its configuration. Without this check, two processes
// that picked the same port could initialise one another's Vault.
func (v *Vault) answers(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.Addr+"/v1/sys/seal-status", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := v.http.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.Header.Get(nonceHeader) != v.nonce {
		return errors.New("another server answers on the port")
	}
	return nil
}

// makeCertificates makes a certificate authority, and a server's and a client's
// certificate of it, and returns how our own client is to connect.
func (v *Vault) makeCertificates() (*tls.Config, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "devstack CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		Subject: pkix.Name{CommonName: "devstack Vault"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	client := &x509.Certificate{
		Subject:  pkix.Name{CommonName: "devstack client"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	v.CACert, v.ClientCert, v.ClientKey = v.path("ca.pem"), v.path("client.pem"), v.path("client-key.pem")
	err = errors.Join(
		issue(v.CACert, "", ca, ca, caKey),
		issue(v.path("server.pem"), v.path("server-key.pem"), server, ca, caKey),
		issue(v.ClientCert, v.ClientKey, client, ca, caKey),
	)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(v.ClientCert, v.ClientKey)
	if err != nil {
		return nil, err
	}
	pemCA, err := os.ReadFile(v.CACert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pemCA)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}, nil
}

// issue signs a certificate and writes it, and its new key, as PEM. A
// certificate that signs itself has the key of its parent, which is not kept.
func issue(certFile, keyFile string, cert, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) error {
	key := parentKey
	if cert != parent {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		if err := writePEM(keyFile, "PRIVATE KEY", der); err != nil {
			return err
		}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	cert.SerialNumber = serial
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(30*24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
