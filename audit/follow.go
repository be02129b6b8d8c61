package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// more returns what was written since the last look, a bounded part of it at a
// time.
func (t *tailer) more() ([]Entry, error) {
	chains, err := findChains(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // not yet
	}
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, c := range chains {
		p, known := t.seen[c.path]
		if !known {
			p = &place{part: 1}
			if len(c.parts) > 0 {
				p.part = c.parts[0]
			}
			t.seen[c.path] = p
		}
		if entries, err = p.read(c, entries); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return byTime(entries), nil
}

// read adds what stands behind p in the chain, and moves p. Between two looks
// the chain may have been rotated, also more than once.
func (p *place) read(c chainFiles, entries []Entry) ([]Entry, error) {
	info, err := os.Stat(c.path)
	if err == nil && p.info != nil && os.SameFile(info, p.info) && info.Size() == p.info.Size() {
		return entries, nil // nothing new, the usual case
	}
	for {
		f, err := openPart(c.path, p.part)
		if errors.Is(err, os.ErrNotExist) {
			return entries, nil
		}
		if err != nil {
			return entries, err
		}
		var all bool
		entries, all, err = p.readFile(f, c.path, entries)
		// A file that has its number is not written any more.
		numbered := f.Name() == partPath(c.path, p.part)
		if err = errors.Join(err, f.Close()); err != nil || !all || !numbered {
			return entries, err
		}
		*p = place{part: p.part + 1}
	}
}

// readFile adds the whole lines behind p in a file, up to a bound, and moves p
// behind them. all says that it has come to the end.
func (p *place) readFile(f *os.File, chain string, entries []Entry) (_ []Entry, all bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return entries, false, err
	}
	if _, err := f.Seek(p.off, io.SeekStart); err != nil {
		return entries, false, err
	}
	from := p.off
	for lines := newLineReader(io.LimitReader(f, info.Size()-from), from); p.off-from < tailRound; {
		text, _, whole, err := lines.next()
		if err != nil || !whole {
			p.info = info // looked at up to here
			return entries, true, err
		}
		p.off = lines.off
		if e, ok := entry(chain, text); ok {
			entries = append(entries, e)
		}
	}
	p.info = nil // there may be more
	return entries, false, nil
}
