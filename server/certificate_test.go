package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/server"
)

// A renewed certificate is taken up without a failed handshake; a pair that is
// not right leaves the one before in force, and is told of.
func TestCertificateIsReplacedUnderLoad(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	s := listenTLS(t, server.TLSOptions{Log: zap.New(core)})
	stop := make(chan struct{})
	var load sync.WaitGroup
	var mu sync.Mutex
	served, failed := map[string]int{}, []error{}
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				roots := x509.NewCertPool()
				roots.AddCert(s.ca.Cert)
				conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: roots, ServerName: "localhost"})
				mu.Lock()
				if err != nil {
					failed = append(failed, err)
				} else {
					served[conn.ConnectionState().PeerCertificates[0].Subject.CommonName]++
				}
				mu.Unlock()
				if err == nil {
					_ = conn.Close()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	serves := func(name string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return served[name] > 10
		}
	}
	eventually(t, "the first certificate is served", serves("server"))

	devstacktest.WritePair(t, s.dir, s.ca.Issue(t, "second", devstacktest.ForLocalhost))
	eventually(t, "the second is served", serves("second"))

	key := filepath.Join(s.dir, "key.pem")
	good, err := os.ReadFile(key)
	require.NoError(t, err)
	for _, broken := range [][]byte{nil, good[:len(good)/2]} {
		require.NoError(t, os.WriteFile(key, broken, 0o600))
		eventually(t, "the bad pair is told", func() bool { return s.opt.TLS.Check(t.Context()) != nil })
		require.ErrorIs(t, s.opt.TLS.Check(t.Context()), fault.Invalid)
		require.Equal(t, "second", s.opt.TLS.Certificate().Subject.CommonName)
	}
	require.NoError(t, os.Remove(key))
	require.NoError(t, os.WriteFile(key, good, 0o600))
	eventually(t, "it is right again", func() bool { return s.opt.TLS.Check(t.Context()) == nil })

	devstacktest.WritePair(t, s.dir, s.ca.Issue(t, "third", devstacktest.ForLocalhost))
	eventually(t, "the third is served", serves("third"))
	close(stop)
	load.Wait()
	require.Empty(t, failed, "handshakes")
	require.NotZero(t, logs.FilterMessage("a new TLS certificate is in force").Len())
	require.NotZero(t, logs.FilterMessage("the TLS certificate cannot be taken up; the one before is in force").Len())
	for _, entry := range logs.All() {
		require.NotContains(t, entry.ContextMap(), s.dir)
	}
}

func TestEndOfACertificate(t *testing.T) {
	for name, tc := range map[string]struct {
		ends  time.Duration
		said  string
		ready bool
	}{
		"fresh":   {time.Hour, "", true},
		"soon":    {time.Minute, "the TLS certificate expires soon", true},
		"expired": {-time.Minute, "the TLS certificate has expired: clients refuse to connect", false},
	} {
		core, logs := observer.New(zap.InfoLevel)
		cert, key := devstacktest.WritePair(t, t.TempDir(), devstacktest.NewCA(t, "authority").Issue(t, "server", devstacktest.Ends(tc.ends)))
		opened, err := server.OpenTLS(server.TLSOptions{CertFile: cert, KeyFile: key, Log: zap.New(core)})
		require.NoError(t, err, name)
		err = opened.Check(t.Context())
		require.Equal(t, tc.ready, err == nil, name)
		if tc.said == "" {
			require.Zero(t, logs.Len(), name)
			continue
		}
		require.Equal(t, 1, logs.FilterMessage(tc.said).Len(), "%s: once an hour", name)
	}
}

func TestBadPairAtTheStart(t *testing.T) {
	ca := devstacktest.NewCA(t, "authority")
	cert, key := devstacktest.WritePair(t, t.TempDir(), ca.Issue(t, "one"))
	_, other := devstacktest.WritePair(t, t.TempDir(), ca.Issue(t, "two"))
	large := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(large, make([]byte, 2<<20), 0o600))
	for about, pair := range map[string][2]string{
		"no certificate":        {cert + "-none", key},
		"no key":                {cert, key + "-none"},
		"another's key":         {cert, other},
		"the files in disarray": {key, cert},
		"too large":             {large, key},
	} {
		_, err := server.OpenTLS(server.TLSOptions{CertFile: pair[0], KeyFile: pair[1]})
		require.ErrorIs(t, err, fault.Invalid, about)
		require.ErrorContains(t, err, "TLS_CERT_FILE", about)
		require.NotContains(t, err.Error(), filepath.Dir(cert), about)
	}
}
