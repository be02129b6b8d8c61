package vaultx

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// wire stands where the network is.
type wire struct{ passed []*http.Request }

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.passed = append(w.passed, r)
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
}

func TestGuardStopsWhateverWasNotResolved(t *testing.T) {
	base := &url.URL{Scheme: "https", Host: "vault.example:8200"}
	path, err := MustTemplate("secret/data/mcp/dev/{path...}").Expand(map[string]string{"path": "app"})
	require.NoError(t, err)
	pinned := func() (*pin, *http.Request) {
		p := &pin{
			method: http.MethodPatch, path: path, query: "version=1", token: secret.NewText("token"),
			namespace: "ns1", wrap: "60s", contentType: "application/merge-patch+json",
		}
		r, err := http.NewRequest(http.MethodPatch, "https://vault.example:8200/v1/secret/data/mcp/dev/app?version=1", strings.NewReader("{}"))
		require.NoError(t, err)
		r.Header = http.Header{
			api.RequestHeaderName: {"true"}, api.AuthHeaderName: {"token"}, api.NamespaceHeaderName: {"ns1"},
			wrapHeader: {"60s"}, contentType: {"application/merge-patch+json"},
		}
		return p, r
	}
	alterations := map[string]func(*pin, *http.Request){
		"scheme":            func(_ *pin, r *http.Request) { r.URL.Scheme = "http" },
		"host":              func(_ *pin, r *http.Request) { r.URL.Host = "evil.example:8200" },
		"port":              func(_ *pin, r *http.Request) { r.URL.Host = "vault.example:8201" },
		"host header":       func(_ *pin, r *http.Request) { r.Host = "evil.example:8200" },
		"user":              func(_ *pin, r *http.Request) { r.URL.User = url.User("root") },
		"opaque":            func(_ *pin, r *http.Request) { r.URL.Opaque = "//evil.example/v1/x" },
		"method":            func(_ *pin, r *http.Request) { r.Method = http.MethodDelete },
		"path":              func(_ *pin, r *http.Request) { r.URL.Path = "/v1/secret/data/mcp/other/app" },
		"path with dots":    func(_ *pin, r *http.Request) { r.URL.Path = "/v1/secret/data/mcp/dev/app/../../other" },
		"longer path":       func(_ *pin, r *http.Request) { r.URL.Path += "/" },
		"api version":       func(_ *pin, r *http.Request) { r.URL.Path = strings.Replace(r.URL.Path, "/v1/", "/v2/", 1) },
		"raw path":          func(_ *pin, r *http.Request) { r.URL.RawPath = strings.Replace(r.URL.Path, "app", "%61pp", 1) },
		"query":             func(_ *pin, r *http.Request) { r.URL.RawQuery = "version=2" },
		"no query":          func(_ *pin, r *http.Request) { r.URL.RawQuery = "" },
		"fragment":          func(_ *pin, r *http.Request) { r.URL.Fragment = "x" },
		"token":             func(_ *pin, r *http.Request) { r.Header.Set(api.AuthHeaderName, "other") },
		"no token":          func(_ *pin, r *http.Request) { r.Header.Del(api.AuthHeaderName) },
		"two tokens":        func(_ *pin, r *http.Request) { r.Header.Add(api.AuthHeaderName, "token") },
		"namespace":         func(_ *pin, r *http.Request) { r.Header.Set(api.NamespaceHeaderName, "ns2") },
		"no namespace":      func(_ *pin, r *http.Request) { r.Header.Del(api.NamespaceHeaderName) },
		"wrapping":          func(_ *pin, r *http.Request) { r.Header.Set(wrapHeader, "99999h") },
		"no wrapping":       func(_ *pin, r *http.Request) { r.Header.Del(wrapHeader) },
		"wrapping unasked":  func(p *pin, _ *http.Request) { p.wrap = "" },
		"namespace unasked": func(p *pin, _ *http.Request) { p.namespace = "" },
		"token unasked":     func(p *pin, _ *http.Request) { p.token = secret.Text{} },
		"content type":      func(_ *pin, r *http.Request) { r.Header.Set(contentType, "application/json") },
		"no request header": func(_ *pin, r *http.Request) { r.Header.Del(api.RequestHeaderName) },
		"authorization":     func(_ *pin, r *http.Request) { r.Header.Set("Authorization", "Bearer token") },
		"cookie":            func(_ *pin, r *http.Request) { r.Header.Set("Cookie", "hcp=1") },
		"policy override":   func(_ *pin, r *http.Request) { r.Header.Set("X-Vault-Policy-Override", "true") },
		"MFA":               func(_ *pin, r *http.Request) { r.Header.Set("X-Vault-MFA", "x") },
		"odd case":          func(_ *pin, r *http.Request) { r.Header["x-vault-token"] = []string{"other"} },
		"empty path":        func(p *pin, _ *http.Request) { p.path = Path{} },
	}
	net := &wire{}
	g := &guard{base: base, next: net, maxResponse: 100}
	p, r := pinned()
	resp, err := g.RoundTrip(r.WithContext(withPin(context.Background(), p)))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Len(t, net.passed, 1, "the request as it was resolved")

	for name, alter := range alterations {
		t.Run(name, func(t *testing.T) {
			p, r := pinned()
			alter(p, r)
			_, err := g.RoundTrip(r.WithContext(withPin(context.Background(), p)))
			require.ErrorIs(t, err, errPinned)
			require.Len(t, net.passed, 1, "it reached the network")
		})
	}
	_, r = pinned()
	_, err = g.RoundTrip(r)
	require.ErrorIs(t, err, errPinned, "a request without a pin")
	require.Len(t, net.passed, 1)
}

func TestEmptyPathReachesNothing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came") }))
	defer server.Close()
	c, err := New(Config{Address: server.URL, Token: secret.NewText("token")})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Bind(Operation{Method: http.MethodGet}, BindOptions{}).Do(context.Background(), Request{})
	require.ErrorIs(t, err, fault.Internal)
}

func TestBoundOfBody(t *testing.T) {
	for size, fits := range map[int]bool{0: true, 1: true, 9: true, 10: true, 11: false, 100: false} {
		for _, chunk := range []int{1, 3, 10, 11, 512} {
			b := fault.Bounded(io.NopCloser(strings.NewReader(strings.Repeat("x", size))), 10, errTooLarge)
			got, err := io.ReadAll(chunked{b, chunk})
			if fits {
				require.NoError(t, err, "%d in chunks of %d", size, chunk)
				require.Len(t, got, size)
				continue
			}
			require.ErrorIs(t, err, errTooLarge, "%d in chunks of %d", size, chunk)
			require.LessOrEqual(t, len(got), 10)
			_, err = b.Read(make([]byte, 1))
			require.ErrorIs(t, err, errTooLarge, "the bound holds for good")
		}
	}
}

// chunked reads no more than so much at a time.
type chunked struct {
	r    io.Reader
	size int
}

func (c chunked) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.size)]) }
