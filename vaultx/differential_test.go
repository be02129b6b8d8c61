package vaultx_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// The grammar once more, in other words than the code's: what it takes is taken
// and nothing else, and then every byte of it stands for itself in a URL.
var (
	grammarOfPaths = regexp.MustCompile(`^[A-Za-z0-9_.@=-]{1,128}(/[A-Za-z0-9_.@=-]{1,128})*$`)
	grammarOfNames = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	dotSegment     = regexp.MustCompile(`(^|/)\.\.?(/|$)`)
)

func isPath(s string) bool {
	return len(s) <= 512 && strings.Count(s, "/") < 32 && grammarOfPaths.MatchString(s) && !dotSegment.MatchString(s)
}

func isFolder(s string) bool {
	return s == "" || isPath(strings.TrimSuffix(s, "/"))
}

func isName(s string) bool { return grammarOfNames.MatchString(s) && !dotSegment.MatchString(s) }

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

// transitKey has a hole for one name.
var transitKey = vaultx.MustTemplate("{transit}/encrypt/{key}")

// check sends a path below a prefix through both, as the path of a secret, as a
// folder and as a name, and says whether the grammar accepted it as the first.
func (m *mirror) check(t *testing.T, below, path string) bool {
	t.Helper()
	for _, as := range []struct {
		capability string
		template   vaultx.Template
		ok         bool
		want       string // the request line, to the byte
	}{
		{"update", kvData, isPath(path), "POST /v1/secret/data/" + below + "/" + path},
		{"list", kvMetadata, isFolder(path), "LIST /v1/secret/metadata/" + strings.TrimSuffix(below+"/"+path, "/")},
		{"update", transitKey, isName(path), "POST /v1/transit/encrypt/" + path},
	} {
		op, err := vaultx.NewOperation(as.capability, as.template, map[string]string{
			"kv": "secret", "transit": "transit", "prefix": below, "path": path, "key": path,
		})
		require.Equal(t, as.ok, err == nil, "the grammar and the code differ on %q: %v", path, err)
		_, err = m.client.Bind(op, vaultx.BindOptions{}).Do(context.Background(), vaultx.Request{Query: url.Values{"version": {"1"}}})
		uris, _ := m.seen()
		if !as.ok {
			require.Error(t, err, "an operation that was refused can be done")
			require.Empty(t, uris)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []string{as.want + "?version=1"}, uris)
	}
	if isPath(path) {
		m.route(t, path)
	}
	return isPath(path)
}

// route asks the mux for a path as it stands, and with every byte escaped: it
// means the same, and is not redirected.
func (m *mirror) route(t *testing.T, path string) {
	t.Helper()
	var escaped strings.Builder
	for i := range len(path) {
		const digits = "0123456789abcdef"
		escaped.Write([]byte{'%', digits[path[i]>>4], digits[path[i]&15]})
	}
	for _, target := range []string{path, escaped.String()} {
		w := httptest.NewRecorder()
		m.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/secrets/"+target, nil))
		require.Equal(t, http.StatusOK, w.Code, "ServeMux redirects a path that the grammar accepts")
		_, rest := m.seen()
		require.Equal(t, []string{path}, rest)
	}
}

func TestDifferential(t *testing.T) {
	m := newMirror(t)
	accepted := 0
	for _, c := range corpus {
		require.Equal(t, c.outcome, m.check(t, prefix, c.path), "row %d %.40q", c.row, c.path)
		if c.outcome == isolated {
			accepted++
		}
	}
	require.Positive(t, accepted)
}

// A path that the grammar accepts reaches Vault byte for byte through the real
// stock client, which joins paths, below the prefix of whichever subject calls,
// and means the same to our own router.
func FuzzDifferential(f *testing.F) {
	for i, c := range corpus {
		if len(c.path) <= 4096 {
			f.Add([]string{"dev-bot", "../admin", "Dev ", "a/b", "\xff", "..", "user@example.org", "é"}[i%8], c.path)
		}
	}
	m := newMirror(f)
	f.Fuzz(func(t *testing.T, subject, path string) {
		slug, err := auth.Slug(subject)
		if err != nil {
			slug = "dev-bot"
		}
		m.check(t, "mcp/"+slug, path)
		// What the mutator finds is mostly refused, so what it found is also made
		// acceptable by dropping what the grammar does not have.
		m.check(t, "mcp/"+slug, strings.Map(func(r rune) rune {
			if r < 0x80 && strings.ContainsRune("abcXYZ019._@=-/", r) {
				return r
			}
			return -1
		}, path))
	})
}
