//go:build unix

package auth_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
)

// What root changes stays readable for the server, which is another user.
func TestKeyFileKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		devstacktest.Cannot(t, "only root can give files away")
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

// Another user's file is not replaced, and no lock is left there that its user
// could not open.
func TestKeyFileOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		devstacktest.Cannot(t, "only root can become another user")
	}
	_, path := keyFile(t)
	dir := filepath.Dir(path)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.Chmod(dir, 0o777)) // the other user must be able to make files there
	for above := dir; above != os.TempDir(); above = filepath.Dir(above) {
		require.NoError(t, os.Chmod(above, 0o777)) // and to come there
	}
	writeKeys(t, path, `{"version":1,"keys":[]}`)
	require.NoError(t, os.Chown(path, 65533, 65533))
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), creatorEnv+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	text, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(text), "the key file belongs to the user with id 65533; run this as that user")
	require.NoFileExists(t, path+".lock")
}

// Root gives nothing away that somebody has put in the lock's place.
func TestLockThatIsAnothersFile(t *testing.T) {
	f, path := keyFile(t)
	create(t, f, "dev", auth.KeyOptions{})
	require.NoError(t, os.Remove(path+".lock"))
	precious := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	for what, put := range map[string]func() error{
		"a second name": func() error { return os.Link(precious, path+".lock") },
		"a link":        func() error { return os.Symlink(precious, path+".lock") },
		"a FIFO":        func() error { return syscall.Mkfifo(path+".lock", 0o600) },
	} {
		require.NoError(t, put(), what)
		_, _, err := f.Create("dev", auth.KeyOptions{})
		require.ErrorContains(t, err, "the lock of the key file", what)
		require.NoError(t, os.Remove(path+".lock"))
	}
}
