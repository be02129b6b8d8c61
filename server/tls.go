package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// TLSOptions say how we listen with TLS.
type TLSOptions struct {
	CertFile, KeyFile string // PEM: our certificate and those between it and its authority, and its key

	// ClientCertificates asks clients for theirs. They are verified not here but
	// with the other credentials: so a bad one is answered and recorded as any bad
	// credential is, one that ends or is revoked counts no more on connections that
	// are open, and there is one place where certificates are verified.
	ClientCertificates bool

	Log *zap.Logger // hears of new certificates, bad ones, and the end of them
}

// TLS is our certificate, as its files have it.
type TLS struct {
	opt  TLSOptions
	pair *auth.Watched[*tls.Certificate]

	mu       sync.Mutex
	reminded time.Time
}

// OpenTLS reads the certificate, which must be right. Later the files may change
// at any time; a pair that is not right leaves the one before in force.
func OpenTLS(opt TLSOptions) (*TLS, error) {
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	t := &TLS{opt: opt}
	var err error
	t.pair, err = auth.Watch([]string{opt.CertFile, opt.KeyFile}, t.read, auth.WatchOptions{Told: t.changed})
	if err != nil {
		return nil, err
	}
	t.remind(t.pair.Current().Leaf)
	return t, nil
}

// maxPEM is more than any certificate and key are, in bytes.
const maxPEM = 1 << 20

func (t *TLS) read() (*tls.Certificate, error) {
	var pem [2][]byte
	for i, name := range []string{t.opt.CertFile, t.opt.KeyFile} {
		info, err := os.Stat(name)
		if err == nil && info.Size() > maxPEM {
			return nil, fault.New(fault.Invalid, "TLS_CERT_FILE or TLS_KEY_FILE is larger than 1 MiB")
		}
		if err == nil {
			pem[i], err = os.ReadFile(name)
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, "TLS_CERT_FILE or TLS_KEY_FILE cannot be read")
		}
	}
	pair, err := tls.X509KeyPair(pem[0], pem[1])
	if err != nil {
		return nil, fault.New(fault.Invalid, "TLS_CERT_FILE and TLS_KEY_FILE: want a PEM certificate, then those of the authorities between, and the PEM key that belongs to it, without a passphrase")
	}
	return &pair, nil
}

func (t *TLS) changed(err error) {
	if err != nil {
		t.opt.Log.Error("the TLS certificate cannot be taken up; the one before is in force", zap.String("detail", fault.From(err).Msg))
		return
	}
	t.opt.Log.Info("a new TLS certificate is in force")
	t.mu.Lock()
	t.reminded = time.Time{}
	t.mu.Unlock()
}

// Certificate is the one in force.
func (t *TLS) Certificate() *x509.Certificate { return t.pair.Current().Leaf }

// Expiring reports whether a certificate is near its end: a tenth of its life,
// and two weeks at most. What renews certificates does so well before.
func Expiring(cert *x509.Certificate, now time.Time) bool {
	before := min(14*24*time.Hour, cert.NotAfter.Sub(cert.NotBefore)/10)
	return now.After(cert.NotAfter.Add(-before))
}

// remind logs, once an hour, that the certificate ends or has ended.
func (t *TLS) remind(cert *x509.Certificate) {
	now := time.Now()
	if !Expiring(cert, now) {
		return
	}
	t.mu.Lock()
	again := now.Sub(t.reminded) < time.Hour
	if !again {
		t.reminded = now
	}
	t.mu.Unlock()
	switch {
	case again:
	case now.After(cert.NotAfter):
		t.opt.Log.Error("the TLS certificate has expired: clients refuse to connect", zap.Time("expired", cert.NotAfter))
	default:
		t.opt.Log.Warn("the TLS certificate expires soon", zap.Time("expires", cert.NotAfter))
	}
}

// Check reports what is wrong with the certificate, for readiness.
func (t *TLS) Check(context.Context) error {
	if err := t.pair.Failure(); err != nil {
		return err
	}
	cert := t.Certificate()
	t.remind(cert)
	now := time.Now()
	switch {
	case now.After(cert.NotAfter):
		return fault.New(fault.Unavailable, "the TLS certificate has expired")
	case now.Before(cert.NotBefore):
		return fault.New(fault.Unavailable, "the TLS certificate is not valid yet")
	}
	return nil
}

// config is that of the listener. The files are looked at on handshakes, at most
// once a second.
func (t *TLS) config() *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Of TLS 1.2; those of 1.3 are all good.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair := t.pair.Current()
			t.remind(pair.Leaf)
			return pair, nil
		},
	}
	if t.opt.ClientCertificates {
		c.ClientAuth = tls.RequestClientCert
	}
	return c
}

// listenTLS makes an HTTP server one that speaks TLS, and HTTP/2 over it.
func (t *TLS) listenTLS(hs *http.Server, writeTimeout time.Duration) {
	hs.TLSConfig = t.config()
	hs.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: maxStreams,
		MaxReadFrameSize:     http2Frame,
		WriteByteTimeout:     writeTimeout, // a connection that takes nothing ends
		SendPingTimeout:      idleTimeout,
		PingTimeout:          writeTimeout,
	}
}

// Bounds of HTTP/2.
const (
	maxStreams = 100 // requests under way on a connection
	http2Frame = 64 << 10
)
