//go:build linux

package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

// swap gives the trail another file to write, and returns the one before.
func (t *Trail) swap(f *os.File) *os.File {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.f
	t.f = f
	return was
}

// /dev/full takes nothing and says that there is no space.
func TestDevFull(t *testing.T) {
	trail := openQuiet(t, filepath.Join(t.TempDir(), "trail.jsonl"))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer func() { _ = full.Close() }()
	require.NoError(t, trail.Append(Record{Kind: Attempt}))
	f := trail.swap(full)
	for range 3 {
		err := trail.Append(Record{Kind: Outcome})
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
	}
	trail.swap(f)
	require.NoError(t, trail.Check(), "it heals without a call")
	require.NoError(t, trail.Append(Record{Kind: Attempt}))
	requireWhole(t, trail, 3)

	// It is not a place for a trail either.
	_, err = Open(Options{Path: "/dev/full", Key: bytes.Repeat([]byte{1}, KeySize)})
	require.Error(t, err)
}

// A file that can only be appended to (chattr +a) cannot be made shorter, so a
// torn record stays, is fenced off, and is skipped by whoever reads on.
func TestTornBytesThatStay(t *testing.T) {
	for name, torn := range map[string]string{
		"half a record":       `{"v":1,"seq":3,"time":"20`,
		"one byte":            "{",
		"with a line in it":   "junk\nmore",
		"a line without end":  "",
		"ends with a fence":   "abc!",
		"a fence and its end": "abc!\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "trail.jsonl")
			trail := openQuiet(t, path)
			require.NoError(t, trail.Append(Record{Kind: Attempt}))
			trail.mu.Lock()
			if torn == "" { // the whole of the next record, but for its line end
				trail.begin()
				trail.add(&Record{Kind: Outcome})
				torn = string(trail.enc.buf[:len(trail.enc.buf)-1])
			}
			_, err := trail.f.WriteString(torn)
			trail.pinned, trail.torn, trail.refused, trail.broken = true, int64(len(torn)), 1, syscall.ENOSPC
			trail.mu.Unlock()
			require.NoError(t, err)
			require.NoError(t, trail.Check())
			require.NoError(t, trail.Append(Record{Kind: Attempt}))
			r := requireWhole(t, trail, 1)
			require.EqualValues(t, 1, r.Kinds[Recovery])
			require.EqualValues(t, 2, r.Kinds[Attempt])
			again := openQuiet(t, path) // and the next start reads it, too
			require.NoError(t, again.Append(Record{Kind: Attempt}))
			requireWhole(t, again, 1)

			// What is skipped is counted to the byte.
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			i := bytes.Index(b, []byte("!\n"))
			require.NoError(t, os.WriteFile(path, append(b[:i:i], append([]byte("x"), b[i:]...)...), 0o600))
			report, err := Verify(path, VerifyOptions{Key: bytes.Repeat([]byte{1}, KeySize)})
			require.NoError(t, err)
			require.False(t, report.OK)
		})
	}
}
