package server

import (
	"bufio"
	"errors"
	"io"
)

// Sizes of the line reader's buffers.
const (
	lineChunk = 64 << 10
	lineKept  = 1 << 20 // a longer line's buffer is not kept for the next
)

// errLineTooLong reports a line over the bound. It was read to its end and
// dropped as it came, so it took no memory; reading goes on.
var errLineTooLong = errors.New("line too long")

// lineReader reads lines of bounded length.
type lineReader struct {
	r    *bufio.Reader
	long []byte // a line that does not fit the reader's buffer
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, lineChunk)}
}

// next returns the next line without its end. The slice is good until the next
// call. The last line may lack its end; after it comes io.EOF.
func (l *lineReader) next() ([]byte, error) {
	if cap(l.long) > lineKept {
		l.long = nil
	}
	l.long = l.long[:0]
	dropped := false
	for {
		chunk, err := l.r.ReadSlice('\n')
		if err == nil {
			chunk = chunk[:len(chunk)-1]
		}
		switch {
		case dropped:
		case len(l.long)+len(chunk) > MaxMessage:
			dropped, l.long = true, nil
		case len(l.long) == 0 && err == nil:
			return chunk, nil
		default:
			l.long = append(l.long, chunk...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil && (!errors.Is(err, io.EOF) || (len(l.long) == 0 && !dropped)):
			return nil, err
		case dropped:
			return nil, errLineTooLong
		default:
			return l.long, nil
		}
	}
}
