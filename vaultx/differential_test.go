package vaultx_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// mirror is a server behind the real stock client, and a ServeMux as the REST
// surface has it: each request must come out as it went in.
type mirror struct {
	client *vaultx.Client
	mux    *http.ServeMux

	mu   sync.Mutex
	uris []string // as they stood in the request line
	rest []string // what the mux says the path is
}

func newMirror(tb testing.TB) *mirror {
	tb.Helper()
	m := &mirror{mux: http.NewServeMux()}
	m.mux.HandleFunc("/secrets/{path...}", func(_ http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.rest = append(m.rest, r.PathValue("path"))
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.uris = append(m.uris, r.Method+" "+r.RequestURI)
		w.WriteHeader(http.StatusNoContent)
	}))
	tb.Cleanup(server.Close)
	m.client = connect(tb, vaultx.Config{Address: server.URL, Token: secret.NewText("fake-token")})
	return m
}

// seen returns what came since the last time.
func (m *mirror) seen() (uris, rest []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	uris, rest = m.uris, m.rest
	m.uris, m.rest = nil, nil
	return uris, rest
}

// check sends a path through both and says whether the grammar accepted it.
func (m *mirror) check(t *testing.T, path string) bool {
	t.Helper()
	op, err := vaultx.NewOperation("update", kvData, map[string]string{"kv": "secret", "prefix": prefix, "path": path})
	if err != nil {
		_, err = m.client.Bind(op, vaultx.BindOptions{}).Do(context.Background(), vaultx.Request{})
		require.Error(t, err, "an operation that was refused can be done")
		uris, _ := m.seen()
		require.Empty(t, uris)
		return false
	}
	_, err = m.client.Bind(op, vaultx.BindOptions{}).Do(context.Background(), vaultx.Request{Query: url.Values{"version": {"1"}}})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	m.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/secrets/"+path, nil))
	require.Equal(t, http.StatusOK, w.Code, "ServeMux redirects a path that the grammar accepts")
	uris, rest := m.seen()
	require.Equal(t, []string{"POST /v1/secret/data/" + prefix + "/" + path + "?version=1"}, uris)
	require.Equal(t, []string{path}, rest)
	return true
}

func TestDifferential(t *testing.T) {
	m := newMirror(t)
	accepted := 0
	for _, c := range corpus {
		require.Equal(t, c.outcome, m.check(t, c.path), "row %d %.40q", c.row, c.path)
		if c.outcome == isolated {
			accepted++
		}
	}
	require.Positive(t, accepted)
}

// A path that the grammar accepts reaches Vault byte for byte through the real
// stock client, which joins paths, and means the same to our own router.
func FuzzDifferential(f *testing.F) {
	for _, c := range corpus {
		if len(c.path) <= 4096 {
			f.Add(c.path)
		}
	}
	m := newMirror(f)
	f.Fuzz(func(t *testing.T, path string) {
		m.check(t, path)
		// What the mutator finds is mostly refused, so what it found is also made
		// acceptable by dropping what the grammar does not have.
		m.check(t, strings.Map(func(r rune) rune {
			if r < 0x80 && strings.ContainsRune("abcXYZ019._@=-/", r) {
				return r
			}
			return -1
		}, path))
	})
}
