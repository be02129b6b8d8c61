package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// hang lets the next fsync of a file wait until it is let go. began is closed
// when that fsync has begun.
func (t *Trail) hang(name string) (began, letGo chan struct{}) {
	began, letGo = make(chan struct{}), make(chan struct{})
	hung := false
	t.forcing(func(f *os.File) error {
		if f.Name() == name && !hung { // nobody else forces meanwhile
			hung = true
			close(began)
			<-letGo
		}
		return f.Sync()
	})
	return began, letGo
}

// openIdle opens a trail whose files nobody tends, for a test in whose bubble the
// clock stands still while anything is done.
func openIdle(t *testing.T, sync Sync) *Trail {
	t.Helper()
	trail, err := Open(Options{
		Path: filepath.Join(t.TempDir(), "trail.jsonl"), Key: bytes.Repeat([]byte{1}, secret.KeySize), Sync: sync, SyncInterval: 1000 * time.Hour,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = trail.Close() })
	return trail
}

func requireSlow(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, fault.From(err).Err, "has not answered within 5s")
}

// requireAtOnce checks that nobody waits for a disk that has been silent for too
// long, and that nothing piles up for it.
func requireAtOnce(t *testing.T, trail *Trail, tries int) {
	t.Helper()
	start, taken := time.Now(), trail.taken.Load()
	for range tries {
		requireSlow(t, trail.Append(Record{Kind: Outcome}))
		requireSlow(t, trail.Check())
	}
	require.Zero(t, time.Since(start))
	require.Equal(t, taken, trail.taken.Load())
}

// appendMany appends from as many goroutines, one after the other, and returns
// where their errors come.
func appendMany(trail *Trail, n int) chan error {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- trail.Append(Record{Kind: Attempt, RequestID: strconv.Itoa(i)}) }()
		synctest.Wait()
	}
	return errs
}

// An fsync that does not end: whoever waits for it is refused in time, and the
// others at once. It may succeed later all the same: what was written stands in
// the chain, and is counted as refused.
func TestFsyncThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail := openIdle(t, Always)
		require.NoError(t, trail.Append(Record{Kind: Attempt}))
		began, letGo := trail.hang(trail.path)
		start := time.Now()
		errs := appendMany(trail, 10)
		<-began
		for range 10 {
			requireSlow(t, <-errs)
		}
		require.Equal(t, patience, time.Since(start))
		requireAtOnce(t, trail, 100)
		time.Sleep(time.Hour)
		requireAtOnce(t, trail, 100)

		close(letGo)
		synctest.Wait()
		require.NoError(t, trail.Check())
		require.NoError(t, trail.Append(Record{Kind: Outcome}))
		r := requireWhole(t, trail, 210)
		require.EqualValues(t, 11, r.Kinds[Attempt])
		require.EqualValues(t, 1, r.Kinds[Outcome])
		require.EqualValues(t, 1, r.Kinds[Recovery])
		require.EqualValues(t, 10, r.Unanswered)
	})
}

// Nobody waits for the fsyncs of every second, but while one of them does not end
// what is written is not safe for too long.
func TestFsyncInTheBackgroundHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	synctest.Test(t, func(t *testing.T) {
		trail, err := Open(Options{Path: path, Key: bytes.Repeat([]byte{1}, secret.KeySize)})
		require.NoError(t, err)
		defer func() { _ = trail.Close() }()
		began, letGo := trail.hang(path)
		require.NoError(t, trail.Append(Record{Kind: Attempt}))
		<-began
		time.Sleep(patience - time.Nanosecond)
		require.NoError(t, trail.Append(Record{Kind: Attempt}))
		time.Sleep(time.Nanosecond)
		requireAtOnce(t, trail, 10)
		close(letGo)
		synctest.Wait()
		require.NoError(t, trail.Append(Record{Kind: Outcome}))
		requireWhole(t, trail, 10)
	})
}

// An fsync that does not end and then fails: its file is given up as ever.
func TestFsyncThatHangsAndFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trail := openIdle(t, Always)
		letGo := make(chan struct{})
		failed := false
		trail.forcing(func(f *os.File) error {
			if !failed {
				failed = true
				<-letGo
				return os.ErrDeadlineExceeded
			}
			return f.Sync()
		})
		errs := appendMany(trail, 3)
		for range 3 {
			requireSlow(t, <-errs)
		}
		close(letGo)
		synctest.Wait()
		require.ErrorIs(t, trail.Append(Record{Kind: Attempt}), os.ErrDeadlineExceeded)
		require.NoError(t, trail.Check(), "a new file is begun")
		require.NoError(t, trail.Append(Record{Kind: Attempt}))
		r := requireWhole(t, trail, 4)
		require.Equal(t, 2, r.Files)
		require.Contains(t, r.Notes[0].What, "forcing the 3 records before this file")
	})
}

// A rotation that does not end: the record that brought it on is in the chain,
// those that came meanwhile never will be.
func TestRotationThatHangs(t *testing.T) {
	for _, end := range []string{"", ".next"} {
		synctest.Test(t, func(t *testing.T) {
			trail := openIdle(t, Interval)
			trail.turnAt = 1
			began, letGo := trail.hang(trail.path + end)
			start := time.Now()
			errs := appendMany(trail, 1)
			<-began
			late := appendMany(trail, 20)
			requireSlow(t, <-errs)
			for range 20 {
				requireSlow(t, <-late)
			}
			require.Equal(t, patience, time.Since(start))
			requireAtOnce(t, trail, 10)
			close(letGo)
			synctest.Wait()
			require.Zero(t, trail.taken.Load())
			require.NoError(t, trail.Check())
			require.NoError(t, trail.Append(Record{Kind: Outcome}))
			r := requireWhole(t, trail, 31)
			require.Equal(t, 2, r.Files)
			require.EqualValues(t, 1, r.Kinds[Attempt])
			require.EqualValues(t, 1, r.Kinds[Outcome])
		})
	}
}

// Close does not wait for ever either. If the disk answers later, the trail is
// ended as it should be.
func TestCloseOfADiskThatHangs(t *testing.T) {
	for _, end := range []string{"", ".next"} {
		synctest.Test(t, func(t *testing.T) {
			trail := openIdle(t, Interval)
			require.NoError(t, trail.Append(Record{Kind: Attempt}))
			began, letGo := trail.hang(trail.path + end)
			if end != "" {
				trail.mu.Lock()
				trail.turnAt = 1
				trail.mu.Unlock()
				appendMany(trail, 1)
				<-began
			}
			start := time.Now()
			err := trail.Close()
			requireSlow(t, err)
			require.Equal(t, patience+patience/5, time.Since(start))
			require.Equal(t, err, trail.Close())
			require.ErrorIs(t, trail.Append(Record{Kind: Attempt}), fault.Unavailable)
			require.ErrorIs(t, trail.Check(), fault.Unavailable)
			require.Equal(t, patience+patience/5, time.Since(start))
			_, err = Open(Options{Path: trail.path, Key: bytes.Repeat([]byte{1}, secret.KeySize)})
			require.ErrorContains(t, err, "by another process", "it is still being written")

			close(letGo)
			synctest.Wait()
			report, err := Verify(trail.path, VerifyOptions{Key: bytes.Repeat([]byte{1}, secret.KeySize)})
			require.NoError(t, err)
			require.True(t, report.OK, "%v", report.Chains[0].Problems)
			require.False(t, report.Chains[0].Writing)
			b, err := os.ReadFile(trail.path)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(b), `"detail":"`+closedDetail+`"`))
		})
	}
}

// Records that were taken before Close are written, whoever comes first.
func TestCloseFinishesWhatWasTaken(t *testing.T) {
	for _, mode := range []Sync{Interval, Always} {
		trail := openQuiet(t, filepath.Join(t.TempDir(), "trail.jsonl"))
		trail.opt.Sync = mode
		const callers = 50
		errs := make(chan error, callers)
		for range callers {
			go func() { errs <- trail.Append(Record{Kind: Attempt}) }()
		}
		require.NoError(t, trail.Close())
		written := uint64(0)
		for range callers {
			if err := <-errs; err == nil {
				written++
			} else {
				require.ErrorIs(t, err, errClosed)
			}
		}
		require.Equal(t, written, requireWhole(t, trail, 0).Kinds[Attempt])
	}
}

// The keeper has the last fsync to do before it ends.
func TestCloseForcesWhatCallersWaitFor(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			trail := openIdle(t, Always)
			began, letGo := trail.hang(trail.path)
			errs := appendMany(trail, 5)
			<-began
			closed := make(chan error)
			go func() { closed <- trail.Close() }()
			synctest.Wait()
			close(letGo)
			for range 5 {
				require.NoError(t, <-errs)
			}
			require.NoError(t, <-closed)
			requireWhole(t, trail, 0)
		})
	}
}

func TestRecordsInWaitAreBounded(t *testing.T) {
	trail := openQuiet(t, filepath.Join(t.TempDir(), "trail.jsonl"))
	trail.taken.Add(maxPending - 1)
	require.NoError(t, trail.Append(Record{Kind: Attempt}))
	trail.taken.Add(1)
	err := trail.Append(Record{Kind: Attempt})
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, errMany)
	trail.taken.Add(-maxPending)
	require.NoError(t, trail.Append(Record{Kind: Attempt}))
	require.Zero(t, trail.taken.Load())
	requireWhole(t, trail, 1)
}
