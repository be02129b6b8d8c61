package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

// small is a closed chain of three files.
func small(t testing.TB) string {
	t.Helper()
	return write(t, audit.Options{Path: filepath.Join(t.TempDir(), "trail.jsonl"), MaxBytes: 1300, CheckpointEvery: 5}, 3)
}

func files(t testing.TB, path string) []string {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	return names
}

func TestEveryFlippedByteIsDetected(t *testing.T) {
	path := small(t)
	require.Equal(t, 3, verifyOK(t, path).Files)
	for _, name := range files(t, path) {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		require.NoError(t, err)
		for i := 0; i < len(b); i += thin {
			was := b[i]
			// A bit of every weight in turn, and a line end where there was none.
			for _, now := range []byte{was ^ 1<<(i%8), '\n'} {
				if now == was {
					continue
				}
				_, err = f.WriteAt([]byte{now}, int64(i))
				require.NoError(t, err)
				r := verify(t, path)
				require.False(t, r.OK, "%s, byte %d, %q for %q", name, i, now, was)
				require.NotEmpty(t, r.Problems)
			}
			_, err = f.WriteAt([]byte{was}, int64(i))
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
	}
	verifyOK(t, path)
}

func TestEveryTruncationIsDetected(t *testing.T) {
	path := small(t)
	for _, name := range files(t, path) {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		for n := len(b) - 1; n >= 0; n -= thin {
			require.NoError(t, os.Truncate(name, int64(n)))
			require.False(t, verify(t, path).OK, "%s cut to %d bytes", name, n)
		}
		put(t, name, string(b))
	}
	verifyOK(t, path)
}

// Lines that are dropped, swapped, doubled or put elsewhere, in every place.
func TestEveryChangeOfLinesIsDetected(t *testing.T) {
	path := small(t)
	foreign := lines(t, small(t))[1] // of another chain, with the same key
	for _, name := range []string{path + ".000001", path + ".000002", path} {
		was := lines(t, name)
		check := func(what string, i int, now []string) {
			t.Helper()
			put(t, name, strings.Join(now, "\n")+"\n")
			r := verify(t, path)
			require.False(t, r.OK, "%s, line %d %s", name, i+1, what)
		}
		for i := range was {
			check("dropped", i, slices.Delete(slices.Clone(was), i, i+1))
			check("doubled", i, slices.Insert(slices.Clone(was), i, was[i]))
			check("before an invented one", i, slices.Insert(slices.Clone(was), i, "x"))
			check("before an empty one", i, slices.Insert(slices.Clone(was), i, ""))
			check("before one of another chain", i, slices.Insert(slices.Clone(was), i, foreign))
			check("replaced", i, slices.Replace(slices.Clone(was), i, i+1, foreign))
			check("moved to the end", i-1, append(slices.Delete(slices.Clone(was), i, i+1), was[i], "x"))
			if i > 0 {
				swapped := slices.Clone(was)
				swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
				check("swapped", i, swapped)
			}
		}
		put(t, name, strings.Join(was, "\n")+"\n")
	}
	verifyOK(t, path)
}

// The report says where and what.
func TestProblemsNameTheirPlace(t *testing.T) {
	path := small(t)
	first := path + ".000001"
	was := lines(t, first)
	for what, c := range map[string]struct {
		now  []string
		want string
	}{
		"dropped": {slices.Delete(slices.Clone(was), 2, 4), first + ":3: records 3 to 4 are missing before this line"},
		"altered": {
			slices.Replace(slices.Clone(was), 2, 3, strings.Replace(was[2], "dev-bot", "dev-bit", 1)),
			first + ":3: altered or inserted: the line's MAC does not fit",
		},
		"doubled": {slices.Insert(slices.Clone(was), 3, was[2]), first + ":4: record 3 stands here again, or out of order"},
	} {
		put(t, first, strings.Join(c.now, "\n")+"\n")
		require.Equal(t, c.want, problems(verify(t, path)), what)
	}
}

func TestFilesThatAreGoneOrExchanged(t *testing.T) {
	for what, c := range map[string]struct {
		change  func(path string) error
		want    string
		partial bool // an archive may look like this
	}{
		"head gone":         {func(p string) error { return os.Remove(p + ".head") }, "the head file is gone", true},
		"head empty":        {func(p string) error { return os.Truncate(p+".head", 0) }, "the head file is empty", false},
		"first file gone":   {func(p string) error { return os.Remove(p + ".000001") }, "begins with file number 2", true},
		"second file gone":  {func(p string) error { return os.Remove(p + ".000002") }, "file number 2, which comes before it, is missing", false},
		"current file gone": {os.Remove, "the file is gone", false},
		"all but the last gone": {func(p string) error {
			return errors.Join(os.Remove(p+".000001"), os.Remove(p+".000002"))
		}, "begins with file number 3", true},
		"numbers exchanged": {func(p string) error {
			return errors.Join(os.Rename(p+".000001", p+".x"), os.Rename(p+".000002", p+".000001"), os.Rename(p+".x", p+".000002"))
		}, "belongs to another place", false},
		"numbers shifted": {func(p string) error {
			return errors.Join(os.Remove(p+".000001"), os.Rename(p+".000002", p+".000001"))
		}, "belongs to another place", false},
		"archive without the last": {func(p string) error {
			return errors.Join(os.Remove(p), os.Remove(p+".head"))
		}, "the file is gone", true},
	} {
		t.Run(what, func(t *testing.T) {
			path := small(t)
			require.NoError(t, c.change(path))
			r := verify(t, path)
			require.False(t, r.OK)
			require.Contains(t, problems(r), c.want)
			report, err := audit.Verify(path, audit.VerifyOptions{Key: key(1), Partial: true})
			require.NoError(t, err)
			require.Equal(t, c.partial, report.OK, "%v", report.Chains)
		})
	}
}

// Where earlier files may be missing, what stands before a later start of a
// process in a file must not be.
func TestFileCutBeforeALaterStartIsNotAnArchive(t *testing.T) {
	path := small(t)
	trail := open(t, audit.Options{Path: path})
	require.NoError(t, trail.Append(attempt(1)))
	require.NoError(t, trail.Close())
	verifyOK(t, path)
	require.NoError(t, errors.Join(os.Remove(path+".000001"), os.Remove(path+".000002")))
	all := lines(t, path)
	start := slices.IndexFunc(all[1:], func(l string) bool { return strings.Contains(l, `"kind":"open"`) }) + 1
	require.Positive(t, start)
	put(t, path, strings.Join(all[start:], "\n")+"\n")
	report, err := audit.Verify(path, audit.VerifyOptions{Key: key(1), Partial: true})
	require.NoError(t, err)
	require.False(t, report.OK)
}

// An older copy of the files is seen if the head is not as old.
func TestEarlierStateIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	write(t, audit.Options{Path: path}, 2)
	old := lines(t, path)
	write(t, audit.Options{Path: path}, 2)
	put(t, path, strings.Join(old, "\n")+"\n")
	require.Contains(t, problems(verify(t, path)), "cut off: it had got to record 12 and ends at 6")
	_, err := audit.Open(audit.Options{Path: path, Key: key(1)})
	require.ErrorContains(t, err, "does not verify, so it is not continued")
}

func TestAnotherKeyIsSaidAsSuch(t *testing.T) {
	path := small(t)
	report, err := audit.Verify(path, audit.VerifyOptions{Key: key(2)})
	require.NoError(t, err)
	require.False(t, report.OK)
	require.Len(t, report.Chains[0].Problems, 1)
	require.Contains(t, problems(report.Chains[0]), "written with another key")
	_, err = audit.Open(audit.Options{Path: path, Key: key(2)})
	require.ErrorContains(t, err, "another key")

	// But a forged fingerprint does not hide that the line was altered.
	first := path + ".000001"
	was := lines(t, first)
	was[0] = strings.Replace(was[0], `"key":"`, `"key":"0`, 1)
	put(t, first, strings.Join(was, "\n")+"\n")
	require.Contains(t, problems(verify(t, path)), "altered or inserted")
}

func TestCopyOfAChainIsSeen(t *testing.T) {
	path := small(t)
	for _, name := range files(t, path) {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		put(t, filepath.Join(filepath.Dir(name), strings.Replace(filepath.Base(name), "trail", "other", 1)), string(b))
	}
	report, err := audit.Verify(filepath.Dir(path), audit.VerifyOptions{Key: key(1)})
	require.NoError(t, err)
	require.Len(t, report.Chains, 2)
	require.False(t, report.OK)
}

func TestReportIsBounded(t *testing.T) {
	path := small(t)
	put(t, path, strings.Repeat("x\n", 5000)+strings.Repeat("y", 1<<20)+"\n")
	r := verify(t, path)
	require.False(t, r.OK)
	require.LessOrEqual(t, len(r.Problems), 200)
	require.Contains(t, problems(r), "more lines after it")
}

func TestVerifyOfAnyFileOfAChain(t *testing.T) {
	path := small(t)
	for _, name := range append(files(t, path), filepath.Dir(path)) {
		require.Equal(t, path, verifyOK(t, name).Path)
	}
	_, err := audit.Verify(t.TempDir(), audit.VerifyOptions{Key: key(1)})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = audit.Verify(path+"l", audit.VerifyOptions{Key: key(1)})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = audit.Verify(path, audit.VerifyOptions{Key: []byte("short")})
	require.Error(t, err)
}

// A later start does not take the warning away that the process before it left.
func TestCrashIsStillToldAfterALaterStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	open := func() *audit.Trail {
		trail, err := audit.Open(audit.Options{Path: path, Key: key(1)})
		require.NoError(t, err)
		return trail
	}
	trail := open()
	require.NoError(t, trail.Append(audit.Record{Kind: audit.Attempt, RequestID: "1"}))
	crashed := map[string][]byte{}
	for _, name := range []string{path, path + ".head"} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		crashed[name] = b
	}
	require.NoError(t, trail.Close())
	notes := func() (all []string) {
		report, err := audit.Verify(path, audit.VerifyOptions{Key: key(1)})
		require.NoError(t, err)
		require.True(t, report.OK)
		for _, n := range report.Chains[0].Notes {
			all = append(all, n.What)
		}
		return all
	}
	require.NotContains(t, strings.Join(notes(), "\n"), "without closing")
	for name, b := range crashed {
		require.NoError(t, os.WriteFile(name, b, 0o600))
	}
	require.NoError(t, open().Close())
	require.Contains(t, strings.Join(notes(), "\n"), "the process before it ended without closing the chain")
	require.NoError(t, open().Close())
	require.Len(t, slices.DeleteFunc(notes(), func(n string) bool { return !strings.Contains(n, "without closing") }), 1)
}
