package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// The files of the chain at path.
func headPath(path string) string { return path + ".head" }
func nextPath(path string) string { return path + ".next" }
func partPath(path string, part uint64) string {
	return fmt.Sprintf("%s.%06d", path, part)
}

// partOf takes the number off the name of an earlier file.
func partOf(name string) (path string, part uint64, ok bool) {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name)-dot-1 < 6 {
		return name, 0, false
	}
	part, err := strconv.ParseUint(name[dot+1:], 10, 63)
	if err != nil || part == 0 || partPath(name[:dot], part) != name {
		return name, 0, false
	}
	return name[:dot], part, true
}

func exists(path string) (bool, error) {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// lineReader reads lines in bounded memory.
type lineReader struct {
	r    *bufio.Reader
	off  int64 // where the line last read ended
	line int   // its number
}

func newLineReader(r io.Reader, off int64) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 4*maxRecord), off: off}
}

// reset makes l read another file from its beginning.
func (l *lineReader) reset(r io.Reader) {
	l.r.Reset(r)
	l.off, l.line = 0, 0
}

// next reads a line: its text without the line end (good until the next call;
// nil if it is far longer than a record can be), the bytes it takes, and
// whether it has a line end. At the end of the file, size is 0.
func (l *lineReader) next() (text []byte, size int64, whole bool, err error) {
	for {
		b, err := l.r.ReadSlice('\n')
		long := size > 0
		size += int64(len(b))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, 0, false, err
		case size == 0:
			return nil, 0, false, nil
		}
		l.off += size
		l.line++
		whole = err == nil
		if long {
			return nil, size, whole, nil
		}
		return bytes.TrimSuffix(b, []byte{'\n'}), size, whole, nil
	}
}

// walker follows a chain, line by line, and says where it breaks.
type walker struct {
	mac     *macer
	at      position
	seen    func(Record)                // each good record
	problem func(line int, what string) // each thing that is wrong
	note    func(line int, what string) // what is worth knowing; nil: nobody wants to

	bad      []int // numbers of lines that are not of the chain, since the last good one
	badCount uint64
	badBytes uint64
	fenced   int // the line among them that was a whole record before it was fenced off
}

// maxBad bounds how many bad lines in a row are reported one by one.
const maxBad = 100

// take follows one whole line.
func (w *walker) take(line int, text []byte, size int64) {
	if _, ok := w.mac.open(text); !ok {
		if len(w.bad) < maxBad {
			w.bad = append(w.bad, line)
		}
		w.badCount++
		w.badBytes += uint64(size)
		if was, is := bytes.CutSuffix(text, []byte(fence[:1])); is && w.next(was) {
			w.fenced = line
		}
		return
	}
	r, err := Parse(text)
	if err != nil || r.Version != 1 {
		w.flush()
		w.problem(line, "this version cannot read the record")
		return
	}
	w.link(line, &r)
	w.seen(r)
}

// link compares a good record with the place where the chain was.
func (w *walker) link(line int, r *Record) {
	follows := r.Seq == w.at.seq+1 && r.Prev == string(w.at.mac[:])
	explained := follows && r.Kind == Recovery && r.Torn == w.badBytes
	skipped := w.badCount
	if explained {
		if w.fenced > 0 && w.note != nil {
			w.note(w.fenced, fmt.Sprintf("a whole record with the number %d stands here fenced off, since its line end was missing", r.Seq))
		}
		w.clear()
	}
	w.flush()
	switch {
	case follows:
	case r.Seq <= w.at.seq:
		w.problem(line, fmt.Sprintf("record %d stands here again, or out of order", r.Seq))
		return
	case r.Seq == w.at.seq+1+skipped && skipped > 0:
		// The altered lines before this one were the records in between.
	case r.Seq > w.at.seq+1:
		w.problem(line, missing(w.at.seq+1, r.Seq-1)+" missing before this line")
	default:
		w.problem(line, fmt.Sprintf("record %d does not follow the one before it", r.Seq))
	}
	if r.Kind == Recovery && r.Torn != 0 && !explained {
		w.problem(line, "the recovery does not fit what stands before it")
	}
	if r.Kind == Checkpoint && r.Count != r.Seq-1 {
		w.problem(line, "the checkpoint does not fit its place")
	}
	w.at.seq = r.Seq
	copy(w.at.mac[:], r.MAC)
}

// flush reports the bad lines so far.
func (w *walker) flush() {
	for _, line := range w.bad {
		w.problem(line, "altered or inserted: the line's MAC does not fit")
	}
	if more := w.badCount - uint64(len(w.bad)); more > 0 {
		w.problem(w.bad[len(w.bad)-1], fmt.Sprintf("and %d more lines after it", more))
	}
	w.clear()
}

func (w *walker) clear() {
	w.bad, w.badCount, w.badBytes, w.fenced = w.bad[:0], 0, 0, 0
}

// next reports whether a text is the record that comes next in the chain.
func (w *walker) next(text []byte) bool {
	if _, ok := w.mac.open(text); !ok {
		return false
	}
	r, err := Parse(text)
	return err == nil && r.Seq == w.at.seq+1 && r.Prev == string(w.at.mac[:])
}

// missing says which records are.
func missing(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("record %d is", first)
	}
	return fmt.Sprintf("records %d to %d are", first, last)
}
