package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"

	jsonv2 "github.com/go-json-experiment/json"
)

// headSize is the size of a head file: one sector, so that it is written whole
// or not at all.
const headSize = 512

// mark is what a head file says: the chain had got to this record, which ends
// at Size in file number Part.
type mark struct {
	Version int    `json:"v"`
	Chain   string `json:"chain"`
	Part    uint64 `json:"part"`
	Seq     uint64 `json:"seq"`
	Size    int64  `json:"size"`
	Head    string `json:"head"`
	MAC     string `json:"mac"`
}

func (m *mark) position() position {
	p := position{seq: m.Seq}
	copy(p.mac[:], m.Head)
	return p
}

// encode appends the mark, sealed and padded to headSize.
func (m *mark) encode(buf []byte, key *macer) []byte {
	buf = append(buf, `{"v":1,"chain":"`...)
	buf = append(buf, m.Chain...)
	buf = append(buf, `","part":`...)
	buf = strconv.AppendUint(buf, m.Part, 10)
	buf = append(buf, `,"seq":`...)
	buf = strconv.AppendUint(buf, m.Seq, 10)
	buf = append(buf, `,"size":`...)
	buf = strconv.AppendInt(buf, m.Size, 10)
	buf = append(buf, `,"head":"`...)
	buf = append(buf, m.Head...)
	buf = append(buf, '"')
	buf, _ = key.seal(buf, 0)
	for len(buf) < headSize-1 {
		buf = append(buf, ' ')
	}
	return append(buf, '\n')
}

var (
	errNoHead  = errors.New("the head file is empty")
	errBadHead = errors.New("the head file was altered, or was written with another key")
)

// readMark reads a head file. It is written in place, so a reader that is not
// its writer may see half of a change, and looks again.
func readMark(f io.ReaderAt, key *macer) (mark, error) {
	var m mark
	var err error
	for range 5 {
		buf := make([]byte, headSize+1)
		n, rerr := f.ReadAt(buf, 0)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return m, rerr
		}
		if n == 0 {
			return m, errNoHead
		}
		line := bytes.TrimRight(buf[:n], " \n")
		if _, ok := key.open(line); n == headSize && ok {
			if err := jsonv2.Unmarshal(line, &m); err != nil {
				return m, err
			}
			// No byte may differ, not even one of the padding.
			if bytes.Equal(m.encode(nil, key), buf[:n]) {
				return m, nil
			}
		}
		err = errBadHead
	}
	return m, err
}

// headFile is the open and locked head file of a chain that is being written.
type headFile struct {
	f    *os.File
	info os.FileInfo
	key  *macer

	mu  sync.Mutex
	buf []byte
	seq uint64
	any bool
}

// write makes m the head, unless a later one stands there already.
func (h *headFile) write(m mark) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.any && m.Seq <= h.seq {
		return nil
	}
	h.buf = m.encode(h.buf[:0], h.key)
	if _, err := h.f.WriteAt(h.buf, 0); err != nil {
		return fmt.Errorf("audit: %s: %w", h.f.Name(), err)
	}
	h.seq, h.any = m.Seq, true
	return nil
}
