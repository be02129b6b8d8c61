package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// checker follows one chain through its files.
type checker struct {
	files   chainFiles
	keys    keys
	partial bool
	here    map[string]bool // the chains in the folder; nil: not looked at
	rep     ChainReport
	w       walker
	lines   *lineReader

	head    mark
	hasHead bool // head is good
	reached bool // the record that head names was seen in its place

	file  string // the file being read, for findings
	part  uint64 // its number in the chain
	line  int
	off   int64  // where the line ends
	start bool   // nothing of the chain was read yet
	fresh bool   // the record that opens the file was not seen yet
	last  Record // the record last seen in it
	calls calls
}

func newChecker(files chainFiles, k keys, partial bool) *checker {
	c := &checker{files: files, keys: k, partial: partial, start: true, part: 1}
	c.lines = newLineReader(nil, 0)
	c.rep = ChainReport{Path: files.path, OK: true, Kinds: map[Kind]uint64{}, Notes: []Finding{}, Problems: []Finding{}}
	c.calls = newCalls()
	c.w = walker{mac: newMacer(k.chain), at: start(), seen: c.seen, problem: func(line int, what string) {
		c.rep.problem(Finding{c.file, line, what})
	}, note: func(line int, what string) {
		c.rep.note(Finding{c.file, line, what})
	}}
	return c
}

func (c *checker) problem(line int, format string, args ...any) {
	c.rep.problem(Finding{c.file, line, fmt.Sprintf(format, args...)})
}

func (c *checker) note(line int, format string, args ...any) {
	c.rep.note(Finding{c.file, line, fmt.Sprintf(format, args...)})
}

func (c *checker) missing(format string, args ...any) {
	c.rep.missing(Finding{c.file, 0, fmt.Sprintf(format, args...)}, c.partial)
}

// run checks the chain.
func (c *checker) run() ChainReport {
	// The head is read first: all that it names is in the files by then, and
	// stays there.
	var headErr error
	c.head, c.rep.Writing, headErr = headOf(c.files.path, newMacer(c.keys.head))
	c.hasHead = headErr == nil
	err := c.all()
	if errors.Is(err, errWrongKey) {
		return c.rep
	}
	if err != nil {
		c.problem(0, "cannot be read: %v", err)
	}
	c.end(headErr)
	if !c.rep.OK && !c.rep.Writing {
		_, c.rep.Writing, _ = headOf(c.files.path, newMacer(c.keys.head))
	}
	return c.rep
}

// all reads the numbered files and then the current one.
func (c *checker) all() error {
	for _, part := range c.files.parts {
		c.file = partPath(c.files.path, part)
		if c.start {
			c.part = part
		}
		if part > c.part {
			c.problem(0, "file number %d, which comes before it, is missing", c.part)
		}
		c.part = part
		f, err := openFile(c.file)
		if err != nil {
			return err
		}
		if err := c.read(f, false); err != nil {
			return err
		}
		c.part++
	}
	for {
		c.file = c.files.path
		f, err := openPart(c.files.path, c.part)
		if errors.Is(err, os.ErrNotExist) {
			c.noCurrent()
			return nil
		}
		if err != nil {
			return err
		}
		// It may have been rotated since the files were listed.
		rotated := f.Name() == partPath(c.files.path, c.part)
		c.file = f.Name()
		if err := c.read(f, !rotated); err != nil || !rotated {
			return err
		}
		c.part++
	}
}

// noCurrent judges a chain without a current file.
func (c *checker) noCurrent() {
	switch {
	case c.hasHead && c.head.Seq == 0 && len(c.files.parts) == 0:
		c.note(0, "nothing was written to it yet")
	case c.partial && !c.hasHead && len(c.files.parts) > 0:
		c.note(0, "the files after number %d are not here", c.part-1)
	default:
		c.problem(0, "the file is gone")
	}
}

// read checks one file, as long as it is now, and closes it.
func (c *checker) read(f *os.File, current bool) error {
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c.rep.Files++
	c.fresh, c.last, c.off = true, Record{}, 0
	c.lines.reset(io.LimitReader(f, info.Size()))
	for {
		text, size, whole, err := c.lines.next()
		if err != nil {
			return err
		}
		c.line = c.lines.line
		if size > 0 && whole {
			c.off = c.lines.off
			if err := c.begin(text); err != nil {
				return err
			}
			c.w.take(c.line, text, size)
			continue
		}
		c.w.flush()
		c.tail(text, size, current)
		return nil
	}
}

// begin looks at the first line of all: it says which key the chain has, and,
// if earlier files are not here, where the chain goes on.
func (c *checker) begin(text []byte) error {
	if !c.start {
		return nil
	}
	c.start = false
	if _, ok := c.w.mac.open(text); !ok {
		// If the head is good, so is the key.
		if other, ok := foreign(text, c.keys); ok && !c.hasHead {
			c.problem(1, "written with another key: its fingerprint is %s, that of the key given %s", other, c.keys.fingerprint)
			return errWrongKey
		}
		return nil
	}
	r, err := Parse(text)
	if err != nil || r.Kind != Opened || r.Part < 2 || r.File == "" {
		return nil //nolint:nilerr // what cannot be read is told when its turn comes
	}
	if len(c.files.parts) == 0 {
		c.part = r.Part // only the current file is here, and it alone knows
	}
	c.w.at.seq = r.Seq - 1
	copy(c.w.at.mac[:], r.Prev)
	c.missing("the chain begins with file number %d here; what came before is missing", r.Part)
	return nil
}

// tail looks at the end of a file: size bytes of a partial line stand there.
func (c *checker) tail(text []byte, size int64, current bool) {
	switch {
	case !current && size > 0:
		c.problem(c.line, "the last line is not whole")
	case !current && (c.last.Kind != Rotate):
		c.problem(c.line, "the file does not end with the record of its rotation")
	case size > 0 && !c.rep.Writing && c.w.next(text):
		c.note(c.line, "record %d stands whole at the end, but for its line end: the process ended in the middle of a write, "+
			"or somebody took the line end away", c.w.at.seq+1)
	case size > 0 && !c.rep.Writing:
		c.note(c.line, "%d bytes of a partial record stand at the end: the process ended in the middle of a write", size)
	}
}

// seen takes note of a good record.
func (c *checker) seen(r Record) {
	c.rep.Records++
	c.rep.Kinds[r.Kind]++
	if c.rep.First.IsZero() {
		c.rep.First = r.Time
	}
	c.rep.Last = r.Time
	// A file begins with the record that opens it; before it can only stand that
	// of a first write that was torn.
	if c.fresh && r.Kind != Opened && (r.Kind != Recovery || c.last.Seq != 0) {
		c.fresh = false
		c.problem(c.line, "the file does not begin with the record that opens it")
	}
	base := filepath.Base(c.files.path)
	switch r.Kind {
	case Opened:
		c.opened(&r, base)
	case Recovery:
		c.rep.Refused += r.Refused
		if r.Unsynced > 0 {
			c.note(c.line, "forcing the %d records before this file to the disk had failed: callers who waited for it were refused, "+
				"and %d records after them", r.Unsynced, r.Refused)
			break
		}
		c.note(c.line, "writing had failed and went on: %d records refused, %d bytes taken off, %d bytes skipped", r.Refused, r.Cut, r.Torn)
	case Rotate:
		if r.File != partPath(base, c.part) {
			c.problem(c.line, "the rotation does not fit the file's number")
		}
	case Attempt, Outcome:
		c.calls.take(&r)
	default:
	}
	if c.hasHead && r.Seq == c.head.Seq {
		c.reached = r.MAC == c.head.Head && c.part == c.head.Part && c.off == c.head.Size
	}
	c.last = r
}

// opened checks the record at the start of a file or of a process.
func (c *checker) opened(r *Record, base string) {
	if c.rep.chain == "" {
		c.rep.chain = r.Chain
	}
	if c.fresh && r.Part > c.part && c.file == c.files.path {
		c.problem(0, "file number %d, which comes before it, is missing", r.Part-1)
		c.part = r.Part
	}
	if !c.fresh && !closed(&c.last) {
		c.note(c.line, "the process before it ended without closing the chain; what that wrote after record %d could have been cut off unseen", c.last.Seq)
	}
	before := ""
	if c.fresh && r.Part > 1 {
		before = partPath(base, r.Part-1)
	}
	c.fresh = false
	if r.Chain != c.rep.chain || r.Key != c.keys.fingerprint || r.Part != c.part || r.File != before ||
		c.hasHead && r.Chain != c.head.Chain {
		c.problem(c.line, "the opening record belongs to another place")
	}
	if c.here != nil {
		c.lookBeside(r)
	}
}

// closed reports whether a record is what a process writes last.
func closed(r *Record) bool { return r.Kind == Checkpoint && r.Detail == closedDetail }

// end compares the chain with its head file and says how it ended.
func (c *checker) end(headErr error) {
	current := c.file
	c.file = headPath(c.files.path)
	switch {
	case errors.Is(headErr, os.ErrNotExist):
		c.missing("the head file is gone: how far the chain had got is not known")
	case headErr != nil:
		c.problem(0, "%v", headErr)
	case c.head.Seq > c.w.at.seq:
		c.problem(0, "the end of the chain was cut off: it had got to record %d and ends at %d", c.head.Seq, c.w.at.seq)
	case c.head.Seq > 0 && !c.reached:
		c.problem(0, "record %d is not the one that stood there", c.head.Seq)
	}
	c.file = current
	if c.rep.Records > 0 && !c.rep.Writing && c.hasHead && !closed(&c.last) {
		c.note(0, "the process that wrote it ended without closing it; what it wrote after record %d could be cut off unseen", c.head.Seq)
	}
	c.rep.Unanswered = c.calls.unanswered()
	if n := c.rep.Unanswered; n > 0 && !c.rep.Writing {
		c.note(0, "%d attempts have no outcome: the process ended, or the trail failed, before it was known", n)
	}
	if c.calls.lost {
		c.note(0, "too many calls at once to match every attempt with its outcome")
	}
}
