package vaultx_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// recorder keeps the requests that reach a server.
type recorder struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

func record(t testing.TB) *recorder {
	t.Helper()
	rec := &recorder{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.seen = append(rec.seen, r)
		_, _ = io.WriteString(w, `{"data":{"data":{},"metadata":{"version":1}}}`)
	}))
	t.Cleanup(rec.Close)
	return rec
}

// The environment has no say: neither where requests go, nor what they carry,
// nor how often they are made.
func TestEnvironmentHasNoSay(t *testing.T) {
	elsewhere := record(t)
	for name, value := range map[string]string{
		"VAULT_ADDR": elsewhere.URL, "VAULT_AGENT_ADDR": elsewhere.URL, "VAULT_TOKEN": "env-token",
		"VAULT_NAMESPACE": "env-ns", "VAULT_WRAP_TTL": "99h", "VAULT_MAX_RETRIES": "9", "VAULT_SKIP_VERIFY": "true",
		"VAULT_PROXY_ADDR": elsewhere.URL, "VAULT_HTTP_PROXY": elsewhere.URL, "HTTP_PROXY": elsewhere.URL, "http_proxy": elsewhere.URL,
		"HTTPS_PROXY": elsewhere.URL, "ALL_PROXY": elsewhere.URL, "NO_PROXY": "", "VAULT_SRV_LOOKUP": "true",
		"VAULT_HEADERS": `{"X-Extra":"env","Authorization":"Bearer env"}`, "VAULT_CLIENT_TIMEOUT": "1ns", "VAULT_RATE_LIMIT": "0.001:1",
		"VAULT_DISABLE_REDIRECTS": "false", "VAULT_TLS_SERVER_NAME": "env.example", "VAULT_MFA": "env",
	} {
		t.Setenv(name, value)
	}
	rec := record(t)
	c := connect(t, vaultx.Config{Address: rec.URL, Token: secret.NewText("our-token"), Namespace: "our/ns"})
	for range 3 {
		_, err := vaultx.KVRead(t.Context(), c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}), 2)
		require.NoError(t, err)
	}
	_, err := vaultx.KVPatch(t.Context(), c.Bind(on(t, "patch", kvData, "app"), vaultx.BindOptions{}), kvValue(t, `{}`), nil)
	require.NoError(t, err)
	require.Empty(t, elsewhere.seen)
	require.Len(t, rec.seen, 4)
	r := rec.seen[0]
	require.Equal(t, "/v1/secret/data/mcp/dev-bot/app?version=2", r.RequestURI)
	require.Equal(t, http.Header{
		"X-Vault-Request": {"true"}, "X-Vault-Token": {"our-token"}, "X-Vault-Namespace": {"our/ns"},
		"User-Agent": {"Go-http-client/1.1"},
	}, r.Header, "these headers and no others")
	require.Equal(t, "application/merge-patch+json", rec.seen[3].Header.Get("Content-Type"))
	require.Equal(t, http.MethodPatch, rec.seen[3].Method)

	f := newFake(t, says(500, ""))
	_, err = f.write(t).Do(t.Context(), vaultx.Request{})
	requireKind(t, fault.Unavailable, err)
	require.EqualValues(t, 1, f.requests.Load(), "VAULT_MAX_RETRIES")

	// Without a token or namespace of ours, none is sent.
	c = connect(t, vaultx.Config{Address: rec.URL})
	_, err = vaultx.KVRead(t.Context(), c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}), 0)
	require.NoError(t, err)
	require.Equal(t, http.Header{"X-Vault-Request": {"true"}, "User-Agent": {"Go-http-client/1.1"}}, rec.seen[4].Header)
}

func TestSkipVerifyInTheEnvironmentHasNoSay(t *testing.T) {
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	c := connect(t, vaultx.Config{Address: server.URL, Token: secret.NewText("t")})
	_, err := c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
	require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "certificate")
	c = connect(t, vaultx.Config{Address: server.URL, Token: secret.NewText("t"), SkipVerify: true})
	_, err = c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
	requireKind(t, fault.NotFound, err)
}

// A redirect is never followed, to another host or to another path of the same,
// so the token goes nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := record(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{elsewhere.URL + "/v1/secret/data/mcp/dev-bot/app", "/v1/sys/mounts"} {
			f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(status)
			})
			for _, b := range []*vaultx.Bound{f.read(t), f.write(t)} {
				f.requests.Store(0)
				_, err := b.Do(t.Context(), vaultx.Request{})
				require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "redirect", status)
				require.EqualValues(t, 1, f.requests.Load())
			}
		}
	}
	require.Empty(t, elsewhere.seen)
}

// sys/health is outside of any namespace, and other paths are not.
func TestNamespaces(t *testing.T) {
	rec := record(t)
	c := connect(t, vaultx.Config{Address: rec.URL, Token: secret.NewText("t"), Namespace: "team"})
	_, err := c.Health(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Ready(t.Context()))
	require.Equal(t, "/v1/sys/health?perfstandbyok=true&standbyok=true", rec.seen[0].RequestURI)
	require.Empty(t, rec.seen[0].Header.Values("X-Vault-Namespace"))
	require.Equal(t, []string{"team"}, rec.seen[1].Header.Values("X-Vault-Namespace"))
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{
		"", "vault.example:8200", "ftp://vault.example", "http://", "http://:8200", "https://user:pw@vault.example", "http://vault.example/v1",
		"http://vault.example?x=1", "http://vault.example#x", "unix:///run/vault.sock", "http://vault example", "http://[::1",
	} {
		c, err := vaultx.New(vaultx.Config{Address: address})
		require.ErrorContains(t, err, "VAULT_ADDR", address)
		require.NotContains(t, err.Error(), "pw")
		require.Nil(t, c)
	}
	for _, token := range []string{"tok\n", "a b", "a\x00", "tök", "tok\r\nX-Evil: 1"} {
		_, err := vaultx.New(vaultx.Config{Address: "http://127.0.0.1:1", Token: secret.NewText(token)})
		require.ErrorContains(t, err, "VAULT_TOKEN", "%q", token)
		require.NotContains(t, err.Error(), "ok")
	}
	_, err := vaultx.New(vaultx.Config{Address: "http://127.0.0.1:1", Namespace: "a\nb"})
	require.ErrorContains(t, err, "VAULT_NAMESPACE")
	_, err = vaultx.New(vaultx.Config{Address: "http://127.0.0.1:1", Mounts: vaultx.Mounts{Transit: "a/../b"}})
	require.ErrorContains(t, err, "TRANSIT_MOUNT")
	_, err = vaultx.New(vaultx.Config{Address: "https://127.0.0.1:1", CACert: "/nonexistent.pem"})
	require.ErrorContains(t, err, "VAULT_CACERT")
	_, err = vaultx.New(vaultx.Config{Address: "https://127.0.0.1:1", ClientCert: "/only-one.pem"})
	require.ErrorContains(t, err, "VAULT_CLIENT_CERT")
	// What the stock client cannot parse in the environment is said at once.
	t.Setenv("VAULT_MAX_RETRIES", "many")
	_, err = vaultx.New(vaultx.Config{Address: "http://127.0.0.1:1"})
	require.Error(t, err)
}

func TestAddressesAndMounts(t *testing.T) {
	for _, address := range []string{"http://127.0.0.1:8200", "http://127.0.0.1:8200/", "https://vault.example", "http://[0:0:0:0:0:0:0:1]:8200", "HTTP://Vault.Example:8200"} {
		c := connect(t, vaultx.Config{Address: address, Mounts: vaultx.Mounts{KV: "/kv/", SSH: "a/b"}})
		require.Equal(t, vaultx.Mounts{KV: "kv", SSH: "a/b"}, c.Mounts())
	}
	// A host that is written unusually is reached all the same.
	rec := record(t)
	c := connect(t, vaultx.Config{Address: strings.Replace(rec.URL, "http://127.0.0.1", "HTTP://LOCALHOST", 1) + "/"})
	_, err := c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}).Do(t.Context(), vaultx.Request{})
	require.NoError(t, err)
}

func TestTLS(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{TLS: true, RequireClientCert: true})
	ask := func(cfg vaultx.Config) error {
		cfg.Address, cfg.Token = v.Addr, v.RootToken
		c := connect(t, cfg)
		_, err := c.Health(context.Background())
		return err
	}
	good := vaultx.Config{CACert: v.CACert, ClientCert: v.ClientCert, ClientKey: v.ClientKey}
	require.NoError(t, ask(good))

	byPath := good
	byPath.CACert, byPath.CAPath = "", t.TempDir()
	pem, err := os.ReadFile(v.CACert)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(byPath.CAPath, "ca.pem"), pem, 0o600))
	require.NoError(t, ask(byPath))

	noCA := good
	noCA.CACert = ""
	f := requireKind(t, fault.Unavailable, ask(noCA))
	require.Contains(t, f.Msg, "certificate")
	require.EqualError(t, f.Err, "the certificate is signed by an authority that is not trusted")

	wrongName := good
	wrongName.TLSServerName = "other.example"
	f = requireKind(t, fault.Unavailable, ask(wrongName))
	require.EqualError(t, f.Err, "the certificate is for another name")

	rightName := good
	rightName.TLSServerName = dnsName(t, v.Addr, good)
	require.NoError(t, ask(rightName))

	noClientCert := good
	noClientCert.ClientCert, noClientCert.ClientKey = "", ""
	// Under TLS 1.3 the refusal may come before, while or after the request is
	// written, so its words differ.
	requireKind(t, fault.Unavailable, ask(noClientCert))
}

// dnsName is a name in the server's certificate.
func dnsName(t *testing.T, addr string, cfg vaultx.Config) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cfg.ClientCert, cfg.ClientKey)
	require.NoError(t, err)
	pem, err := os.ReadFile(cfg.CACert)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	conn, err := tls.Dial("tcp", strings.TrimPrefix(addr, "https://"), &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}})
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	names := conn.ConnectionState().PeerCertificates[0].DNSNames
	require.NotEmpty(t, names)
	return names[0]
}
