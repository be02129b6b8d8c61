package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Entry is a line of a trail as Tail reads it. Tail does not check the chain.
type Entry struct {
	Path string // of the chain
	Line []byte // without its line end
	Record
}

// MaxTail bounds how many records Tail looks back.
const MaxTail = 10_000

const (
	tailBlock = 64 << 10               // read at once, from the end of a file
	tailRound = 1 << 20                // read at most from one chain before the others have their turn
	tailPause = 250 * time.Millisecond // between two looks
)

// Tail calls emit with the last n records of the chain to which a file belongs,
// or of all chains in a folder, ordered by time. With follow it goes on with
// what is written from then on, also in new chains and across rotations, until
// ctx ends, which is no error. Lines that are no records are passed over: it is
// Verify that judges them.
func Tail(ctx context.Context, path string, n int, follow bool, emit func(Entry) error) error {
	if n < 0 || n > MaxTail {
		return fmt.Errorf("audit: cannot show %d records; want 0 to %d", n, MaxTail)
	}
	chains, err := findChains(path)
	if err != nil && (!follow || !errors.Is(err, os.ErrNotExist)) {
		return err
	}
	t := tailer{path: path, seen: map[string]*place{}}
	entries, err := t.last(chains, n)
	if err != nil {
		return err
	}
	for {
		for _, e := range entries {
			if err := emit(e); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		if len(entries) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(tailPause):
			}
		} else if ctx.Err() != nil {
			return nil //nolint:nilerr // that the reader had enough is no error
		}
		if entries, err = t.more(); err != nil {
			return err
		}
	}
}

// tailer knows how far each chain was read.
type tailer struct {
	path string
	seen map[string]*place
}

// place is where the reading of a chain stands.
type place struct {
	part uint64      // number of the file being read
	off  int64       // behind a whole line of it
	info os.FileInfo // the current file when it was looked at last
}

// last takes every chain's end as read, and returns the last n records before.
func (t *tailer) last(chains []chainFiles, n int) ([]Entry, error) {
	changed := map[string]time.Time{}
	for _, c := range chains {
		p, err := endOf(c)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		t.seen[c.path] = p
		if p.info != nil {
			changed[c.path] = p.info.ModTime()
		}
	}
	// The chains written last come first, so that old ones need not be read.
	slices.SortStableFunc(chains, func(a, b chainFiles) int { return changed[b.path].Compare(changed[a.path]) })
	var entries []Entry
	for _, c := range chains {
		at, dated := changed[c.path]
		if n == 0 || dated && len(entries) == n && at.Before(entries[0].Time) {
			continue
		}
		got, err := lastOf(c, t.seen[c.path], n)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		entries = byTime(append(entries, got...))
		entries = slices.Clone(entries[max(0, len(entries)-n):])
	}
	return entries, nil
}

// endOf is the place behind the last whole line of a chain.
func endOf(c chainFiles) (*place, error) {
	p := &place{part: 1}
	if len(c.parts) > 0 {
		p.part = c.parts[len(c.parts)-1] + 1
	}
	f, err := openPart(c.path, p.part)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if p.info, err = f.Stat(); err != nil {
		return nil, err
	}
	if len(c.parts) == 0 {
		// Earlier files may have been archived: the file itself knows best.
		if text, _, _, err := newLineReader(f, 0).next(); err == nil {
			if r, err := Parse(text); err == nil && r.Part > 1 {
				p.part = r.Part
			}
		}
	}
	p.off = p.info.Size()
	return p, backwards(f, p.off, func(line []byte) bool {
		p.off -= int64(len(line)) // only what stands behind the last line end
		return false
	})
}

func byTime(entries []Entry) []Entry {
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return entries
}

// lastOf is the last n records of a chain before a place.
func lastOf(c chainFiles, p *place, n int) ([]Entry, error) {
	var entries []Entry
	take := func(line []byte) bool {
		if e, ok := entry(c.path, line); ok {
			entries = append(entries, e)
		}
		return len(entries) < n
	}
	if f, err := openPart(c.path, p.part); err == nil {
		if err := errors.Join(backwards(f, p.off, take), f.Close()); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, part := range slices.Backward(c.parts) {
		if len(entries) >= n {
			break
		}
		if err := fileBackwards(partPath(c.path, part), take); err != nil {
			return nil, err
		}
	}
	slices.Reverse(entries)
	return entries, nil
}

func fileBackwards(name string, f func(line []byte) bool) error {
	file, err := openFile(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return backwards(file, info.Size(), f)
}

// backwards calls f with the lines before an offset, the last one first, until
// f has enough. What stands behind the last line end counts as a line, so the
// first one may be empty. Lines longer than a block are passed over.
func backwards(r io.ReaderAt, end int64, f func(line []byte) bool) error {
	var rest []byte // the beginning of the block read before: the end of a line
	long := false   // rest was the end of a line that is too long
	for end > 0 {
		n := min(end, tailBlock)
		block := make([]byte, n, n+int64(len(rest)))
		if _, err := r.ReadAt(block, end-n); err != nil {
			return err
		}
		end -= n
		block = append(block, rest...)
		for {
			at := bytes.LastIndexByte(block, '\n')
			if at < 0 {
				break
			}
			if line := block[at+1:]; long {
				long = false
			} else if !f(line) {
				return nil
			}
			block = block[:at]
		}
		rest = block
		if len(rest) > tailBlock {
			rest, long = nil, true
		}
	}
	if !long {
		f(rest)
	}
	return nil
}

func entry(path string, line []byte) (Entry, bool) {
	if len(line) == 0 || len(line) > maxRecord {
		return Entry{}, false
	}
	r, err := Parse(line)
	return Entry{path, bytes.Clone(line), r}, err == nil && r.Version == 1
}
