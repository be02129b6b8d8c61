package devstack_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
)

// status is the HTTP status that an error of Request carries.
func status(t *testing.T, err error) int {
	t.Helper()
	var failed *devstack.StatusError
	require.ErrorAs(t, err, &failed)
	return failed.Status
}

func TestDevVault(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("VAULT_LOG_LEVEL", "trace") // must not reach the server
	v := devstacktest.Fresh(t, devstacktest.Options{})
	ctx := t.Context()

	path := "mcp/dev/app @=x/ü%2F" // plain, so the escape is part of the name
	want := map[string]any{"a": "b", "n": 1.5, "deep": map[string]any{"l": []any{true, nil}}}
	require.NoError(t, v.PutSecret(ctx, path, want))
	got, err := v.GetSecret(ctx, path)
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = v.GetSecret(ctx, "mcp/dev/none")
	require.Equal(t, http.StatusNotFound, status(t, err))

	require.Regexp(t, `^\d+\.\d+\.\d+`, v.Version)
	require.Contains(t, v.Addr, "http://127.0.0.1:")
	require.Len(t, v.RootToken.Reveal(), 64)

	eventually(t, func() bool { return strings.Contains(v.Log(), "Root Token: "+secret.Redacted) }, "the server prints its token")
	require.NotContains(t, v.Log(), v.RootToken.Reveal())
	require.Contains(t, v.Log(), "Unseal Key: "+secret.Redacted)
	require.NotContains(t, v.Log(), "[TRACE]")

	if line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(v.Pid()), "cmdline")); err == nil {
		require.NotContains(t, string(line), v.RootToken.Reveal(), "the token is on the command line")
		require.Contains(t, string(line), "-dev-no-store-token")
	}
	left, err := os.ReadDir(home)
	require.NoError(t, err)
	require.Empty(t, left, "the server wrote into the user's home")
}

func TestStop(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	v := devstacktest.Fresh(t, devstacktest.Options{})
	pid, done := v.Pid(), v.Done()
	select {
	case <-done:
		require.Fail(t, "it is done before it was stopped")
	default:
	}
	v.Stop()
	<-done
	require.True(t, gone(pid))
	require.True(t, closed(v.Addr))
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left, "files were left behind")
	v.Stop()
	require.ErrorContains(t, v.Restart(t.Context()), "stopped for good")
}

func TestRestartInDevModeLosesEverything(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	ctx := t.Context()
	require.NoError(t, v.PutSecret(ctx, "a", map[string]any{"k": "v"}))
	addr, token, pid := v.Addr, v.RootToken, v.Pid()
	v.Kill()
	require.True(t, gone(pid))
	require.True(t, closed(addr))
	require.Error(t, v.PutSecret(ctx, "a", map[string]any{"k": "v"}))

	require.NoError(t, v.Restart(ctx))
	require.Equal(t, addr, v.Addr)
	require.NotEqual(t, pid, v.Pid())
	require.NotEqual(t, token.Reveal(), v.RootToken.Reveal())
	_, err := v.GetSecret(ctx, "a")
	require.Equal(t, http.StatusNotFound, status(t, err))
	v.RootToken = token
	_, err = v.GetSecret(ctx, "a")
	require.Equal(t, http.StatusForbidden, status(t, err), "the old token still works")
}

func TestFileKeepsEverything(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{File: true})
	ctx := t.Context()
	addr, token := v.Addr, v.RootToken.Reveal()
	for i, end := range []func(){v.Kill, func() {}} { // Restart itself ends a server that runs
		want := map[string]any{"round": float64(i)}
		require.NoError(t, v.PutSecret(ctx, "a", want))
		pid := v.Pid()
		end()
		require.NoError(t, v.Restart(ctx))
		require.True(t, gone(pid))
		require.Equal(t, addr, v.Addr)
		require.Equal(t, token, v.RootToken.Reveal())
		got, err := v.GetSecret(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestSealAndUnseal(t *testing.T) {
	for name, opt := range map[string]devstacktest.Options{"dev": {}, "file": {File: true}} {
		t.Run(name, func(t *testing.T) {
			v := devstacktest.Fresh(t, opt)
			ctx := t.Context()
			want := map[string]any{"k": "v"}
			require.NoError(t, v.PutSecret(ctx, "a", want))
			if !opt.File {
				eventually(t, func() bool { return strings.Contains(v.Log(), "Unseal Key: ") }, "the server prints its key")
			}
			require.NoError(t, v.Seal(ctx))
			_, err := v.GetSecret(ctx, "a")
			require.Equal(t, http.StatusServiceUnavailable, status(t, err))
			require.NoError(t, v.Unseal(ctx))
			got, err := v.GetSecret(ctx, "a")
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestTLS(t *testing.T) {
	for name, required := range map[string]bool{"client certificate required": true, "optional": false} {
		t.Run(name, func(t *testing.T) {
			v := devstacktest.Fresh(t, devstacktest.Options{TLS: true, RequireClientCert: required})
			require.Contains(t, v.Addr, "https://127.0.0.1:")
			require.NoError(t, v.PutSecret(t.Context(), "a", map[string]any{"k": "v"}))
			require.NoError(t, v.Restart(t.Context()))

			pem, err := os.ReadFile(v.CACert)
			require.NoError(t, err)
			roots := x509.NewCertPool()
			require.True(t, roots.AppendCertsFromPEM(pem))
			pair, err := tls.LoadX509KeyPair(v.ClientCert, v.ClientKey)
			require.NoError(t, err)

			get := func(c *tls.Config) error {
				transport := &http.Transport{TLSClientConfig: c}
				defer transport.CloseIdleConnections()
				client := &http.Client{Transport: transport}
				resp, err := client.Get(v.Addr + "/v1/sys/health")
				if err == nil {
					_ = resp.Body.Close()
				}
				return err
			}
			require.NoError(t, get(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}))
			require.ErrorContains(t, get(&tls.Config{Certificates: []tls.Certificate{pair}}), "certificate")
			if required {
				require.ErrorContains(t, get(&tls.Config{RootCAs: roots}), "certificate")
			} else {
				require.NoError(t, get(&tls.Config{RootCAs: roots}))
			}
		})
	}
}

func TestCreateToken(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	ctx := t.Context()
	require.NoError(t, v.PutSecret(ctx, "mine/a", map[string]any{"k": "v"}))
	require.NoError(t, v.PutSecret(ctx, "other/a", map[string]any{"k": "v"}))
	root := v.RootToken
	as := func(token secret.Text, path string) error {
		v.RootToken = token
		defer func() { v.RootToken = root }()
		return v.Request(ctx, http.MethodGet, path, nil, nil)
	}
	token, err := v.CreateToken(ctx, `path "secret/data/mine/*" { capabilities = ["read"] }`)
	require.NoError(t, err)
	require.NoError(t, as(token, "secret/data/mine/a"))
	require.Equal(t, http.StatusForbidden, status(t, as(token, "secret/data/other/a")))
	require.Equal(t, http.StatusForbidden, status(t, as(token, "auth/token/lookup-self")), "the default policy was added")

	nothing, err := v.CreateToken(ctx, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, status(t, as(nothing, "secret/data/mine/a")), "the creator's policies were inherited")

	_, err = v.CreateToken(ctx, `path "x" {`)
	require.Equal(t, http.StatusBadRequest, status(t, err))
}

func TestManyAtOnce(t *testing.T) {
	const n = 4
	servers := make([]*devstack.Vault, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			servers[i], errs[i] = devstack.Start(t.Context(), devstack.Options{Bin: realVault(t)})
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for i, v := range servers {
		require.NoError(t, errs[i])
		defer v.Stop()
		require.NoError(t, v.PutSecret(t.Context(), "own", map[string]any{"i": strconv.Itoa(i)}))
		seen[v.Addr] = true
	}
	require.Len(t, seen, n)
	for i, v := range servers {
		got, err := v.GetSecret(t.Context(), "own")
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(i), got["i"])
	}
}

// realVault is the Vault that the other tests use.
func realVault(t *testing.T) string {
	t.Helper()
	path, err := devstack.Find(context.Background(), nil)
	require.NoError(t, err)
	return path
}

func TestStack(t *testing.T) {
	s, err := devstack.StartStack(t.Context(), devstack.StackOptions{})
	require.NoError(t, err)
	defer s.Stop()
	for _, name := range []string{"app/config", "app/database"} {
		data, err := s.Vault.GetSecret(t.Context(), devstack.DemoPrefix+"/"+name)
		require.NoError(t, err)
		require.NotEmpty(t, data)
	}
	var names []string
	for _, e := range s.Engines {
		if errors.Is(e.Missing, devstack.ErrNoPostgres) {
			devstacktest.Cannot(t, "%v", e.Missing)
		}
		require.NoError(t, e.Missing, e.Name)
		names = append(names, e.Name)
	}
	require.Equal(t, []string{"transit", "ssh", "database", "kms"}, names)
	require.Equal(t, "ssh: demo-ca, demo-otp", s.Engines[1].String())
	pids := []int{s.Vault.Pid(), s.Postgres.Pid(), s.KMS.Pid()}
	s.Stop()
	for _, pid := range pids {
		require.True(t, gone(pid))
	}
}

// Of what is missing the stack says what to do, and the rest goes on.
func TestStackWithoutTheRest(t *testing.T) {
	bin := realVault(t)
	outside(t)
	t.Setenv("VAULT_BIN", bin)
	t.Setenv("LOCAL_KMS_BIN", "none")
	s, err := devstack.StartStack(t.Context(), devstack.StackOptions{})
	require.NoError(t, err)
	defer s.Stop()
	require.Len(t, s.Engines, 4)
	require.NoError(t, s.Engines[0].Missing)
	require.NoError(t, s.Engines[1].Missing)
	require.Error(t, s.Engines[2].Missing, "a minimal Vault gives out no credentials without the plugin")
	require.Contains(t, s.Engines[3].String(), "MISSING: LOCAL_KMS_BIN: ")
	require.Nil(t, s.KMS)

	alone, err := devstack.StartStack(t.Context(), devstack.StackOptions{VaultOnly: true})
	require.NoError(t, err)
	defer alone.Stop()
	require.Empty(t, alone.Engines)
	require.Nil(t, alone.Postgres)
	require.Error(t, alone.Vault.Request(t.Context(), http.MethodGet, devstack.TransitMount+"/keys/"+devstack.KeyAES, nil, nil))
	data, err := alone.Vault.GetSecret(t.Context(), devstack.DemoPrefix+"/app/config")
	require.NoError(t, err)
	require.NotEmpty(t, data)
}
