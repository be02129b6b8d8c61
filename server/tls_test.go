package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// secure is a server with TLS, and what its certificate is made of.
type secure struct {
	*stack
	ca  *devstacktest.CA
	dir string // of cert.pem and key.pem
}

// listenTLS serves HTTPS with a certificate of a new authority.
func listenTLS(t testing.TB, opt server.TLSOptions, changes ...change) *secure {
	t.Helper()
	s := &secure{ca: devstacktest.NewCA(t, "server authority"), dir: t.TempDir()}
	opt.CertFile, opt.KeyFile = devstacktest.WritePair(t, s.dir, s.ca.Issue(t, "server", devstacktest.ForLocalhost))
	certificate, err := server.OpenTLS(opt)
	require.NoError(t, err)
	s.stack = listen(t, append([]change{func(o *server.Options, _ *tools.Options) { o.TLS = certificate }}, changes...)...)
	s.http = s.client(t)
	return s
}

// client is one that trusts the server, over HTTP/2 where it can.
func (s *secure) client(t testing.TB, certs ...tls.Certificate) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.Cert)
	transport := &http.Transport{
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64,
		TLSClientConfig: &tls.Config{RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil // whatever authorities the server would like
		}},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * patience}
}

// as is the server as a client with a certificate meets it.
func (s *secure) as(t testing.TB, certs ...tls.Certificate) *stack {
	t.Helper()
	other := *s.stack
	other.http = s.client(t, certs...)
	return &other
}

func TestTLSVersionsAndSuites(t *testing.T) {
	s := listenTLS(t, server.TLSOptions{})
	for name, tc := range map[string]struct {
		change func(*tls.Config)
		want   string // the protocol; empty: refused
	}{
		"the best":     {func(*tls.Config) {}, "h2"},
		"1.2":          {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "h2"},
		"HTTP/1.1":     {func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, "http/1.1"},
		"1.1":          {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, ""},
		"CBC":          {func(c *tls.Config) { suite(c, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA) }, ""},
		"RSA exchange": {func(c *tls.Config) { suite(c, tls.TLS_RSA_WITH_AES_128_GCM_SHA256) }, ""},
		"SSH, say":     {func(c *tls.Config) { c.NextProtos = []string{"ssh"} }, ""},
	} {
		roots := x509.NewCertPool()
		roots.AddCert(s.ca.Cert)
		config := &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}}
		tc.change(config)
		conn, err := tls.Dial("tcp", s.addr, config)
		if tc.want == "" {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, tc.want, conn.ConnectionState().NegotiatedProtocol, name)
		require.NoError(t, conn.Close())
	}
}

func suite(c *tls.Config, id uint16) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{id} }

// Who speaks plain HTTP is told, and nothing of what was sent is looked at.
func TestPlainHTTPToTLS(t *testing.T) {
	s := listenTLS(t, server.TLSOptions{})
	conn := s.dial(t)
	_, err := io.WriteString(conn, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: "+aliceKey+"\r\nContent-Length: 0\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(answer), "HTTP/1.0 400 Bad Request\r\n"), string(answer))
	require.Contains(t, string(answer), "HTTPS server")
}

// Calls, sessions and streams are over HTTP/2 what they are over HTTP/1.1.
func TestEveryWayOverHTTP2(t *testing.T) {
	s := listenTLS(t, server.TLSOptions{})
	for _, way := range everyWay() {
		if way.name == "stdio" {
			continue
		}
		t.Run(way.name, func(t *testing.T) {
			c := way.open(t, s.stack, aliceKey, "test")
			r := call(t, c, "kv.read", object{"path": "a"})
			require.NotNil(t, r.Result, r.raw)
			require.Contains(t, r.raw, marked)
		})
	}
	resp, err := s.http.Get(s.url + "/livez")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 2, resp.ProtoMajor)
}

// In HTTP/2 a deadline that passes ends a request on which nothing is written.
// So none stands while a call takes longer than a write may, or a stream is idle.
func TestSlowCallsAndIdleStreamsOverHTTP2(t *testing.T) {
	const bound = 300 * time.Millisecond
	s := listenTLS(t, server.TLSOptions{}, func(o *server.Options, topt *tools.Options) {
		o.WriteTimeout, o.ReadTimeout, o.KeepAlive = bound, bound, 3*bound
		topt.CallTimeout = patience
	})
	session := openSession(t, s.stack, aliceKey, "test", legacy)
	stream := session.headers()
	req, err := http.NewRequest(http.MethodGet, s.url+"/mcp", nil)
	require.NoError(t, err)
	for i := 0; i < len(stream); i += 2 {
		req.Header.Set(stream[i], stream[i+1])
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Del("Content-Type")
	resp, err := s.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, 2, resp.ProtoMajor)

	done := make(chan reply, 1)
	go func() {
		done <- s.do(t, http.MethodPost, "/mcp/rpc", message(t, 1, "tools/call", object{"name": "kv.read", "arguments": object{"path": "slow"}}), posted(aliceKey)...) //nolint:testifylint // that it failed is seen by receive
	}()
	receive(t, "the call is at Vault", s.vault.asked)
	// Two comments come, each after thrice the time that a write may take.
	got := make([]byte, 0, 100)
	buffer := make([]byte, 100)
	for strings.Count(string(got), ": keep-alive") < 2 {
		n, err := resp.Body.Read(buffer)
		got = append(got, buffer[:n]...)
		require.NoError(t, err, string(got))
	}
	s.vault.let()
	require.Contains(t, receive(t, "the call's answer", done).raw, marked)
}

// A client that takes nothing is cut off over HTTP/2 as well.
func TestHTTP2ClientThatTakesNothing(t *testing.T) {
	s := listenTLS(t, server.TLSOptions{}, func(o *server.Options, _ *tools.Options) { o.WriteTimeout = 200 * time.Millisecond })
	req, err := http.NewRequest(http.MethodPost, s.url+"/mcp/rpc",
		strings.NewReader(message(t, 1, "tools/call", object{"name": "kv.read", "arguments": object{"path": "large"}})))
	require.NoError(t, err)
	headers := posted(aliceKey)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	// The window of this client is 4 MiB for a stream, so several answers fill that
	// of its connection.
	s.http.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	resp, err := s.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, 2, resp.ProtoMajor)
	time.Sleep(600 * time.Millisecond)
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err, "the rest does not come")
}
