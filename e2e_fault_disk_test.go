//go:build linux

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// startOnSmallDisk starts `vault-mcp http` with a disk of 256 KiB of its own for
// its state, and returns the folder under which others see that disk.
func startOnSmallDisk(t *testing.T, env []string) (p *process, state string) {
	t.Helper()
	if out, err := exec.Command("unshare", "-rm", "true").CombinedOutput(); err != nil {
		devstacktest.Cannot(t, "this machine does not let its users mount a small disk: %v %s", err, out)
	}
	own := setting(env, "STATE_DIR")
	p = &process{env: env, done: make(chan struct{})}
	// A shell that becomes the product, so that signals find it.
	p.cmd = exec.Command("unshare", "-rm", "sh", "-c",
		`mount -t tmpfs -o size=256k,mode=700 small "$STATE_DIR" && exec "$0" http --addr 127.0.0.1:0`, binary)
	p.cmd.Env = env
	p.listen(t)
	t.Cleanup(func() { p.stop(t) })
	return p, filepath.Join(fmt.Sprintf("/proc/%d/root", p.cmd.Process.Pid), own)
}

// fillFolder fills the disk of a folder with a file.
func fillFolder(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
}

// With no space for the trail nothing is done that the trail would have to tell
// of: calls are refused before Vault is asked. The process lives, says that it
// is not ready, and goes on by itself when there is space.
func TestAuditDiskFull(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	p, state := startOnSmallDisk(t, env)
	session := connect(t, httpTransport(p.url, devKey), "2026-07-28")
	write := obj{"path": "app/config", "data": obj{"k": "v"}}
	recovers(t, soon, session, "kv.write", write)
	readiness(t, p.url, 200)

	junk := filepath.Join(state, "junk")
	fillFolder(t, junk)
	refused := 0 // in a row: there is room for some records in the file's last page
	for tries := 0; refused < 3; tries++ {
		require.Less(t, tries, 1000)
		a, err := ask(t.Context(), session, "kv.read", obj{"path": "app/config"})
		require.NoError(t, err)
		if refused++; a.code == "" {
			refused = 0
		}
	}
	seen.Reset()
	call := callThrough(session)
	for tool, args := range map[string]obj{
		"kv.read": {"path": "app/config"}, "kv.write": write, "kv.list": {}, "kv.delete": {"path": "app/config"}, "kv.metadata": {"path": "app/config"},
	} {
		got := call(t, tool, args)
		require.Equal(t, "unavailable", got.code(), tool)
		require.Equal(t, obj{"code": "audit_unavailable"}, got.body["details"], "%s: nothing was done, and that is certain", tool)
	}
	require.Empty(t, seen.Requests(), "a call went to Vault of which the trail cannot tell")
	status, _ := probe(t, p.url+"/livez")
	require.Equal(t, 200, status)
	checks := readiness(t, p.url, 503)
	has("audit", obj{"ok": false, "detail": "unavailable"}, "vault.ok", true)(t, checks)

	require.NoError(t, os.Remove(junk))
	readiness(t, p.url, 200)
	require.Equal(t, "v", dig(call(t, "kv.read", obj{"path": "app/config"}).body, "data.k"), "nothing was changed meanwhile")
	// The disk goes with its process, so the trail is verified while it grows.
	report := verifyTrail(t, append(env, "STATE_DIR="+state))
	require.Len(t, report.Chains, 1)
	require.Positive(t, report.Chains[0].Refused, "the trail tells that it was refused")
}
