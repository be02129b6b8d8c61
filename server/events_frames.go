package server

import (
	"sync"

	"vault-mcp/events"
)

// maxFrames bounds the frames that are kept.
const maxFrames = 1024

// frames are events as they are written, kept for a while: a thousand streams of
// one principal are told the same, and it is put into words once.
type frames struct {
	mu   sync.Mutex
	kept map[frameOf][]byte
}

// frameOf is an event as one principal sees it.
type frameOf struct {
	event *events.Event
	view  string
}

// of is a frame, made unless it is kept. It is not to be changed.
func (f *frames) of(e *events.Event, view string, frame func() []byte) []byte {
	key := frameOf{e, view}
	f.mu.Lock()
	kept, ok := f.kept[key]
	f.mu.Unlock()
	if ok {
		return kept
	}
	made := frame() // perhaps by several at once, to whom it comes out alike
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.kept) >= maxFrames || f.kept == nil {
		f.kept = make(map[frameOf][]byte, maxFrames)
	}
	f.kept[key] = made
	return made
}
