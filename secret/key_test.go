package secret_test

import (
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/secret"
)

// keyVar makes the test binary a process that wants the key in a file.
const keyVar = "VAULT_MCP_SECRET_TEST_KEY"

func TestMain(m *testing.M) {
	path := os.Getenv(keyVar)
	if path == "" {
		os.Exit(m.Run())
	}
	key, err := secret.LoadOrCreateKey(path)
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(hex.EncodeToString(key))
}

func TestKeyIsMadeOnceAndPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "deep", "audit.key")
	_, err := secret.LoadKey(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = os.Stat(filepath.Dir(path))
	require.ErrorIs(t, err, fs.ErrNotExist, "looking makes nothing")

	key, err := secret.LoadOrCreateKey(path)
	require.NoError(t, err)
	require.Len(t, key, secret.KeySize)
	again, err := secret.LoadOrCreateKey(path)
	require.NoError(t, err)
	require.Equal(t, key, again)
	read, err := secret.LoadKey(path)
	require.NoError(t, err)
	require.Equal(t, key, read)

	for name, mode := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
	other, err := secret.LoadOrCreateKey(path + "2")
	require.NoError(t, err)
	require.NotEqual(t, key, other)
	requireOnly(t, path, path+"2")
}

// requireOnly wants nothing else in the folder: no half-made key stays behind.
func requireOnly(t *testing.T, paths ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(paths[0]))
	require.NoError(t, err)
	require.Len(t, entries, len(paths))
}

func TestManyMakeOneKey(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "state", "seal.key")
		keys := make([]string, 64)
		errs := make([]error, len(keys))
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() {
				<-begin
				var key []byte
				key, errs[i] = secret.LoadOrCreateKey(path)
				keys[i] = string(key)
			})
		}
		close(begin)
		wg.Wait()
		for i := range keys {
			require.NoError(t, errs[i])
			require.Equal(t, keys[0], keys[i])
		}
		requireOnly(t, path)
	}
}

func TestManyProcessesMakeOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "seal.key")
	keys := make([]string, 8)
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), keyVar+"="+path)
			var out []byte
			out, errs[i] = cmd.Output()
			keys[i] = string(out)
		})
	}
	wg.Wait()
	for i := range keys {
		require.NoError(t, errs[i])
		require.Len(t, keys[i], 2*secret.KeySize)
		require.Equal(t, keys[0], keys[i])
	}
	requireOnly(t, path)
}

func TestFilesThatHoldNoKey(t *testing.T) {
	good := strings.Repeat("5a", secret.KeySize)
	for what, c := range map[string]struct {
		text string
		mode fs.FileMode
		ok   bool
	}{
		"as it is written":   {good + "\n", 0o600, true},
		"without a line end": {good, 0o600, true},
		"read-only":          {good, 0o400, true},
		"Windows line end":   {good + "\r\n", 0o600, true},
		"open to the group":  {good, 0o640, false},
		"open to all":        {good, 0o604, false},
		"writable by all":    {good, 0o602, false},
		"empty":              {"", 0o600, false},
		"too short":          {good[2:], 0o600, false},
		"too long":           {good + "5a", 0o600, false},
		"much too long":      {good + "\n\n" + good, 0o600, false},
		"more after it":      {good + "\n" + "5a", 0o600, false},
		"not hexadecimal":    {strings.Repeat("zz", secret.KeySize), 0o600, false},
	} {
		path := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		require.NoError(t, os.Chmod(path, c.mode))
		for _, load := range []func(string) ([]byte, error){secret.LoadKey, secret.LoadOrCreateKey} {
			key, err := load(path)
			if c.ok {
				require.NoError(t, err, what)
				require.Equal(t, good, hex.EncodeToString(key), what)
				continue
			}
			require.Error(t, err, what)
			require.Empty(t, key, what)
			require.NotContains(t, err.Error(), "5a5a", what)
			require.NotContains(t, err.Error(), "zz", what)
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, c.text, string(b), "it is left as it is")
	}
}

func TestKeyGivenAsASetting(t *testing.T) {
	good := strings.Repeat("0f", secret.KeySize)
	for _, s := range []string{good, strings.ToUpper(good), " " + good + "\n"} {
		key, err := secret.ParseKey(secret.NewText(s))
		require.NoError(t, err)
		require.Equal(t, good, hex.EncodeToString(key))
	}
	for _, s := range []string{"", good[1:], good + "00", strings.Repeat("xy", 32)} {
		_, err := secret.ParseKey(secret.NewText(s))
		require.EqualError(t, err, "want 64 hexadecimal digits")
	}
	_, err := secret.ParseKey(secret.Text{})
	require.Error(t, err)
}

// The folder for a key may have to be made with those above it; a file in the
// way is an error that says so.
func TestMakeFolder(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "c")
	for range 2 {
		require.NoError(t, secret.MakeFolder(deep))
	}
	for dir := deep; dir != root; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, fs.ModeDir|0o700, info.Mode())
	}
	file := filepath.Join(root, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, secret.MakeFolder(filepath.Join(file, "x")))
	require.Error(t, secret.MakeFolder(file))
	t.Chdir(root)
	require.NoError(t, secret.MakeFolder("relative/folder"))
	require.DirExists(t, filepath.Join(root, "relative", "folder"))
}
