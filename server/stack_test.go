package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/server"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(subscriberEnv); addr != "" {
		if err := followAsMany(addr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must happen. It is long because
// the machine may be busy; nothing passes by waiting.
const patience = 20 * time.Second

// fakeVault answers as Vault does to the KV tools, at once; but a path that
// holds "slow" is answered only after release, or when its caller is gone.
type fakeVault struct {
	*httptest.Server
	asked   chan string   // each request to a slow path, as "METHOD path"
	gone    chan string   // each of them whose context ended
	release chan struct{} // closed to let them go
	once    sync.Once

	mu    sync.Mutex
	count int
}

func newFakeVault(t testing.TB) *fakeVault {
	t.Helper()
	v := &fakeVault{
		asked: make(chan string, 1000), gone: make(chan string, 1000), release: make(chan struct{}),
	}
	v.Server = httptest.NewServer(v)
	t.Cleanup(func() { v.let(); v.Close() })
	return v
}

func (v *fakeVault) let() { v.once.Do(func() { close(v.release) }) }

// requests is how many requests arrived.
func (v *fakeVault) requests() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count
}

func (v *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	v.count++
	v.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	if strings.Contains(r.URL.Path, "slow") {
		v.asked <- r.Method + " " + r.URL.Path
		select {
		case <-v.release:
		case <-r.Context().Done():
			v.gone <- r.Method + " " + r.URL.Path
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "large"):
		fmt.Fprintf(w, `{"request_id":"r","data":{"data":{"v":"%s"},"metadata":{"version":1,"created_time":"2026-01-02T03:04:05Z","deletion_time":"","destroyed":false,"custom_metadata":null}}}`,
			strings.Repeat("x", 1<<20))
	case r.Method == http.MethodGet:
		_, _ = io.WriteString(w, `{"request_id":"r","data":{"data":{"k":"`+marked+`"},"metadata":{"version":1,"created_time":"2026-01-02T03:04:05Z","deletion_time":"","destroyed":false,"custom_metadata":null}}}`)
	case r.Method == "LIST":
		_, _ = io.WriteString(w, `{"request_id":"r","data":{"keys":["a"]}}`)
	default:
		_, _ = io.WriteString(w, `{"request_id":"r","data":{"version":1,"created_time":"2026-01-02T03:04:05Z","deletion_time":"","destroyed":false,"custom_metadata":null}}`)
	}
}

// marked is the secret that the fake Vault holds.
const marked = "canary-secret-4711"

// Keys of the test's principals.
const (
	aliceKey  = "alice-1" // all scopes
	alice2Key = "alice-2" // the same principal
	bobKey    = "bob-1"   // may read and list
)

func principal(slug, credential string, scopes auth.Scopes) *auth.Principal {
	return &auth.Principal{
		Subject: slug, Slug: slug, Prefix: "mcp/" + slug, Method: auth.MethodAPIKey,
		CredentialID: credential, Scopes: scopes,
	}
}

// keyring is the test's Authenticate: what a key gives may change while the
// server runs.
type keyring struct {
	mu   sync.Mutex
	keys map[string]*auth.Principal
}

func newKeyring() *keyring {
	return &keyring{keys: map[string]*auth.Principal{
		aliceKey:  principal("alice", "cred-1", auth.AllScopes()),
		alice2Key: principal("alice", "cred-2", auth.AllScopes()),
		bobKey:    principal("bob", "cred-3", auth.Scopes{"kv:read", auth.List}),
	}}
}

func (k *keyring) set(key string, p *auth.Principal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[key] = p
}

func (k *keyring) authenticate(_ context.Context, p auth.Presented) (*auth.Principal, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	given := p.Header.Get("X-Api-Key")
	switch {
	case given == "panic":
		panic("panic with " + marked)
	case given == "":
		return nil, fault.New(fault.Unauthenticated, "no credential was given")
	case k.keys[given] == nil:
		return nil, fault.New(fault.Unauthenticated, "the API key is not known")
	}
	return k.keys[given], nil
}

// stack is a real server, pipeline and trail before a fake Vault.
type stack struct {
	*server.Server
	vault *fakeVault
	keys  *keyring
	trail *audit.Trail
	logs  *observer.ObservedLogs
	http  *http.Client
	url   string // set by listen
	addr  string
	opt   server.Options

	stop    context.CancelFunc // begins the drain
	stopped chan error         // what ListenAndServe returned
}

type change func(*server.Options, *tools.Options)

func newStack(t testing.TB, changes ...change) *stack {
	t.Helper()
	others := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, others) })
	core, logs := observer.New(zap.DebugLevel)
	s := &stack{vault: newFakeVault(t), keys: newKeyring(), logs: logs}
	trail, err := audit.Open(audit.Options{Dir: t.TempDir(), Key: bytes.Repeat([]byte{7}, secret.KeySize)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	s.trail = trail
	vault, err := vaultx.New(vaultx.Config{
		Address: s.vault.URL, Token: secret.NewText("root"), Mounts: vaultx.Mounts{KV: "secret", Transit: "transit"},
	})
	require.NoError(t, err)
	t.Cleanup(vault.Close)
	log := zap.New(core)
	opt := server.Options{Log: log, Version: "test", Authenticate: s.keys.authenticate}
	var topt tools.Options
	for _, change := range changes {
		change(&opt, &topt)
	}
	sealer, err := auth.NewSealer(make([]byte, secret.KeySize))
	require.NoError(t, err)
	opt.Runner, err = tools.NewRunner(tools.NewCatalog(), vault, trail, auth.NewLimiter(), sealer, opt.Log, topt)
	require.NoError(t, err)
	s.opt = opt
	s.Server, err = server.New(opt)
	require.NoError(t, err)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	s.http = &http.Client{Transport: transport, Timeout: 2 * patience}
	t.Cleanup(transport.CloseIdleConnections)
	return s
}

// listen serves HTTP until the test ends, and then wants it to end well.
func listen(t testing.TB, changes ...change) *stack {
	t.Helper()
	s := newStack(t, changes...)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = ln.Addr().String()
	s.url = "http://" + s.addr
	if s.opt.TLS != nil {
		s.url = "https://" + s.addr
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.stopped = cancel, make(chan error, 1)
	go func() { s.stopped <- s.ListenAndServe(ctx, ln) }()
	t.Cleanup(func() {
		s.vault.let()
		cancel()
		if err, ok := <-s.stopped; ok {
			require.NoError(t, err)
		}
	})
	return s
}

// waitStopped begins the drain and returns what ListenAndServe did.
func (s *stack) waitStopped(t testing.TB) error {
	t.Helper()
	s.stop()
	select {
	case err := <-s.stopped:
		close(s.stopped)
		return err
	case <-time.After(patience):
		t.Fatal("the server does not stop")
		return nil
	}
}

// records are the trail's, of one kind.
func (s *stack) records(t testing.TB, kind audit.Kind) []audit.Record {
	t.Helper()
	data, err := os.ReadFile(s.trail.Path())
	require.NoError(t, err)
	require.NotContains(t, string(data), marked)
	var found []audit.Record
	for line := range bytes.Lines(data) {
		r, err := audit.Parse(line)
		require.NoError(t, err)
		if r.Kind == kind {
			found = append(found, r)
		}
	}
	return found
}

// rejected wants exactly one rejection on the trail since the last look at it,
// and returns it.
func (s *stack) rejected(t testing.TB, before int) audit.Record {
	t.Helper()
	all := s.records(t, audit.Reject)
	require.Len(t, all, before+1, "records of rejections")
	return all[before]
}

// unheard wants a text to stand nowhere: not in the trail and not in the logs.
func (s *stack) unheard(t testing.TB, text string) {
	t.Helper()
	data, err := os.ReadFile(s.trail.Path())
	require.NoError(t, err)
	require.NotContains(t, string(data), text, "in the trail")
	for _, entry := range s.logs.All() {
		require.NotContains(t, fmt.Sprint(entry.Message, entry.ContextMap()), text, "in the logs")
	}
}

// dial opens a raw connection that ends with the test.
func (s *stack) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn.(*net.TCPConn)
}

// eventually waits for a condition that something else brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// receive waits for a channel.
func receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("still not: %s", what)
		panic("unreachable")
	}
}
