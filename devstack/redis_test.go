package devstack_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

func TestRedisGoesDownAndComesBack(t *testing.T) {
	for _, secure := range []bool{false, true} {
		r := devstacktest.Redis(t, devstack.RedisOptions{TLS: secure})
		pid := r.Pid()
		said, err := r.Command(t.Context(), "SET a b")
		require.NoError(t, err)
		require.Equal(t, "+OK", said)
		if line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil {
			require.NotContains(t, string(line), r.Password.Reveal(), "the password is on the command line")
		}
		r.Kill()
		require.True(t, gone(pid))
		_, err = r.Command(t.Context(), "PING")
		require.ErrorContains(t, err, "refused")

		addr := r.Addr()
		require.NoError(t, r.Restart(t.Context()))
		require.Equal(t, addr, r.Addr())
		said, err = r.Command(t.Context(), "EXISTS a")
		require.NoError(t, err)
		require.Equal(t, ":0", said, "it keeps nothing")
		_, err = r.Command(t.Context(), "NONSENSE")
		require.ErrorContains(t, err, "unknown command")
		pid = r.Pid()
		r.Stop()
		r.Stop()
		require.True(t, gone(pid))
		require.ErrorContains(t, r.Restart(t.Context()), "stopped for good")
	}
}

func TestNoRedis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := devstack.StartRedis(t.Context(), devstack.RedisOptions{})
	require.ErrorIs(t, err, devstack.ErrNoRedis)
}
