//go:build unix

package auth_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
)

// What root changes stays readable for the server, which is another user.
func TestKeyFileKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	f, path := keyFile(t)
	owner := func(name string) uint32 {
		info, err := os.Stat(name)
		require.NoError(t, err)
		return info.Sys().(*syscall.Stat_t).Uid
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.Chown(filepath.Dir(path), 65534, 65534))
	_, record := create(t, f, "dev", auth.KeyOptions{})
	require.EqualValues(t, 65534, owner(path), "a new file is of the folder's owner")
	require.EqualValues(t, 65534, owner(path+".lock"))
	require.NoError(t, os.Chown(path, 65533, 65533))
	require.NoError(t, f.Revoke(record.ID))
	require.EqualValues(t, 65533, owner(path))
}
