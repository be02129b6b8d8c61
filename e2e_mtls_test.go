package main_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// certified is a product with a certificate of its own, and callers with theirs.
type certified struct {
	*process
	ca, clients *devstacktest.CA
	dir         string
}

func startCertified(t *testing.T, more ...string) *certified {
	t.Helper()
	c := &certified{ca: devstacktest.NewCA(t, "servers"), clients: devstacktest.NewCA(t, "clients"), dir: t.TempDir()}
	cert, key := devstacktest.WritePair(t, c.dir, c.ca.Issue(t, "server", devstacktest.ForLocalhost))
	cas := filepath.Join(c.dir, "clients.pem")
	require.NoError(t, os.WriteFile(cas, c.clients.PEM(), 0o600))
	c.process = startHTTP(t, settings(t, devstacktest.Shared(t), append([]string{
		"AUTH_MTLS_ENABLED=true", "TLS_CERT_FILE=" + cert, "TLS_KEY_FILE=" + key, "TLS_CLIENT_CA_FILE=" + cas,
	}, more...)...))
	require.True(t, strings.HasPrefix(c.url, "https://127.0.0.1:"), c.url)
	return c
}

// client is one with a certificate for a URI, or with none.
func (c *certified) client(t *testing.T, uri string) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(c.ca.Cert)
	config := &tls.Config{RootCAs: roots}
	if uri != "" {
		config.Certificates = []tls.Certificate{c.clients.Issue(t, "agent", devstacktest.URI(uri))}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// A caller with a certificate has a place of its own in a real Vault, in each
// protocol era and over /mcp/rpc, and another cannot look into it.
func TestCallersWithCertificates(t *testing.T) {
	s := startCertified(t)
	const uri = "spiffe://example.org/agent"
	for _, version := range []string{"2025-06-18", "2026-07-28"} {
		agent := callThrough(connect(t, &mcp.StreamableClientTransport{
			Endpoint: s.url + "/mcp", MaxRetries: -1, HTTPClient: s.client(t, uri),
		}, version))
		me := agent(t, "whoami", map[string]any{})
		require.Equal(t, "mtls", me.body["auth_method"])
		require.Equal(t, "mcp/spiffe=3a=2f=2fexample.org=2fagent", me.body["prefix"])
		require.NotEmpty(t, me.body["expires_at"])
		require.False(t, agent(t, "kv.write", map[string]any{"path": "mtls", "data": map[string]any{"era": version}}).failed)
		require.Equal(t, version, agent(t, "kv.read", map[string]any{"path": "mtls"}).body["data"].(map[string]any)["era"])
	}
	status, body := s.read(t, s.client(t, uri), nil)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "2026-07-28")

	status, body = s.read(t, s.client(t, "spiffe://example.org/agent2"), nil)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"isError":true`)
	require.Contains(t, body, "not_found")

	status, body = s.read(t, s.client(t, ""), nil)
	require.Equal(t, http.StatusUnauthorized, status, body)
	status, body = s.read(t, s.client(t, ""), http.Header{"X-Ssl-Client-Verify": {"SUCCESS"}, "X-Ssl-Client-S-Dn": {"CN=dev"}})
	require.Equal(t, http.StatusUnauthorized, status, body)
	status, _ = s.read(t, s.client(t, uri), http.Header{"X-Api-Key": {"wrong-key-0123456789"}})
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = s.read(t, s.client(t, ""), http.Header{"X-Api-Key": {devKey}})
	require.Equal(t, http.StatusOK, status)

	resp, err := s.client(t, "").Get(strings.Replace(s.url, "https", "http", 1) + "/livez")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

// read asks over /mcp/rpc for what the other calls have written.
func (c *certified) read(t *testing.T, client *http.Client, header http.Header) (status int, body string) {
	t.Helper()
	return readMTLS(t, client, c.url, header)
}

func readMTLS(t *testing.T, client *http.Client, url string, header http.Header) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/mcp/rpc",
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"mtls"}}}`))
	require.NoError(t, err)
	if header != nil {
		req.Header = header.Clone()
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(all)
}

// As in the prototype: a proxy on this machine says who calls, and from where.
func TestCallersBehindAProxy(t *testing.T) {
	p := startHTTP(t, settings(t, devstacktest.Shared(t), "AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=127.0.0.1"))
	header := func(verify, dn string) http.Header {
		return http.Header{"X-Ssl-Client-Verify": {verify}, "X-Ssl-Client-S-Dn": {dn}, "X-Forwarded-For": {"203.0.113.9, 198.51.100.7"}}
	}
	status, body := readMTLS(t, http.DefaultClient, p.url, header("SUCCESS", "CN=proxied,O=Example"))
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, "not_found")
	for range 12 {
		status, _ = readMTLS(t, http.DefaultClient, p.url, http.Header{"X-Api-Key": {"wrong-key-0123456789"}, "X-Forwarded-For": {"198.51.100.66"}})
	}
	require.Equal(t, http.StatusTooManyRequests, status)
	status, _ = readMTLS(t, http.DefaultClient, p.url, header("FAILED", "CN=proxied"))
	require.Equal(t, http.StatusUnauthorized, status, "another client of the proxy is not held back")

	var trail strings.Builder
	for _, setting := range p.env {
		if dir, ok := strings.CutPrefix(setting, "STATE_DIR="); ok {
			files, err := filepath.Glob(filepath.Join(dir, "audit", "*.jsonl"))
			require.NoError(t, err)
			for _, file := range files {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				trail.Write(text)
			}
		}
	}
	require.Contains(t, trail.String(), `"remote":"198.51.100.7","subject":"proxied","auth_method":"mtls","credential_id":"dn-`)
	require.NotContains(t, trail.String(), "203.0.113.9")
}

// A renewed certificate is served without a restart; one that cannot be read
// shows in readiness, and callers go on.
func TestCertificateOfTheProductIsRenewed(t *testing.T) {
	s := startCertified(t)
	fresh := func() *http.Client { return s.client(t, "") }
	devstacktest.WritePair(t, s.dir, s.ca.Issue(t, "renewed", devstacktest.ForLocalhost))
	require.Eventually(t, func() bool {
		resp, err := fresh().Get(s.url + "/livez")
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		return resp.TLS.PeerCertificates[0].Subject.CommonName == "renewed"
	}, 20*time.Second, 100*time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "cert.pem"), []byte("-----BEGIN"), 0o600))
	require.Eventually(t, func() bool {
		resp, err := fresh().Get(s.url + "/readyz")
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		var ready struct {
			TLS struct{ OK bool } `json:"tls"`
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&ready))
		return resp.StatusCode == http.StatusServiceUnavailable && !ready.TLS.OK
	}, 20*time.Second, 100*time.Millisecond)
	require.Contains(t, s.stderr(), "the TLS certificate cannot be taken up")
	status, _ := s.read(t, fresh(), http.Header{"X-Api-Key": {devKey}})
	require.Equal(t, http.StatusOK, status)
}

// Settings that cannot work are said by config check and at the start alike, and
// doctor looks at the certificate.
func TestSettingsOfTLS(t *testing.T) {
	dir := t.TempDir()
	ca := devstacktest.NewCA(t, "authority")
	cert, key := devstacktest.WritePair(t, dir, ca.Issue(t, "server", devstacktest.Ends(time.Minute)))
	run := func(args []string, env ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env = settings(t, devstacktest.Shared(t), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for want, env := range map[string][]string{
		"TLS_CERT_FILE and TLS_KEY_FILE":    {"TLS_CERT_FILE=" + key, "TLS_KEY_FILE=" + cert},
		"TLS_CLIENT_CA_FILE: want PEM":      {"TLS_CERT_FILE=" + cert, "TLS_KEY_FILE=" + key, "AUTH_MTLS_ENABLED=true", "TLS_CLIENT_CA_FILE=" + key},
		"MTLS_IDENTITY: a proxy that sends": {"AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=10.0.0.1", "MTLS_IDENTITY=dns"},
	} {
		for _, args := range [][]string{{"config", "check"}, {"http", "--addr", "127.0.0.1:0"}} {
			out, err := run(args, env...)
			require.Error(t, err, args)
			require.Contains(t, out, want, args)
			require.NotContains(t, out, dir)
		}
	}
	out, _ := run([]string{"doctor"}, "TLS_CERT_FILE="+cert, "TLS_KEY_FILE="+key)
	require.Regexp(t, `(?m)^warning +certificate +it ends at 20`, out)
}
