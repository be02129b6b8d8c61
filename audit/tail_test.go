package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

func tail(t *testing.T, path string, n int) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	require.NoError(t, audit.Tail(t.Context(), path, n, false, func(e audit.Entry) error {
		all = append(all, e)
		return nil
	}))
	return all
}

func TestTailOfOneChain(t *testing.T) {
	path := write(t, audit.Options{Path: filepath.Join(t.TempDir(), "trail.jsonl"), MaxBytes: 2 << 10}, 30)
	all := records(t, path)
	for _, n := range []int{0, 1, 2, 7, len(all) - 1, len(all), len(all) + 50} {
		got := tail(t, path, n)
		require.Len(t, got, min(n, len(all)))
		for i, e := range got {
			require.Equal(t, all[len(all)-len(got)+i], e.Record)
			require.Equal(t, path, e.Path)
			require.True(t, json.Valid(e.Line))
		}
	}
	require.Error(t, audit.Tail(t.Context(), path, -1, false, nil))
	require.Error(t, audit.Tail(t.Context(), path, audit.MaxTail+1, false, nil))
	require.ErrorIs(t, audit.Tail(t.Context(), path+"x", 1, false, nil), os.ErrNotExist)
	stop := errors.New("stop")
	require.ErrorIs(t, audit.Tail(t.Context(), path, 2, false, func(audit.Entry) error { return stop }), stop)
}

// Long lines, torn lines and what is no record do not stop it.
func TestTailPassesOverWhatIsNoRecord(t *testing.T) {
	path := write(t, audit.Options{Path: filepath.Join(t.TempDir(), "trail.jsonl")}, 2)
	good := lines(t, path)
	put(t, path, strings.Join([]string{
		good[0], strings.Repeat("x", 300<<10), good[1], "", "{}", good[2], strings.Repeat("y", 64<<10), good[3], `{"v":1,"to`,
	}, "\n"))
	got := tail(t, path, 100)
	require.Len(t, got, 4)
	for i, e := range got {
		require.Equal(t, good[i], string(e.Line))
	}
	require.Len(t, tail(t, path, 3), 3)
}

func TestTailMergesChainsByTime(t *testing.T) {
	dir := t.TempDir()
	var now time.Time
	clock := func() time.Time { now = now.Add(time.Second); return now }
	now = time.Now().Add(-time.Hour)
	a := open(t, audit.Options{Dir: dir, Now: clock, SyncInterval: time.Hour})
	b := open(t, audit.Options{Dir: dir, Now: clock, SyncInterval: time.Hour})
	for i := range 10 {
		require.NoError(t, []*audit.Trail{a, b}[i%2].Append(attempt(i)))
	}
	got := tail(t, dir, 5)
	require.Len(t, got, 5)
	for i, e := range got {
		require.Equal(t, fmt.Sprint(5+i), e.RequestID)
	}
}

// Following sees every record once, across rotations, in chains that begin
// later, and in the order of each chain.
func TestTailFollows(t *testing.T) {
	const each = 200
	dir := filepath.Join(t.TempDir(), "audit") // not there yet
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := map[string][]uint64{}
	var attempts int
	done := make(chan error, 1)
	go func() {
		done <- audit.Tail(ctx, dir, 100, true, func(e audit.Entry) error {
			seen[e.Path] = append(seen[e.Path], e.Seq)
			if e.Kind == audit.Attempt {
				if attempts++; attempts == 3*each {
					cancel()
				}
			}
			return nil
		})
	}()
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	for range 3 {
		trail := open(t, audit.Options{Dir: dir, MaxBytes: 8 << 10})
		wg.Go(func() {
			for i := range each {
				if err := trail.Append(attempt(i)); err != nil {
					errs <- err
					return
				}
				if i%20 == 0 {
					time.Sleep(20 * time.Millisecond) // so that it takes several looks
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	require.NoError(t, <-errs)
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		cancel()
		t.Fatal("not all was seen: ", <-done, attempts)
	}
	require.Len(t, seen, 3)
	for _, seqs := range seen {
		for i, seq := range seqs {
			require.EqualValues(t, i+1, seq)
		}
	}
}

func TestFollowBeginsBehindTheLastRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	trail := open(t, audit.Options{Path: path, MaxBytes: 2 << 10})
	for i := range 20 {
		require.NoError(t, trail.Append(attempt(i)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	begun := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- audit.Tail(ctx, path, 1, true, func(e audit.Entry) error {
			if e.Kind == audit.Attempt {
				got = append(got, e.RequestID)
			}
			if len(got) == 1 && e.Kind == audit.Attempt {
				close(begun)
			}
			if e.RequestID == "39" {
				cancel()
			}
			return nil
		})
	}()
	// The one before may be a record of the trail itself.
	require.NoError(t, trail.Append(attempt(20)))
	select {
	case <-begun:
	case <-time.After(time.Minute):
		t.Fatal("nothing was seen")
	}
	for i := range 19 {
		require.NoError(t, trail.Append(attempt(21+i)))
	}
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		cancel()
		t.Fatal("not all was seen: ", <-done, got)
	}
	first := 0
	_, err := fmt.Sscan(got[0], &first)
	require.NoError(t, err)
	require.Contains(t, []int{19, 20}, first)
	for i, id := range got {
		require.Equal(t, fmt.Sprint(first+i), id)
	}
}
