package devstack_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
)

// freshPostgres starts a PostgreSQL that ends with the test.
func freshPostgres(t *testing.T) *devstack.Postgres {
	t.Helper()
	bins, err := devstack.FindPostgres()
	if err != nil {
		devstacktest.Cannot(t, "%v", err)
	}
	p, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{Bins: bins})
	require.NoError(t, err)
	t.Cleanup(p.Stop)
	return p
}

// sharedTemp makes a folder for temporary files that every user can enter; those of
// tests are of one user alone.
func sharedTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vault-mcp-test-") //nolint:usetesting // the reason stands above
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func TestPostgres(t *testing.T) {
	p := freshPostgres(t)
	ctx := t.Context()
	rows, err := p.Exec(ctx, "SELECT item, quantity FROM "+devstack.DemoTable+" ORDER BY id")
	require.NoError(t, err)
	require.Equal(t, "bolt|120\nnut|340\nwasher|75", rows)
	_, err = p.Exec(ctx, "SELECT 1; SELECT nonsense")
	require.ErrorContains(t, err, `column "nonsense" does not exist`)

	c, err := pgx.Connect(ctx, p.DSN(p.User, p.Password).Reveal())
	require.NoError(t, err)
	require.NoError(t, c.Close(ctx))
	_, err = pgx.Connect(ctx, p.DSN(p.User, secret.NewText("wrong")).Reveal())
	require.ErrorContains(t, err, "password authentication failed")
	require.NotContains(t, p.Log(), p.Password.Reveal())
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Pid()), "cmdline"))
	if err == nil {
		require.NotContains(t, string(line), p.Password.Reveal(), "the password is on the command line")
	}
}

func TestPostgresGoesDownAndComesBack(t *testing.T) {
	p := freshPostgres(t)
	ctx := t.Context()
	_, err := p.Exec(ctx, "INSERT INTO "+devstack.DemoTable+" (item, quantity) VALUES ('pin', 9)")
	require.NoError(t, err)
	pid, port := p.Pid(), p.Port
	p.Kill()
	require.True(t, gone(pid))
	_, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	require.ErrorContains(t, err, "refused")

	for range 2 { // Restart itself ends a server that runs
		require.NoError(t, p.Restart(ctx))
		require.Equal(t, port, p.Port)
		rows, err := p.Exec(ctx, "SELECT quantity FROM "+devstack.DemoTable+" WHERE item = 'pin'")
		require.NoError(t, err)
		require.Equal(t, "9", rows)
	}
	pid = p.Pid()
	p.Stop()
	require.True(t, gone(pid))
	p.Stop()
	require.ErrorContains(t, p.Restart(ctx), "stopped for good")
}

// The folder of the cluster is nobody else's, and gone when it ends.
func TestPostgresLeavesNothing(t *testing.T) {
	tmp := sharedTemp(t)
	t.Setenv("TMPDIR", tmp)
	p := freshPostgres(t)
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Len(t, left, 1)
	info, err := left[0].Info()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.NoFileExists(t, filepath.Join(tmp, left[0].Name(), "password"))
	p.Stop()
	left, err = os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left, "files were left behind")
}

// Root's own temporary files are no place for a server of another user.
func TestPostgresWhereOnlyRootMayBe(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p := freshPostgres(t)
	rows, err := p.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)
	require.Equal(t, "1", rows)
}

func TestPostgresSaysWhyItFailed(t *testing.T) {
	bins := sharedTemp(t)
	initdb := filepath.Join(bins, "initdb")
	require.NoError(t, os.WriteFile(initdb, []byte("#!/bin/sh\necho no such luck; exit 3\n"), 0o755))
	_, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{Bins: bins})
	require.ErrorContains(t, err, "initdb failed; its last words:\nno such luck")
}

func TestPostgresOwnerKilled(t *testing.T) {
	if _, err := devstack.FindPostgres(); err != nil {
		devstacktest.Cannot(t, "%v", err)
	}
	ownerKilled(t, "postgres", sharedTemp(t), "")
}

func TestKMSGoesDownAndComesBack(t *testing.T) {
	k, err := devstack.StartKMS(t.Context(), devstack.KMSOptions{})
	require.NoError(t, err)
	defer k.Stop()
	pid, body := k.Pid(), map[string]any{"KeyId": devstack.AliasECC}
	var before, after struct{ PublicKey []byte }
	require.NoError(t, k.Request(t.Context(), "GetPublicKey", body, &before))
	k.Kill()
	require.True(t, gone(pid))
	require.True(t, closed(k.Endpoint))
	require.NoError(t, k.Restart(t.Context()))
	require.NoError(t, k.Request(t.Context(), "GetPublicKey", body, &after))
	require.NotEmpty(t, after.PublicKey)
	require.Equal(t, before, after)
	k.Stop()
	require.True(t, closed(k.Endpoint))
	require.ErrorContains(t, k.Restart(t.Context()), "stopped for good")
}
