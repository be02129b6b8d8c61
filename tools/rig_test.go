package tools_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// rig is a runner with everything real around it. Vault is a server of the
// test's choice.
type rig struct {
	t      testing.TB
	runner *tools.Runner
	trail  *audit.Trail
	log    *lockedBuffer
	vault  *vaultx.Client
}

type rigOptions struct {
	catalog *tools.Catalog // default: the whole one
	addr    string         // of Vault
	token   secret.Text
	kms     string // address of AWS KMS
	noKMS   bool   // it is not enabled

	children vaultx.ChildOptions // on with a folder
	now      func() time.Time
	tools.Options
}

// sealKey is the key of every test's handles.
var sealKey = bytes.Repeat([]byte{9}, secret.KeySize)

// auditKey is the key of every test's trail.
var auditKey = bytes.Repeat([]byte{7}, secret.KeySize)

func newRig(t testing.TB, opt rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, log: &lockedBuffer{}}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	trail, err := audit.Open(audit.Options{Path: filepath.Join(dir, "trail.jsonl"), Key: auditKey})
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	if opt.catalog == nil {
		opt.catalog = tools.NewCatalog()
	}
	if opt.addr == "" {
		opt.addr = "http://127.0.0.1:1" // nobody listens
	}
	if opt.token.IsZero() {
		opt.token = secret.NewText("test-token")
	}
	vault, err := vaultx.New(vaultx.Config{
		Address: opt.addr, Token: opt.token,
		Mounts: vaultx.Mounts{KV: "secret", Transit: "transit", Database: "database", SSH: "ssh"},
	})
	require.NoError(t, err)
	t.Cleanup(vault.Close)
	if opt.children.Folder != "" {
		require.NoError(t, vault.StartChildren(opt.children))
	}
	r.vault = vault
	sealer, err := auth.NewSealer(sealKey)
	require.NoError(t, err)
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), r.log, zap.DebugLevel))
	opt.Now = opt.now
	if !opt.noKMS {
		opt.KMS = newKMS(t, opt.kms)
	}
	r.trail = trail
	r.runner, err = tools.NewRunner(opt.catalog, vault, trail, auth.NewLimiter(), sealer, log, opt.Options)
	require.NoError(t, err)
	return r
}

// newKMS is a client of AWS KMS.
func newKMS(t testing.TB, endpoint string) *kmsx.Client {
	t.Helper()
	if endpoint == "" {
		endpoint = "http://127.0.0.1:1" // nobody listens
	}
	c, err := kmsx.New(t.Context(), kmsx.Config{
		Region: "eu-west-2", Endpoint: endpoint, AccessKeyID: "AKIDTEST", SecretAccessKey: secret.NewText("test-secret"),
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// run makes one call and holds its error to what every error must be.
func (r *rig) run(p *auth.Principal, tool, args string) (tools.Result, *fault.Error) {
	r.t.Helper()
	return r.call(r.t, tools.Call{Tool: tool, Principal: p, Args: json.RawMessage(args), Transport: "test", Remote: "192.0.2.1"})
}

// records are the trail's records of calls, oldest first.
func (r *rig) records() []audit.Record {
	r.t.Helper()
	raw, err := os.ReadFile(r.trail.Path())
	require.NoError(r.t, err)
	var records []audit.Record
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		rec, err := audit.Parse(lines.Bytes())
		require.NoError(r.t, err)
		switch rec.Kind {
		case audit.Attempt, audit.Outcome, audit.Reject:
			records = append(records, rec)
		default: // the trail's own
		}
	}
	return records
}

// everywhere is all that the rig has written down.
func (r *rig) everywhere() string {
	raw, err := os.ReadFile(r.trail.Path())
	require.NoError(r.t, err)
	return string(raw) + r.log.String()
}

// hash is the keyed hash of a value as it stands in records.
func hash(t testing.TB, value string) string {
	t.Helper()
	h, err := audit.HMAC(auditKey, []byte(value))
	require.NoError(t, err)
	return h
}

// principal is one who may do everything below mcp/<slug>.
func principal(slug string) *auth.Principal {
	return &auth.Principal{
		Subject: slug, Slug: slug, Method: auth.MethodAPIKey, CredentialID: "key-" + slug,
		Scopes: auth.AllScopes(), Prefix: "mcp/" + slug,
		Grants: auth.Grants{
			"probe": {slug, slug + "--*"}, "transit": {slug, slug + "--*"}, "database": {slug, slug + "--*"}, "ssh": {slug, slug + "--*"},
			"kms": {"alias/" + slug, "alias/" + slug + "--*"},
		},
	}
}

func with(p *auth.Principal, change func(*auth.Principal)) *auth.Principal {
	c := *p
	change(&c)
	return &c
}

// kinds lists kinds and outcomes of records, such as "attempt", "outcome ok".
func kinds(records []audit.Record) []string {
	var out []string
	for _, rec := range records {
		out = append(out, strings.TrimSpace(string(rec.Kind)+" "+rec.Outcome))
	}
	return out
}

// fakeVault answers every request with one function, and counts them. It
// stands in where no real server can be made to do what is wanted.
type fakeVault struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
}

func newFakeVault(t testing.TB, answer http.HandlerFunc) *fakeVault {
	t.Helper()
	f := &fakeVault{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.EscapedPath())
		f.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeVault) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

// answerJSON is a handler that says one thing.
func answerJSON(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}

// lockedBuffer is a log's output.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Sync() error { return nil }

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (r *rig) call(t testing.TB, c tools.Call) (tools.Result, *fault.Error) {
	t.Helper()
	return r.callContext(t, t.Context(), c)
}

func (r *rig) callContext(t testing.TB, ctx context.Context, c tools.Call) (tools.Result, *fault.Error) { //nolint:revive // the order of testing helpers
	t.Helper()
	res, err := r.runner.Run(ctx, c)
	require.NotEmpty(t, res.RequestID)
	if err == nil {
		require.NotEmpty(t, res.JSON)
		return res, nil
	}
	f, ok := err.(*fault.Error) //nolint:errorlint // nothing may be wrapped around it
	require.True(t, ok)
	require.Contains(t, fault.Kinds(), f.Kind)
	require.NotEmpty(t, f.Msg)
	require.Nil(t, res.JSON, "an error with a result")
	return res, f
}

func nopLog() *zap.Logger { return zap.NewNop() }
