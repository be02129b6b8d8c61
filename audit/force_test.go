package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

func openQuiet(t *testing.T, path string) *Trail {
	t.Helper()
	trail, err := Open(Options{Path: path, Key: bytes.Repeat([]byte{1}, secret.KeySize), SyncInterval: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	return trail
}

func requireWhole(t *testing.T, trail *Trail, refused uint64) ChainReport {
	t.Helper()
	require.NoError(t, trail.Close())
	report, err := Verify(trail.Path(), VerifyOptions{Key: bytes.Repeat([]byte{1}, secret.KeySize)})
	require.NoError(t, err)
	require.True(t, report.OK, "%v", report.Chains[0].Problems)
	require.Equal(t, refused, report.Chains[0].Refused)
	return report.Chains[0]
}

// forcing makes an fsync what f makes of it. No disk that a test can have fails
// when it is told to.
func (t *Trail) forcing(f func(*os.File) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.force = f
}

// An fsync that fails is told once; the next one succeeds. All who waited for it
// are refused nevertheless, and what was not on the disk is told in a new file.
func TestFsyncThatFailsCounts(t *testing.T) {
	const callers = 20
	trail := openQuiet(t, filepath.Join(t.TempDir(), "trail.jsonl"))
	trail.opt.Sync = Always // before anybody else uses it
	require.NoError(t, trail.Append(Record{Kind: Attempt}))
	began, fail := make(chan struct{}), make(chan struct{})
	var once sync.Once
	trail.forcing(func(f *os.File) (err error) {
		once.Do(func() {
			close(began)
			<-fail
			err = syscall.EIO
		})
		if err != nil {
			return err
		}
		return f.Sync()
	})
	errs := make(chan error, callers)
	for range callers {
		go func() { errs <- trail.Append(Record{Kind: Attempt}) }()
	}
	<-began
	require.Eventually(t, func() bool { // all have written, and wait
		trail.mu.Lock()
		defer trail.mu.Unlock()
		return trail.waiting == callers
	}, time.Minute, time.Millisecond)
	close(fail)
	for range callers {
		err := <-errs
		require.ErrorIs(t, err, syscall.EIO)
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
	}
	require.ErrorIs(t, trail.Append(Record{Kind: Attempt}), syscall.EIO, "nothing more is written to that file")
	require.NoError(t, trail.Check(), "a new file is begun")
	require.NoError(t, trail.Append(Record{Kind: Outcome}))
	r := requireWhole(t, trail, 1)
	require.EqualValues(t, 1+callers, r.Kinds[Attempt])
	require.EqualValues(t, 1, r.Kinds[Recovery])
	require.Equal(t, 2, r.Files)
	require.Len(t, r.Notes, 1)
	require.Contains(t, r.Notes[0].What, fmt.Sprintf("forcing the %d records before this file", callers))
	b, err := os.ReadFile(trail.path)
	require.NoError(t, err)
	lines := strings.Split(string(b), "\n")
	require.Contains(t, lines[0], `"kind":"open"`)
	require.Contains(t, lines[1], fmt.Sprintf(`"kind":"recovery","unsynced":%d,"refused":1,`, callers))
}

// While nothing can be forced to the disk, no call goes through and nothing piles
// up; afterwards it goes on by itself.
func TestFsyncFailsForAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	synctest.Test(t, func(t *testing.T) {
		var said []error
		trail, err := Open(Options{
			Path: path, Key: bytes.Repeat([]byte{1}, secret.KeySize), LogError: func(err error) { said = append(said, err) },
		})
		require.NoError(t, err)
		defer func() { _ = trail.Close() }()
		trail.forcing(func(*os.File) error { return syscall.ENOSPC })
		require.NoError(t, trail.Append(Record{Kind: Attempt}), "it is written, and a second later it is tried")
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		for range 10 {
			require.ErrorIs(t, trail.Append(Record{Kind: Outcome}), syscall.ENOSPC)
			require.ErrorIs(t, trail.Check(), fault.Unavailable)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
		names, err := filepath.Glob(path + ".*")
		require.NoError(t, err)
		require.Equal(t, []string{path + ".head"}, names)
		require.LessOrEqual(t, len(said), 2, "a failure that lasts is said once: %v", said)

		trail.forcing((*os.File).Sync)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		require.NoError(t, trail.Append(Record{Kind: Outcome}))
		r := requireWhole(t, trail, 10)
		require.Equal(t, 2, r.Files)
		require.EqualValues(t, 1, r.Kinds[Outcome])
	})
	openAgain := openQuiet(t, path) // and it goes on across a start
	require.NoError(t, openAgain.Append(Record{Kind: Attempt}))
	requireWhole(t, openAgain, 10)
}

// An fsync that fails within a rotation counts as well, in both files.
func TestFsyncFailsInARotation(t *testing.T) {
	for which, name := range map[string]string{"the old file": "", "the new file": ".next"} {
		path := filepath.Join(t.TempDir(), "trail.jsonl")
		trail := openQuiet(t, path)
		trail.turnAt = 1
		failed := false
		trail.forcing(func(f *os.File) error {
			if f.Name() == path+name && !failed {
				failed = true
				return syscall.EIO
			}
			return f.Sync()
		})
		err := trail.Append(Record{Kind: Attempt})
		require.True(t, failed, which)
		refused := uint64(0)
		if name == "" {
			require.ErrorIs(t, err, syscall.EIO, "its own record may be lost")
			require.ErrorIs(t, trail.Append(Record{Kind: Attempt}), syscall.EIO)
			refused = 1
		} else {
			require.NoError(t, err, "the old one is as good as before")
			require.NoError(t, trail.Append(Record{Kind: Outcome}))
		}
		require.NoError(t, trail.Check(), which)
		require.NoError(t, trail.Append(Record{Kind: Attempt}), which)
		r := requireWhole(t, trail, refused)
		require.Equal(t, refused, r.Kinds[Recovery], which)
	}
}

// A folder that cannot be forced to the disk leaves a file behind with each try
// to begin anew, so these become rare.
func TestFolderFsyncFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	synctest.Test(t, func(t *testing.T) {
		trail, err := Open(Options{Path: path, Key: bytes.Repeat([]byte{1}, secret.KeySize)})
		require.NoError(t, err)
		defer func() { _ = trail.Close() }()
		trail.mu.Lock()
		trail.folder = func(string) error { return syscall.EIO }
		trail.spoil(syscall.EIO)
		trail.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.ErrorIs(t, trail.Check(), fault.Unavailable)
		parts, err := filepath.Glob(path + ".0*")
		require.NoError(t, err)
		require.Greater(t, len(parts), 3, "it is tried again")
		require.Less(t, len(parts), 25)
		trail.mu.Lock()
		trail.folder = secret.SyncFolder
		trail.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.NoError(t, trail.Check())
		require.NoError(t, trail.Append(Record{Kind: Outcome}))
		requireWhole(t, trail, 0)
	})
}
