package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/cli"
	"vault-mcp/secret"
)

// auditRun runs a command of audit with nothing but a state folder.
func auditRun(t *testing.T, state, stdin string, args ...string) (code int, out, errOut string) {
	t.Helper()
	t.Setenv("STATE_DIR", state)
	var o, e bytes.Buffer
	code = cli.Main(append([]string{"audit"}, args...), strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func TestAuditCommands(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	code, _, errOut := auditRun(t, state, "", "verify")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "there is no key")
	require.NoDirExists(t, state, "reading makes no key")

	key, err := secret.LoadOrCreateKey(filepath.Join(state, "audit.key"))
	require.NoError(t, err)
	code, _, errOut = auditRun(t, state, "", "verify")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "there is no trail")

	trail, err := audit.Open(audit.Options{Dir: filepath.Join(state, "audit"), Key: key})
	require.NoError(t, err)
	hash := trail.HMAC([]byte(`"team/db"`))
	require.NoError(t, trail.Append(audit.Record{
		Kind: audit.Attempt, RequestID: "r1", Subject: "dev-bot", Tool: "kv.read",
		Needs: []string{"read secret/data/mcp/dev-bot/team/db"}, Args: map[string]string{"path": hash},
	}))
	require.NoError(t, trail.Append(audit.Record{
		Kind: audit.Outcome, RequestID: "r1", Subject: "dev\x1b[31m\nbot", Tool: "kv.read", Outcome: "ok", DurationUS: 1500,
	}))
	code, out, errOut := auditRun(t, state, "", "verify")
	require.Zero(t, code, errOut)
	require.Contains(t, out, "ok  "+trail.Path())
	require.Contains(t, out, "being written now")
	require.NoError(t, trail.Close())
	code, out, _ = auditRun(t, state, "", "verify", "--json", trail.Path())
	require.Zero(t, code)
	require.Contains(t, out, `"ok": true`)

	code, out, _ = auditRun(t, state, "", "tail", "-n", "3")
	require.Zero(t, code)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 3)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT[\d:.]+Z  attempt     dev-bot  kv\.read  read secret/data/mcp/dev-bot/team/db  request r1$`, lines[0])
	require.Contains(t, lines[1], `dev\x1b[31m\nbot  kv.read  ok  1.5ms`)
	require.Contains(t, lines[2], "checkpoint  (closed)  count 3")
	code, out, _ = auditRun(t, state, "", "tail", "--json", "-n", "1")
	require.Zero(t, code)
	_, err = audit.Parse([]byte(strings.TrimSpace(out)))
	require.NoError(t, err)

	code, out, _ = auditRun(t, state, ` "team/db"`+"\n", "hash")
	require.Zero(t, code)
	require.Equal(t, hash+"\n", out)
	code, out, _ = auditRun(t, state, `{"a": 1}`, "hash")
	require.Zero(t, code)
	require.Len(t, strings.Fields(out), 2)
	code, _, errOut = auditRun(t, state, "Canary-7f3a", "hash")
	require.Equal(t, 2, code)
	require.NotContains(t, errOut, "Canary")

	b, err := os.ReadFile(trail.Path())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(trail.Path(), bytes.Replace(b, []byte("kv.read"), []byte("kv.list"), 1), 0o600))
	code, out, errOut = auditRun(t, state, "", "verify")
	require.Equal(t, 1, code)
	require.Contains(t, out, "FAILED  "+trail.Path())
	require.Contains(t, out, trail.Path()+":2: altered or inserted")
	require.Contains(t, errOut, "does not verify")
}
