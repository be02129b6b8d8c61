package devstacktest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Rec is a proxy in front of a Vault that records what reaches it.
type Rec struct {
	URL string // for VAULT_ADDR

	mu       sync.Mutex
	seen     []string
	wanted   []string
	carrying []string
}

// Recorder starts a proxy to target, an http:// address, which ends with the
// test. It passes method, path and query through byte for byte, as they stood
// in the request line. A target that cannot be reached is answered 502.
func Recorder(tb testing.TB, target string) *Rec {
	tb.Helper()
	to, err := url.Parse(target)
	require.NoError(tb, err)
	require.Equal(tb, "http", to.Scheme, "the recorder speaks to its target without TLS")
	rec := &Rec{}
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // a target that was killed is no news
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL = through(to, r.In.RequestURI)
			r.Out.Host = r.In.Host
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec.mu.Lock()
		rec.seen = append(rec.seen, r.Method+" "+r.RequestURI)
		wanted := rec.wanted
		rec.mu.Unlock()
		if len(wanted) > 0 {
			rec.look(r, wanted)
		}
		proxy.ServeHTTP(w, r)
	}))
	tb.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	rec.URL = server.URL
	return rec
}

// through is the URL that makes the client write the same request line again:
// an opaque one is not parsed, cleaned or escaped anew.
func through(to *url.URL, requestURI string) *url.URL {
	path, query, asked := strings.Cut(requestURI, "?")
	if strings.HasPrefix(path, "//") {
		// net/http takes this for a host, and writes "http:" before it; with the
		// host before it, the server sees the same path.
		path = "//" + to.Host + path
	}
	return &url.URL{Scheme: to.Scheme, Host: to.Host, Opaque: path, RawQuery: query, ForceQuery: asked && query == ""}
}

// LookFor has every request from now on searched for texts: in its line, in its
// headers, and in its body.
func (r *Rec) LookFor(texts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = texts
}

// Carrying returns the requests that held one of the texts, as Requests does.
func (r *Rec) Carrying() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.carrying)
}

// look searches a request, whose body it reads and puts back.
func (r *Rec) look(req *http.Request, wanted []string) {
	whole, err := httputil.DumpRequest(req, true)
	for _, text := range wanted {
		if err == nil && !strings.Contains(string(whole), text) {
			continue
		}
		r.mu.Lock()
		r.carrying = append(r.carrying, req.Method+" "+req.RequestURI)
		r.mu.Unlock()
		return
	}
}

// Requests returns what was seen since the start or the last Reset, in order:
// "METHOD /escaped/path?query" for each request.
func (r *Rec) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// Reset forgets what was seen, and goes on looking for what it looks for.
func (r *Rec) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen, r.carrying = nil, nil
}
