// Package devstacktest gives tests real servers.
//
//	func TestMain(m *testing.M) { os.Exit(devstacktest.Main(m)) }
//
//	v := devstacktest.Shared(t)                                          // one for the whole test binary
//	v := devstacktest.Fresh(t, devstacktest.Options{})                   // one for this test
//	v := devstacktest.Fresh(t, devstacktest.Options{File: true})         // one that can be killed and restarted
//	v := devstacktest.Engines(t)                                         // one with all engines mounted and seeded
//	p := devstacktest.Postgres(t)                                        // the PostgreSQL of its database engine
//	k := devstacktest.KMS(t)                                             // a local-kms with demo keys
//	r := devstacktest.Redis(t, devstack.RedisOptions{})                  // a Redis for this test
//	seen := devstacktest.Recorder(t, v.Addr)                             // sees each request that reaches it
//
// Where no Vault is installed, one is built, and so are its plugin for PostgreSQL
// and local-kms: a test is never skipped for want of them. PostgreSQL itself and Redis are
// installed by whoever runs the tests: see Cannot. The build takes longer than `go test` lets a test run, so build first
// where there may be none.
package devstacktest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"vault-mcp/devstack"
)

// Options are those of devstack.
type Options = devstack.Options

// The test binary's own state: which Vault binary, and the shared servers.
var (
	find = sync.OnceValues(func() (string, error) {
		return devstack.Find(context.Background(), say)
	})
	open struct { // Main is there to stop what is shared
		sync.Mutex
		yes bool
	}
	shared   = &once[*devstack.Vault]{start: func(ctx context.Context) (*devstack.Vault, error) { return start(ctx, Options{}) }}
	postgres = &once[*devstack.Postgres]{start: func(ctx context.Context) (*devstack.Postgres, error) {
		return devstack.StartPostgres(ctx, devstack.PostgresOptions{})
	}}
	kms = &once[*devstack.KMS]{start: func(ctx context.Context) (*devstack.KMS, error) {
		return devstack.StartKMS(ctx, devstack.KMSOptions{Log: say})
	}}
	engines = &once[*devstack.Vault]{start: startEngines}
)

// once is a server that starts when it is first asked for.
type once[S interface{ Stop() }] struct {
	sync.Mutex
	start func(context.Context) (S, error)
	asked bool
	s     S
	err   error
}

func (o *once[S]) get(tb testing.TB) (S, error) {
	tb.Helper()
	open.Lock()
	is := open.yes
	open.Unlock()
	require.True(tb, is, "shared servers need `os.Exit(devstacktest.Main(m))` in TestMain, which stops them")
	return o.take()
}

func (o *once[S]) take() (S, error) {
	o.Lock()
	defer o.Unlock()
	if !o.asked {
		o.s, o.err = o.start(context.Background())
		o.asked = true
	}
	return o.s, o.err
}

func (o *once[S]) stop() {
	o.Lock()
	defer o.Unlock()
	if o.asked && o.err == nil {
		o.s.Stop()
	}
}

// Main runs the tests, stops the shared servers and then looks for goroutines
// that were left behind. It returns the exit code.
func Main(m *testing.M, opts ...goleak.Option) int {
	setOpen(true)
	code := m.Run()
	setOpen(false)
	shared.stop()
	engines.stop()
	postgres.stop()
	kms.stop()
	if code != 0 {
		return code
	}
	// The default client's idle connections belong to no test.
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
	if err := goleak.Find(opts...); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines were left behind:", err)
		return 1
	}
	return 0
}

func setOpen(yes bool) {
	open.Lock()
	defer open.Unlock()
	open.yes = yes
}

// Shared returns the Vault that all tests of this binary share, in dev mode.
// Tests use paths and names of their own in it, and do not stop or seal it.
func Shared(tb testing.TB) *devstack.Vault {
	tb.Helper()
	v, err := shared.get(tb)
	require.NoError(tb, err)
	return v
}

// Fresh returns a Vault that ends with the test. Its last words are logged if
// the test fails.
func Fresh(tb testing.TB, opt Options) *devstack.Vault {
	tb.Helper()
	v, err := start(context.Background(), opt)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		if tb.Failed() {
			log := v.Log()
			tb.Logf("Vault at %s said last:\n%s", v.Addr, log[max(0, len(log)-4096):])
		}
		v.Stop()
	})
	return v
}

func start(ctx context.Context, opt Options) (*devstack.Vault, error) {
	if opt.Bin == "" {
		bin, err := find()
		if err != nil {
			return nil, err
		}
		opt.Bin = bin
	}
	if opt.Log == nil {
		opt.Log = say
	}
	return devstack.Start(ctx, opt)
}

// say reports at once, where a test's own log would show only at its end.
func say(line string) { fmt.Fprintln(os.Stderr, "devstack:", line) }

// Cannot ends a test that this machine cannot run: with a failure where CI is
// set, which must run them all, else skipped with the reason.
func Cannot(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
