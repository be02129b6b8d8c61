package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

func TestRotationCarriesTheChain(t *testing.T) {
	path := write(t, audit.Options{Path: filepath.Join(t.TempDir(), "trail.jsonl"), MaxBytes: 4 << 10}, 100)
	r := verifyOK(t, path)
	require.Greater(t, r.Files, 10)
	require.EqualValues(t, r.Files-1, r.Kinds[audit.Rotate])
	require.EqualValues(t, 100, r.Kinds[audit.Outcome])
	names, err := filepath.Glob(path + ".0*")
	require.NoError(t, err)
	require.Len(t, names, r.Files-1)
	for _, name := range names {
		all := lines(t, name)
		require.Contains(t, all[0], `"kind":"open"`)
		require.Contains(t, all[len(all)-1], `"kind":"rotate","file":"`+filepath.Base(name)+`"`)
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Less(t, info.Size(), int64(6<<10))
	}
}

// rotated is a chain copied right before and right after a rotation, as if its
// process had been killed there.
func rotated(t *testing.T) (before, after string) {
	t.Helper()
	trail := open(t, audit.Options{
		Path: filepath.Join(t.TempDir(), "trail.jsonl"), MaxBytes: 2 << 10, SyncInterval: time.Hour,
	})
	for {
		before = copyChain(t, trail.Path())
		require.NoError(t, trail.Append(attempt("x")))
		if _, err := os.Stat(trail.Path() + ".000001"); err == nil {
			return before, copyChain(t, trail.Path())
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(b)
}

// A crash between any two steps of a rotation (see rotate.go) loses nothing and
// is not taken for tampering, neither by Verify nor by the next start.
func TestCrashInARotation(t *testing.T) {
	before, after := rotated(t)
	full, fresh, head := read(t, after+".000001"), read(t, after), read(t, before+".head")
	for what, c := range map[string]struct {
		current, numbered, next string // "-": not there
		parts                   int    // after the next start
	}{
		"next was made":                  {read(t, before), "-", "", 1},
		"next has a torn record":         {read(t, before), "-", fresh[:50], 1},
		"next has its record":            {read(t, before), "-", fresh, 1},
		"the rotate record is torn":      {full[:len(full)-20], "-", "", 1},
		"the rotate record is there":     {full, "-", "", 1},
		"and next has its record":        {full, "-", fresh, 1},
		"the file has its number":        {"-", full, fresh, 2},
		"next has the file's name":       {fresh, full, "-", 2},
		"and an old next is lying about": {fresh, full, "junk", 2},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "trail.jsonl")
			put(t, path+".head", head)
			for name, text := range map[string]string{path: c.current, path + ".000001": c.numbered, path + ".next": c.next} {
				if text != "-" {
					put(t, name, text)
				}
			}
			was := verifyOK(t, path)
			require.EqualValues(t, strings.Count(c.current+c.numbered, `"kind":"attempt"`), was.Kinds[audit.Attempt])

			write(t, audit.Options{Path: path}, 1)
			r := verifyOK(t, path)
			require.Equal(t, c.parts, r.Files)
			require.Equal(t, was.Kinds[audit.Attempt]+1, r.Kinds[audit.Attempt])
			for i, rec := range records(t, path) {
				require.EqualValues(t, i+1, rec.Seq)
			}
			_, err := os.Stat(path + ".next")
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

// What is cut off during a rotation is not taken for a crash.
func TestFileTakenAwayInARotation(t *testing.T) {
	_, after := rotated(t)
	require.NoError(t, os.Remove(after))
	require.Contains(t, problems(verify(t, after)), "the file is gone")
	_, err := audit.Open(audit.Options{Path: after, Key: key(1)})
	require.ErrorContains(t, err, "the file is gone")
	_, err = os.Stat(after)
	require.ErrorIs(t, err, os.ErrNotExist, "it is left as it is")
}

// A rotation that cannot be done lets the records go on in the old file, and is
// tried again.
func TestRotationThatFails(t *testing.T) {
	var said []error
	dir := t.TempDir()
	path := filepath.Join(dir, "trail.jsonl")
	trail := open(t, audit.Options{
		Path: path, MaxBytes: 2 << 10, SyncInterval: time.Hour,
		LogError: func(err error) { said = append(said, err) },
	})
	require.NoError(t, os.MkdirAll(filepath.Join(path+".next", "x"), 0o700))
	for i := range 60 {
		require.NoError(t, trail.Append(attempt(i)))
	}
	require.NotEmpty(t, said)
	require.ErrorContains(t, errors.Join(said...), "rotation")
	require.Less(t, len(said), 20, "it is not tried at every record")
	require.Equal(t, 1, verifyOK(t, path).Files)

	require.NoError(t, os.RemoveAll(path+".next"))
	for i := range 60 {
		require.NoError(t, trail.Append(attempt(60+i)))
	}
	require.NoError(t, trail.Close())
	require.Greater(t, verifyOK(t, path).Files, 1)
}

// A name that is taken is not written over.
func TestRotationDoesNotReplaceFiles(t *testing.T) {
	var said []error
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	trail := open(t, audit.Options{
		Path: path, MaxBytes: 2 << 10, SyncInterval: time.Hour,
		LogError: func(err error) { said = append(said, err) },
	})
	put(t, path+".000001", "evidence")
	for i := range 20 {
		require.NoError(t, trail.Append(attempt(i)))
	}
	require.ErrorContains(t, errors.Join(said...), "is there already")
	require.Equal(t, "evidence", read(t, path+".000001"))
}
