package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/fault"
)

func TestTrailIsWrittenAndVerifies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "audit")
	path := write(t, audit.Options{Dir: dir}, 10)
	r := verifyOK(t, dir)
	require.Equal(t, path, r.Path)
	require.EqualValues(t, 22, r.Records)
	require.Equal(t, map[audit.Kind]uint64{
		audit.Opened: 1, audit.Attempt: 10, audit.Outcome: 10, audit.Checkpoint: 1,
	}, r.Kinds)
	require.Equal(t, 1, r.Files)
	require.False(t, r.Writing)
	require.Zero(t, r.Unanswered)
	require.Empty(t, r.Notes)
	require.WithinDuration(t, time.Now(), r.First, time.Minute)
	require.False(t, r.Last.Before(r.First))

	all := records(t, path)
	for i, rec := range all {
		require.EqualValues(t, i+1, rec.Seq)
	}
	want := attempt(0)
	got := all[1]
	require.Equal(t, want.Needs, got.Needs)
	require.Equal(t, want.Args, got.Args)
	require.Equal(t, want.Subject, got.Subject)
}

func TestTrailIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "audit")
	path := write(t, audit.Options{Dir: dir, MaxBytes: 1}, 3)
	for _, d := range []string{dir, filepath.Dir(dir)} {
		info, err := os.Stat(d)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
	for _, name := range []string{path, path + ".head", path + ".000001"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
}

func TestFixedFileGoesOnAcrossStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	for range 3 {
		write(t, audit.Options{Path: path}, 2)
	}
	r := verifyOK(t, path)
	require.EqualValues(t, 3, r.Kinds[audit.Opened])
	require.EqualValues(t, 18, r.Records)
	require.Empty(t, r.Notes)
}

func TestAppendRefusesTheTrailsOwnKinds(t *testing.T) {
	trail := open(t, audit.Options{Dir: t.TempDir()})
	for _, kind := range []audit.Kind{"", audit.Opened, audit.Recovery, audit.Checkpoint, audit.Rotate} {
		require.ErrorIs(t, trail.Append(audit.Record{Kind: kind}), fault.Unavailable)
	}
	// A caller cannot fill the fields of the trail's own records either.
	r := attempt(1)
	r.Seq, r.Chain, r.Key, r.Part, r.File, r.Chains = 77, "x", "y", 9, "z", []string{"a"}
	r.Count, r.Cut, r.Torn, r.Unsynced, r.Refused = 1, 2, 3, 4, 5
	require.NoError(t, trail.Append(r))
	require.NoError(t, trail.Close())
	got := records(t, trail.Path())[1]
	want := attempt(1)
	want.Version, want.Seq, want.Time, want.Prev, want.MAC = 1, 2, got.Time, got.Prev, got.MAC
	require.Equal(t, want, got)
	verifyOK(t, trail.Path())
}

func TestCloseIsIdempotentAndFinal(t *testing.T) {
	trail := open(t, audit.Options{Dir: t.TempDir()})
	require.NoError(t, trail.Check())
	require.NoError(t, trail.Close())
	require.NoError(t, trail.Close())
	require.ErrorIs(t, trail.Append(attempt(1)), fault.Unavailable)
	require.ErrorIs(t, trail.Check(), fault.Unavailable)
	r := verifyOK(t, trail.Path())
	require.EqualValues(t, 2, r.Records)
}

// What a caller is told says nothing of files.
func TestErrorForCallersHasNoPath(t *testing.T) {
	trail := open(t, audit.Options{Dir: t.TempDir(), LogError: func(error) {}})
	require.NoError(t, os.Remove(trail.Path()))
	err := trail.Check()
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, "unavailable: the audit trail cannot be written", err.Error())
	require.Equal(t, "audit_unavailable", fault.From(err).Details["code"])
	require.ErrorIs(t, err, os.ErrNotExist) // for the log
}

func TestConcurrentAppends(t *testing.T) {
	const workers, each = 64, 60
	trail := open(t, audit.Options{Dir: t.TempDir(), MaxBytes: 256 << 10, CheckpointEvery: 500})
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if err := trail.Append(attempt(fmt.Sprint(w, "-", i))); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Go(func() { // a reader beside the writers
		for range 5 {
			report, err := audit.Verify(trail.Path(), audit.VerifyOptions{Key: key(1)})
			if err == nil && (!report.OK || !report.Chains[0].Writing) {
				err = fmt.Errorf("while it is written: %+v", report)
			}
			if err != nil {
				errs <- err
				return
			}
		}
	})
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
	require.NoError(t, trail.Close())
	r := verifyOK(t, trail.Path())
	require.EqualValues(t, workers*each, r.Kinds[audit.Attempt])
	require.Greater(t, r.Files, 2)
	require.EqualValues(t, workers*each, r.Unanswered)

	seen := map[string]bool{}
	for i, rec := range records(t, trail.Path()) {
		require.EqualValues(t, i+1, rec.Seq)
		if rec.Kind == audit.Attempt {
			require.False(t, seen[rec.RequestID])
			seen[rec.RequestID] = true
		}
	}
	require.Len(t, seen, workers*each)
}

// headSeq is how far the head file says that the chain got.
func headSeq(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path + ".head")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(b), `"seq":`)
	require.True(t, ok)
	seq, _, _ := strings.Cut(rest, ",")
	return seq
}

func TestSyncAlwaysMovesTheHeadBeforeAppendReturns(t *testing.T) {
	trail := open(t, audit.Options{Dir: t.TempDir(), Sync: audit.Always, SyncInterval: time.Hour})
	require.NoError(t, trail.Append(attempt(1)))
	require.Equal(t, "2", headSeq(t, trail.Path()))
	require.NoError(t, trail.Append(outcome(1)))
	require.Equal(t, "3", headSeq(t, trail.Path()))

	lazy := open(t, audit.Options{Dir: t.TempDir(), Sync: audit.Interval, SyncInterval: time.Hour})
	require.NoError(t, lazy.Append(attempt(1)))
	require.Equal(t, "1", headSeq(t, lazy.Path()))
	require.Len(t, records(t, lazy.Path()), 2) // but it is in the file
}

func TestClockMovesHeadAndCheckpoints(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		trail := open(t, audit.Options{Dir: dir})
		for i := range 3 {
			require.NoError(t, trail.Append(attempt(i)))
		}
		require.Equal(t, "1", headSeq(t, trail.Path()))
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, "4", headSeq(t, trail.Path()))
		time.Sleep(time.Minute)
		synctest.Wait()
		last := records(t, trail.Path())[4]
		require.Equal(t, audit.Checkpoint, last.Kind)
		require.EqualValues(t, 4, last.Count)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Len(t, records(t, trail.Path()), 5, "an idle trail needs no checkpoints")
		require.NoError(t, trail.Close())
	})
	verifyOK(t, dir)
}

// Another program that changes the files is noticed within a second, and from
// then on no call goes through.
func TestFilesTakenAwayAreNoticed(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"renamed":      func(path string) error { return os.Rename(path, path+".old") },
		"truncated":    func(path string) error { return os.Truncate(path, 10) },
		"head removed": func(path string) error { return os.Remove(path + ".head") },
		"appended to": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("{}\n")
			return errors.Join(err, f.Close())
		},
		"replaced": func(path string) error {
			b, err := os.ReadFile(path)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, b, 0o600))
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				said := make(chan error, 100)
				trail := open(t, audit.Options{Dir: dir, LogError: func(err error) { said <- err }})
				require.NoError(t, trail.Append(attempt(1)))
				require.NoError(t, change(trail.Path()))
				time.Sleep(1100 * time.Millisecond)
				synctest.Wait()
				require.ErrorIs(t, trail.Append(attempt(2)), fault.Unavailable)
				require.ErrorIs(t, trail.Check(), fault.Unavailable)
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Len(t, said, 1, "a failure that lasts is said once")
				require.Error(t, trail.Close())
			})
		})
	}
}

func TestHMACKnownAnswer(t *testing.T) {
	// python3: hkdf-extract/expand with SHA-256, info "vault-mcp audit value v1",
	// no salt, then hmac-sha256 of the value.
	const want = "hmac-sha256:3bb30d87ec2c691e16ad51173310ef8c18fd5496a60014d7f5f1193aeec99bf3"
	got, err := audit.HMAC(key(1), []byte(`"swordfish"`))
	require.NoError(t, err)
	require.Equal(t, want, got)

	trail := open(t, audit.Options{Dir: t.TempDir()})
	require.Equal(t, want, trail.HMAC([]byte(`"swordfish"`)))
	other, err := audit.HMAC(key(2), []byte(`"swordfish"`))
	require.NoError(t, err)
	require.NotEqual(t, want, other)
	_, err = audit.HMAC(key(1)[:31], nil)
	require.Error(t, err)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	dir := t.TempDir()
	for what, opt := range map[string]audit.Options{
		"nowhere":         {Key: key(1)},
		"two places":      {Key: key(1), Dir: dir, Path: filepath.Join(dir, "x")},
		"no key":          {Dir: dir},
		"short key":       {Dir: dir, Key: bytes.Repeat([]byte{1}, 16)},
		"unknown sync":    {Dir: dir, Key: key(1), Sync: "never"},
		"name of a head":  {Path: filepath.Join(dir, "x.head"), Key: key(1)},
		"name of a part":  {Path: filepath.Join(dir, "x.000001"), Key: key(1)},
		"a folder's name": {Path: dir, Key: key(1)},
	} {
		_, err := audit.Open(opt)
		require.Error(t, err, what)
	}
}
