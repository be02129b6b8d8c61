package devstack_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
)

const (
	goodVault = `echo "Vault v1.21.1 (abc), built 2026-01-01"`
	goodBao   = `echo "OpenBao v2.4.0 (abc), built 2026-01-01"`
)

// outside puts the test into an empty folder with an empty PATH.
func outside(t *testing.T) (dir, path string) {
	t.Helper()
	dir, path = t.TempDir(), t.TempDir()
	t.Chdir(dir)
	t.Setenv("PATH", path)
	t.Setenv("VAULT_BIN", "")
	return dir, path
}

// source makes the folder a checkout that pins a version of Vault.
func source(t *testing.T, dir, version string) {
	t.Helper()
	module := filepath.Join(dir, "testdata", "devstack")
	require.NoError(t, os.MkdirAll(module, 0o700))
	text := "module vault-mcp/testdata/devstack\n\nrequire github.com/hashicorp/vault " + version + " // indirect\n"
	require.NoError(t, os.WriteFile(filepath.Join(module, "go.mod"), []byte(text), 0o600))
}

// compiler puts a `go` on PATH that writes a Vault of a version, and leaves its
// arguments and working directory in a file, one line a run.
func compiler(t *testing.T, path, version, first string) (runs string) {
	t.Helper()
	runs = filepath.Join(t.TempDir(), "runs")
	script(t, filepath.Join(path, "go"), fmt.Sprintf(`PATH=/usr/bin:/bin
echo "$(pwd) $*" >> %s
%s
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\necho "Vault v%s"\n' > "$2"
chmod +x "$2"`, runs, first, version))
	return runs
}

// said collects what Find says.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}

// TestVaultIsThere builds a Vault where there is none. Run alone, with -v and a
// long -timeout, it shows the progress and makes all other tests find it.
func TestVaultIsThere(t *testing.T) {
	path, err := devstack.Find(t.Context(), func(line string) { fmt.Println(line) })
	require.NoError(t, err)
	require.FileExists(t, path)
}

func TestSearchOrder(t *testing.T) {
	dir, path := outside(t)
	source(t, dir, "v1.21.1")
	runs := compiler(t, path, "1.21.1", "")
	// From the last resort to the first choice; each wins over those before it.
	for _, step := range []struct {
		name string
		make func() string
	}{
		{"built now", func() string { return filepath.Join(dir, "bin/devstack/vault") }},
		{"bao on PATH", func() string { return script(t, filepath.Join(path, "bao"), goodBao) }},
		{"vault on PATH", func() string { return script(t, filepath.Join(path, "vault"), goodVault) }},
		{"VAULT_BIN", func() string {
			bin := script(t, filepath.Join(t.TempDir(), "mine"), goodVault)
			t.Setenv("VAULT_BIN", bin)
			return bin
		}},
	} {
		want := step.make()
		got, err := devstack.Find(t.Context(), nil)
		require.NoError(t, err, step.name)
		require.Equal(t, want, got, step.name)
	}
	b, err := os.ReadFile(runs)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(b), "\n"), "only the last resort builds")
}

func TestFoundBesideTheProgram(t *testing.T) {
	// A copy of this test binary plays a product that was installed somewhere.
	dir, path := outside(t)
	product := filepath.Join(dir, "product")
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(product, self, 0o700))
	find := func() string {
		cmd := exec.Command(product)
		cmd.Dir = path
		cmd.Env = append(os.Environ(), roleEnv+"=finder")
		out, _ := cmd.Output()
		return strings.TrimSpace(string(out))
	}
	require.Contains(t, find(), devstack.ErrNoVault.Error())
	want := script(t, filepath.Join(dir, "devstack", "vault"), goodVault)
	require.Equal(t, want, find())
}

func TestFindVaultBinMustBeGood(t *testing.T) {
	_, path := outside(t)
	script(t, filepath.Join(path, "vault"), goodVault)
	for _, c := range []struct{ name, bin, want string }{
		{"missing", filepath.Join(path, "none"), "no such file"},
		{"broken", script(t, filepath.Join(t.TempDir(), "vault"), "exit 7"), "does not run: exit status 7"},
		{"too old", script(t, filepath.Join(t.TempDir(), "vault"), `echo "Vault v1.9.10 (abc)"`), "too old: version 1.9.10, at least 1.12"},
		{"something else", script(t, filepath.Join(t.TempDir(), "vault"), `echo "ansible-vault 2.1"`), "is not a Vault"},
	} {
		t.Setenv("VAULT_BIN", c.bin)
		_, err := devstack.Find(t.Context(), nil)
		require.ErrorContains(t, err, "VAULT_BIN: ", c.name)
		require.ErrorContains(t, err, c.want, c.name)
	}
	t.Setenv("VAULT_BIN", "vault") // a name is looked up on PATH
	got, err := devstack.Find(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(path, "vault"), got)
}

func TestFindPassesOverAndSaysSo(t *testing.T) {
	_, path := outside(t)
	script(t, filepath.Join(path, "vault"), `echo "Vault v0.11.6"`)
	want := script(t, filepath.Join(path, "bao"), goodBao)
	var log said
	got, err := devstack.Find(t.Context(), log.add)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Contains(t, log.String(), "passed over: "+filepath.Join(path, "vault")+" is too old: version 0.11.6")
}

func TestFindNothing(t *testing.T) {
	dir, _ := outside(t)
	_, err := devstack.Find(t.Context(), nil)
	require.ErrorIs(t, err, devstack.ErrNoVault)
	require.ErrorContains(t, err, "VAULT_BIN")

	source(t, dir, "v1.21.1")
	_, err = devstack.Find(t.Context(), nil)
	require.ErrorIs(t, err, devstack.ErrNoVault)
	require.ErrorContains(t, err, "Go is not on PATH")
}

func TestBuild(t *testing.T) {
	dir, path := outside(t)
	source(t, dir, "v1.21.1")
	runs := compiler(t, path, "1.21.1", "")
	deep := filepath.Join(dir, "some", "package")
	require.NoError(t, os.MkdirAll(deep, 0o700))
	t.Chdir(deep)
	var log said
	for range 2 { // the second time it is there
		got, err := devstack.Find(t.Context(), log.add)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(dir, "bin/devstack/vault"), got)
	}
	b, err := os.ReadFile(runs)
	require.NoError(t, err)
	require.Regexp(t, `^`+filepath.Join(dir, "testdata/devstack")+
		` build -tags minimal -trimpath -ldflags -s -w -o \S+ github.com/hashicorp/vault\n$`, string(b))
	require.Regexp(t, `^building Vault into `+filepath.Join(dir, "bin/devstack")+`: once, about 5 to 10 minutes.*\nVault is built`, log.String())
	requireOnlyVault(t, dir)

	source(t, dir, "v1.21.2") // a new pin
	compiler(t, path, "1.21.2", "")
	_, err = devstack.Find(t.Context(), log.add)
	require.NoError(t, err)
	out, err := exec.Command(filepath.Join(dir, "bin/devstack/vault")).Output()
	require.NoError(t, err)
	require.Equal(t, "Vault v1.21.2\n", string(out))
}

// requireOnlyVault says that a build leaves nothing else behind.
func requireOnlyVault(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "bin/devstack"))
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{".vault.lock", "vault"}, names)
}

func TestBuildFails(t *testing.T) {
	dir, path := outside(t)
	source(t, dir, "v1.21.1")
	compiler(t, path, "1.21.1", `echo "no space left on device" >&2; exit 1`)
	_, err := devstack.Find(t.Context(), nil)
	require.ErrorContains(t, err, "building Vault: exit status 1")
	require.ErrorContains(t, err, "no space left on device")
	require.NoFileExists(t, filepath.Join(dir, "bin/devstack/vault"))
}

// Several test binaries that all need a Vault build it once.
func TestBuildOnceForAll(t *testing.T) {
	dir, path := outside(t)
	source(t, dir, "v1.21.1")
	gate := filepath.Join(t.TempDir(), "gate")
	runs := compiler(t, path, "1.21.1", "while [ ! -e "+gate+" ]; do sleep 0.05; done")
	var log said
	var wg sync.WaitGroup
	found, errs := make([]string, 3), make([]error, 3)
	for i := range found {
		wg.Go(func() { found[i], errs[i] = devstack.Find(context.Background(), log.add) })
	}
	// Another process waits as well, and says so.
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), roleEnv+"=finder")
	var out strings.Builder
	other.Stdout = &out
	other.Stderr = writer(log.add)
	require.NoError(t, other.Start())
	eventually(t, func() bool { return strings.Count(log.String(), "another process is building Vault") == 3 }, "all wait but one")
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	wg.Wait()
	require.NoError(t, other.Wait())

	want := filepath.Join(dir, "bin/devstack/vault")
	require.NoError(t, errors.Join(errs...))
	require.Equal(t, []string{want, want, want}, found)
	require.Equal(t, want+"\n", out.String())
	b, err := os.ReadFile(runs)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(b), "\n"), "built more than once")
	requireOnlyVault(t, dir)
}

type writer func(string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

func TestBuildCanceled(t *testing.T) {
	dir, path := outside(t)
	source(t, dir, "v1.21.1")
	started := filepath.Join(t.TempDir(), "started")
	compiler(t, path, "1.21.1", "echo $$ > "+started+"; exec sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 2)
	var log said
	for range 2 { // one builds, one waits
		go func() {
			_, err := devstack.Find(ctx, log.add)
			failed <- err
		}()
	}
	pid := readPid(t, started)
	eventually(t, func() bool { return strings.Contains(log.String(), "waiting for it") }, "the other one waits")
	cancel()
	for range 2 {
		require.ErrorIs(t, <-failed, context.Canceled)
	}
	require.True(t, gone(pid), "the compiler was left behind")
}
