package vaultx_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

func TestMain(m *testing.M) { os.Exit(devstacktest.Main(m)) }

// The templates that the KV tools use.
var (
	kvData     = vaultx.MustTemplate("{kv}/data/{prefix}/{path...}")
	kvMetadata = vaultx.MustTemplate("{kv}/metadata/{prefix}/{path...}")
	kvDelete   = vaultx.MustTemplate("{kv}/delete/{prefix}/{path...}")
	kvUndelete = vaultx.MustTemplate("{kv}/undelete/{prefix}/{path...}")
	kvDestroy  = vaultx.MustTemplate("{kv}/destroy/{prefix}/{path...}")
)

const prefix = "mcp/dev-bot"

// on resolves a capability on a template for the principal of these tests.
func on(t testing.TB, capability string, tmpl vaultx.Template, path string) vaultx.Operation {
	t.Helper()
	op, err := vaultx.NewOperation(capability, tmpl, map[string]string{"kv": "secret", "prefix": prefix, "path": path})
	require.NoError(t, err)
	return op
}

func connect(t testing.TB, cfg vaultx.Config) *vaultx.Client {
	t.Helper()
	if cfg.Mounts.KV == "" {
		cfg.Mounts.KV = "secret"
	}
	c, err := vaultx.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// realClient is a client of a real Vault with its root token.
func realClient(t testing.TB, v *devstack.Vault) *vaultx.Client {
	t.Helper()
	return connect(t, vaultx.Config{Address: v.Addr, Token: v.RootToken})
}

// fake answers what no real Vault can be made to answer on demand, and counts.
type fake struct {
	*httptest.Server
	requests atomic.Int32
	// A refused call makes the client ask whether its token has ended. The fake
	// says that it has not, and does not count that.
	alive bool
}

func newFake(t testing.TB, answer http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.alive && r.URL.Path == "/v1/auth/token/lookup-self" {
			_, _ = io.WriteString(w, `{"data":{}}`)
			return
		}
		f.requests.Add(1)
		answer(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// client is a client of the fake.
func (f *fake) client(t testing.TB) *vaultx.Client {
	t.Helper()
	return connect(t, vaultx.Config{Address: f.URL, Token: secret.NewText("fake-token")})
}

// write and read are one operation each, bound as the runner does it.
func (f *fake) write(t testing.TB) *vaultx.Bound {
	t.Helper()
	return f.client(t).Bind(on(t, "update", kvData, "app"), vaultx.BindOptions{Owner: prefix})
}

func (f *fake) read(t testing.TB) *vaultx.Bound {
	t.Helper()
	return f.client(t).Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{Owner: prefix, Retryable: true})
}

// requireKind asserts an error's kind and returns the error.
func requireKind(t testing.TB, want fault.Kind, err error) *fault.Error {
	t.Helper()
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, want, f.Kind, "%v, because of: %v", err, f.Err)
	return f
}
