package devstack_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
)

func TestStartSaysWhyItFailed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	bin := script(t, filepath.Join(t.TempDir(), "vault"), "echo no such luck; exit 3")
	_, err := devstack.Start(t.Context(), devstack.Options{Bin: bin})
	require.ErrorContains(t, err, "ended while it started")
	require.ErrorContains(t, err, "no such luck")

	_, err = devstack.Start(t.Context(), devstack.Options{Bin: filepath.Join(dir, "none")})
	require.ErrorContains(t, err, "ended while it started")

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "files were left behind")
}

// A server that never becomes ready is ended with all that it started.
func TestStartGivesUp(t *testing.T) {
	dir := t.TempDir()
	bin := script(t, filepath.Join(dir, "vault"),
		`sleep 600 & echo $! > `+dir+`/child; echo $$ > `+dir+`/self; wait`)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := devstack.Start(ctx, devstack.Options{Bin: bin})
		failed <- err
	}()
	child, self := readPid(t, filepath.Join(dir, "child")), readPid(t, filepath.Join(dir, "self"))
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	require.True(t, gone(self))
	eventually(t, func() bool { return gone(child) }, "a child of the server was left behind")
}

// Between choosing a free port and binding it, somebody else may take it.
func TestStartTakesAnotherPort(t *testing.T) {
	dir := t.TempDir()
	starts := filepath.Join(dir, "starts")
	bin := script(t, filepath.Join(dir, "vault"), fmt.Sprintf(
		`echo "$*" >> %[1]s
if [ $(wc -l < %[1]s) -lt 3 ]; then echo "listen tcp: bind: address already in use"; exit 1; fi
exec %[2]s "$@"`, starts, realVault(t)))
	v, err := devstack.Start(t.Context(), devstack.Options{Bin: bin})
	require.NoError(t, err)
	defer v.Stop()
	b, err := os.ReadFile(starts)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(string(b), "\n"))

	always := script(t, filepath.Join(dir, "always"), `echo x >> `+starts+`.always; echo "bind: address already in use"; exit 1`)
	_, err = devstack.Start(t.Context(), devstack.Options{Bin: always})
	require.ErrorContains(t, err, "taken by another process")
	b, err = os.ReadFile(starts + ".always")
	require.NoError(t, err)
	require.Equal(t, 5, strings.Count(string(b), "\n"), "it is tried a bounded number of times")
}

// playing starts this test binary in a role, such as that of the owner of a server.
func playing(t *testing.T, role, tmp, bin string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "DEVSTACK_TEST_BIN="+bin, "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out)
}

func TestOwnerKilled(t *testing.T) { ownerKilled(t, "vault", t.TempDir(), realVault(t)) }

// ownerKilled kills the owner of a server, which then ends and leaves no files.
func ownerKilled(t *testing.T, server, tmp, bin string) {
	t.Helper()
	cmd, out := playing(t, server, tmp, bin)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	var pid int
	var addr string
	_, err = fmt.Sscan(line, &pid, &addr)
	require.NoError(t, err, line)
	require.False(t, closed(addr))

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, func() bool { return closed(addr) && gone(pid) }, "the server outlived its owner")
	eventually(t, func() bool {
		left, err := os.ReadDir(tmp)
		return err == nil && len(left) == 0
	}, "the killed owner's files were left behind")
}

func TestOwnerKilledWhileItStarts(t *testing.T) {
	dir := t.TempDir()
	bin := script(t, filepath.Join(dir, "vault"), `echo $$ > `+dir+`/self; exec sleep 600`)
	cmd, _ := playing(t, "vault", t.TempDir(), bin)
	pid := readPid(t, filepath.Join(dir, "self"))
	require.False(t, gone(pid))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, func() bool { return gone(pid) }, "the server outlived its owner")
}
