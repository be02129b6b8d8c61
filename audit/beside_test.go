package audit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

// removeChain removes every file of a chain.
func removeChain(t *testing.T, path string) {
	t.Helper()
	for _, name := range files(t, path) {
		require.NoError(t, os.Remove(name))
	}
}

func verifyFolder(t *testing.T, dir string, partial bool) audit.Report {
	t.Helper()
	report, err := audit.Verify(dir, audit.VerifyOptions{Key: key(1), Partial: partial})
	require.NoError(t, err)
	return report
}

// A chain that is removed as a whole is missed, once, because those that began
// after it name it; what is archived is expected to be.
func TestRemovedChainIsMissed(t *testing.T) {
	dir := t.TempDir()
	paths := make([]string, 4)
	for i := range paths {
		paths[i] = write(t, audit.Options{Dir: dir}, 1)
	}
	for i, path := range paths {
		first := records(t, path)[0]
		require.Equal(t, audit.Opened, first.Kind)
		require.Len(t, first.Chains, i, "what is there at that moment")
		require.NotContains(t, first.Chains, filepath.Base(path))
	}
	require.True(t, verifyFolder(t, dir, false).OK)

	removeChain(t, paths[1])
	report := verifyFolder(t, dir, false)
	require.False(t, report.OK)
	require.Len(t, report.Chains, 3)
	all := ""
	for _, c := range report.Chains {
		all += problems(c)
	}
	require.Equal(t, 1, strings.Count(all, "the chain "+filepath.Base(paths[1])+" was in the folder"), all)

	report = verifyFolder(t, dir, true)
	require.True(t, report.OK)
	all = ""
	for _, c := range report.Chains {
		all += notes(c)
	}
	require.Contains(t, all, "is gone")
	verifyOK(t, paths[0]) // a file says nothing of the folder
	verifyOK(t, paths[3])
}

// A chain of which anything is left is not gone, but broken.
func TestChainWithoutItsFileIsNotGone(t *testing.T) {
	dir := t.TempDir()
	first := write(t, audit.Options{Dir: dir}, 1)
	write(t, audit.Options{Dir: dir}, 1)
	require.NoError(t, os.Remove(first))
	report := verifyFolder(t, dir, false)
	require.Len(t, report.Chains, 2)
	for _, c := range report.Chains {
		require.Equal(t, c.Path != first, c.OK)
	}
}

// A start names a bounded number of others, the last ones, and no name that
// could not stand in a record as it is; a rotation names none.
func TestNamesOfOtherChainsAreBounded(t *testing.T) {
	dir := t.TempDir()
	longest := strings.Repeat("n", 122)
	for i := range 1000 {
		put(t, filepath.Join(dir, fmt.Sprintf("%s-%04d.head", longest, i)), "")
	}
	for _, odd := range []string{"zz\"", "zz\\", "zz z", "zzé", "zz\n", "zz" + strings.Repeat("z", 200)} {
		put(t, filepath.Join(dir, odd+".head"), "")
	}
	put(t, filepath.Join(dir, "zz-of-another-program.jsonl"), "{}\n")
	path := write(t, audit.Options{Path: filepath.Join(dir, "trail.jsonl"), MaxBytes: 2 << 10}, 20)
	verifyOK(t, path)
	all := records(t, path)
	require.Len(t, all[0].Chains, 64)
	require.False(t, all[0].Truncated)
	for i, name := range all[0].Chains {
		require.Equal(t, fmt.Sprintf("%s-%04d", longest, 999-i), name)
	}
	for _, r := range all[1:] {
		require.Empty(t, r.Chains)
	}
}
