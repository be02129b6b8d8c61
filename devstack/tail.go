package devstack

import (
	"strings"
	"sync"
)

// logKept is how much of a server's output is kept, in bytes.
const logKept = 256 << 10

// tail is a writer that keeps the last bytes written to it.
type tail struct {
	max int
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	// Twice the size before it is cut, so that a byte is not moved for each write.
	if len(t.buf) > 2*t.max {
		t.buf = append([]byte(nil), t.buf[len(t.buf)-t.max:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf[max(0, len(t.buf)-t.max):])
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = nil
}

// after returns the word that follows a label.
func (t *tail) after(label string) (string, bool) {
	_, rest, _ := strings.Cut(t.String(), label)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return "", false
	}
	return words[0], true
}
