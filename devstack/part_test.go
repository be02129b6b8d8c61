package devstack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
)

const (
	kmsModule = "github.com/nsmithuk/local-kms"
	kmsPin    = "v0.0.0-20231025161602-e4d9425700fe"
)

// kmsSource makes the folder a checkout whose local-kms is a program of a few
// lines, as Go itself builds one: what Go writes into it is what it is known by.
func kmsSource(t *testing.T, dir string) {
	t.Helper()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.MkdirAll(program, 0o700))
	files := map[string]string{
		filepath.Join(program, "go.mod"):  "module " + kmsModule + "\n\ngo 1.26\n",
		filepath.Join(program, "main.go"): "package main\n\nfunc main() {}\n",
		filepath.Join(dir, "testdata/devstack/go.mod"): "module vault-mcp/testdata/devstack\n\ngo 1.26\n\nrequire " + kmsModule + " " + kmsPin +
			" // indirect\n\nreplace " + kmsModule + " => ../../program\n\ntool " + kmsModule + "\n",
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "testdata/devstack"), 0o700))
	for path, text := range files {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

// localKMS builds such a program at a place of its own.
func localKMS(t *testing.T, to string) string {
	t.Helper()
	src := t.TempDir()
	kmsSource(t, src)
	cmd := exec.Command("go", "build", "-o", to, ".")
	cmd.Dir = filepath.Join(src, "program")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return to
}

// Each step is found before those above it.
func TestLocalKMSSearchOrder(t *testing.T) {
	onPath := localKMS(t, filepath.Join(t.TempDir(), "local-kms"))
	named := localKMS(t, filepath.Join(t.TempDir(), "mine"))
	goBin, err := exec.LookPath("go")
	require.NoError(t, err)
	cache, err := exec.Command(goBin, "env", "GOCACHE").Output()
	require.NoError(t, err)
	t.Setenv("GOCACHE", strings.TrimSpace(string(cache)))

	dir, path := outside(t)
	t.Setenv("LOCAL_KMS_BIN", "")
	_, err = devstack.FindLocalKMS(t.Context(), nil)
	require.ErrorIs(t, err, devstack.ErrNoLocalKMS)
	kmsSource(t, dir)
	_, err = devstack.FindLocalKMS(t.Context(), nil)
	require.ErrorIs(t, err, devstack.ErrNoLocalKMS)
	require.ErrorContains(t, err, "Go is not on PATH")

	// A Vault on PATH spares nobody the build of another part.
	script(t, filepath.Join(path, "vault"), goodVault)
	require.NoError(t, os.Symlink(goBin, filepath.Join(path, "go")))
	var log said
	for range 2 { // the second time it is there
		got, err := devstack.FindLocalKMS(t.Context(), log.add)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(dir, "bin/devstack/local-kms"), got)
	}
	require.Regexp(t, `^building local-kms into \S+: once, about a minute on two cores\nlocal-kms is built \(\S+\)$`, log.String())

	require.NoError(t, os.Symlink(onPath, filepath.Join(path, "local-kms")))
	got, err := devstack.FindLocalKMS(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(path, "local-kms"), got)
	t.Setenv("LOCAL_KMS_BIN", named)
	got, err = devstack.FindLocalKMS(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, named, got)
}

// What is named must be a local-kms: it may be no program of Go, or another one.
func TestLocalKMSMustBeOne(t *testing.T) {
	outside(t)
	self, err := os.Executable()
	require.NoError(t, err)
	for bin, want := range map[string]string{
		script(t, filepath.Join(t.TempDir(), "local-kms"), "exit 0"): "is not a local-kms",
		self:                               "was built from another package",
		filepath.Join(t.TempDir(), "none"): "no such file",
	} {
		t.Setenv("LOCAL_KMS_BIN", bin)
		_, err := devstack.FindLocalKMS(t.Context(), nil)
		require.ErrorContains(t, err, "LOCAL_KMS_BIN: ")
		require.ErrorContains(t, err, want)
	}
}

// The plugin is of the version of Vault that the checkout pins.
func TestPostgresPluginIsOfThePinnedVault(t *testing.T) {
	plugin, err := devstack.FindPostgresPlugin(t.Context(), nil)
	require.NoError(t, err)
	dir, _ := outside(t)
	_, err = devstack.FindPostgresPlugin(t.Context(), nil)
	require.ErrorIs(t, err, devstack.ErrNoPostgresPlugin)
	placed := filepath.Join(dir, "bin/devstack/postgresql-database-plugin")
	require.NoError(t, os.MkdirAll(filepath.Dir(placed), 0o700))
	require.NoError(t, os.Symlink(plugin, placed))
	source(t, dir, "v1.21.1")
	got, err := devstack.FindPostgresPlugin(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, placed, got)
	source(t, dir, "v1.21.2") // a new pin: it would be built
	_, err = devstack.FindPostgresPlugin(t.Context(), nil)
	require.ErrorContains(t, err, "Go is not on PATH")
}
