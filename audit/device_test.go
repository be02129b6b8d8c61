//go:build linux

package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/secret"
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
	_, err = Open(Options{Path: "/dev/full", Key: bytes.Repeat([]byte{1}, secret.KeySize)})
	require.Error(t, err)
}

// clog makes a FIFO from which nobody reads, fills it, and returns an end in
// which the next write waits in the kernel, and the other end.
func clog(t *testing.T) (in, out *os.File, fill int) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(name, 0o600))
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	out = os.NewFile(uintptr(fd), name)
	fd, err = syscall.Open(name, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	for page := make([]byte, 4096); ; {
		n, err := syscall.Write(fd, page)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		require.NoError(t, err)
		fill += n
	}
	require.NoError(t, syscall.SetNonblock(fd, false))
	in = os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	return in, out, fill
}

// A write that does not end: its caller is refused in time, those behind it too,
// and the others at once. It may succeed later, or fail.
func TestWriteThatHangs(t *testing.T) {
	for _, succeeds := range []bool{true, false} {
		trail := openQuiet(t, filepath.Join(t.TempDir(), "trail.jsonl"))
		trail.patience = 200 * time.Millisecond // before anybody else uses it
		require.NoError(t, trail.Append(Record{Kind: Attempt}))
		in, out, fill := clog(t)
		file := trail.swap(in)
		const callers = 10
		errs, start := make(chan error, callers), time.Now()
		for range callers {
			go func() { errs <- trail.Append(Record{Kind: Attempt}) }()
		}
		for range callers {
			err := <-errs
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorContains(t, fault.From(err).Err, "has not answered within")
		}
		require.GreaterOrEqual(t, time.Since(start), trail.patience)
		require.Eventually(t, trail.stuck, time.Minute, time.Millisecond)
		taken := trail.taken.Load()
		for range 1000 {
			require.ErrorIs(t, trail.Append(Record{Kind: Attempt}), fault.Unavailable)
			require.ErrorIs(t, trail.Check(), fault.Unavailable)
		}
		require.Equal(t, taken, trail.taken.Load(), "nothing piles up")

		written := []byte{}
		if succeeds {
			for len(written) == 0 || written[len(written)-1] != '\n' {
				page := make([]byte, fill+maxRecord)
				n, err := out.Read(page)
				require.NoError(t, err)
				written = append(written, bytes.TrimLeft(page[:n], "\x00")...)
			}
		} else {
			require.NoError(t, out.Close())
		}
		trail.swap(file) // once the write has ended
		_, err := file.Write(written)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return trail.taken.Load() == 0 }, time.Minute, time.Millisecond)
		require.NoError(t, trail.Check())
		require.NoError(t, trail.Append(Record{Kind: Outcome}))
		r := requireWhole(t, trail, callers+1000)
		require.EqualValues(t, 1+bytes.Count(written, []byte(`"kind":"attempt"`)), r.Kinds[Attempt])
		require.EqualValues(t, 1, r.Kinds[Outcome])
		require.Equal(t, succeeds, r.Kinds[Attempt] > 1)
	}
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
			report, err := Verify(path, VerifyOptions{Key: bytes.Repeat([]byte{1}, secret.KeySize)})
			require.NoError(t, err)
			require.False(t, report.OK)
		})
	}
}
