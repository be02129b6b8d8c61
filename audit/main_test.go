package audit_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"vault-mcp/audit"
	"vault-mcp/secret"
)

// childVar makes the test binary a process that writes a trail.
const childVar = "VAULT_MCP_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childVar); mode != "" {
		child(mode, os.Getenv(childVar+"_PATH"))
		return
	}
	goleak.VerifyTestMain(m)
}

func key(b byte) []byte { return bytes.Repeat([]byte{b}, secret.KeySize) }

func open(t testing.TB, opt audit.Options) *audit.Trail {
	t.Helper()
	if opt.Key == nil {
		opt.Key = key(1)
	}
	if opt.LogError == nil {
		opt.LogError = func(err error) { t.Errorf("in the background: %v", err) }
	}
	trail, err := audit.Open(opt)
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	return trail
}

func attempt(id any) audit.Record {
	return audit.Record{
		Kind: audit.Attempt, RequestID: fmt.Sprint(id), Transport: "stdio", Subject: "dev-bot", Tool: "kv.read",
		Needs: []string{"read secret/data/mcp/dev-bot/a"}, Args: map[string]string{"path": "hmac-sha256:00"},
	}
}

func outcome(id any) audit.Record {
	return audit.Record{
		Kind: audit.Outcome, RequestID: fmt.Sprint(id), Transport: "stdio", Subject: "dev-bot", Tool: "kv.read",
		Outcome: "ok", DurationUS: 1234,
	}
}

// write makes a trail of n calls.
func write(t testing.TB, opt audit.Options, n int) string {
	t.Helper()
	trail := open(t, opt)
	for i := range n {
		require.NoError(t, trail.Append(attempt(i)))
		require.NoError(t, trail.Append(outcome(i)))
	}
	require.NoError(t, trail.Close())
	return trail.Path()
}

func verify(t testing.TB, path string) audit.ChainReport {
	t.Helper()
	report, err := audit.Verify(path, audit.VerifyOptions{Key: key(1)})
	require.NoError(t, err)
	require.Len(t, report.Chains, 1)
	require.Equal(t, report.OK, report.Chains[0].OK)
	return report.Chains[0]
}

func verifyOK(t testing.TB, path string) audit.ChainReport {
	t.Helper()
	r := verify(t, path)
	require.True(t, r.OK, "problems: %v", r.Problems)
	return r
}

func problems(r audit.ChainReport) string {
	all := make([]string, 0, len(r.Problems))
	for _, f := range r.Problems {
		all = append(all, f.String())
	}
	return strings.Join(all, "\n")
}

func notes(r audit.ChainReport) string {
	all := make([]string, 0, len(r.Notes))
	for _, f := range r.Notes {
		all = append(all, f.String())
	}
	return strings.Join(all, "\n")
}

// records reads every record of a chain, in the order of its files.
func records(t testing.TB, path string) []audit.Record {
	t.Helper()
	names, err := filepath.Glob(path + ".0*")
	require.NoError(t, err)
	var all []audit.Record
	for _, name := range append(names, path) {
		for _, line := range lines(t, name) {
			r, err := audit.Parse([]byte(line))
			if err == nil { // else torn, and skipped by Verify too
				all = append(all, r)
			}
		}
	}
	return all
}

// lines are the lines of a file, without line ends.
func lines(t testing.TB, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// copyChain copies the files of a chain into another folder, as they are now.
func copyChain(t testing.TB, path string) string {
	t.Helper()
	dir := t.TempDir()
	names, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o600))
	}
	return filepath.Join(dir, filepath.Base(path))
}

func put(t testing.TB, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}
