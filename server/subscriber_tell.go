package server

import (
	"time"

	"vault-mcp/events"
	"vault-mcp/tools"
)

// What a subscriber does with what it hears.

// stream is where the session's notifications can go out now; nil: nowhere.
func (b *subscriber) stream() *standing {
	if b.stdio != nil {
		return b.stdio
	}
	on := b.s.subscribers.stream(b.session.ID())
	if on == b.served && b.broken {
		return nil
	}
	return on
}

// hearsSome reports whether something is subscribed to.
func (b *subscriber) hearsSome() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard != nil
}

// ready tells of changes, where they can be sent.
func (b *subscriber) ready() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.feed == nil || b.stream() == nil {
		return nil
	}
	return b.feed.Ready()
}

// tell sends what is to be sent, as far as the session may hear of it and its
// stream takes it.
func (b *subscriber) tell() {
	b.mu.Lock()
	heard, from, on := b.heard, b.from, b.stream()
	b.mu.Unlock()
	if heard == nil {
		return
	}
	if on != nil {
		from = on.from
	}
	checked := time.Now()
	uris := b.due(heard, on, b.s.mayHear(b.over, from, heard))
	for i, uri := range uris {
		if time.Since(checked) > b.s.opt.Recheck/2 { // to be checked again
			b.putBack(uris[i:], false)
			return
		}
		if b.s.updated(b.over, b.session, uri, nil) != nil {
			b.putBack(uris[i:], true)
			return
		}
		b.note(uri)
	}
}

// due are the URIs to be sent now on a stream, if what is heard is permitted.
func (b *subscriber) due(heard *tools.Listening, on *standing, permitted bool) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.heard != heard: // it changed meanwhile, which was signalled
		return nil
	case !permitted:
		b.silence()
		return nil
	case b.feed == nil:
		b.feed = b.s.subscribeTo(heard)
	}
	if on == nil {
		return nil
	}
	b.from = on.from
	if on != b.served {
		for uri := range b.sent.all() {
			if !b.waiting.add(uri) {
				b.missed = true
			}
		}
		b.served, b.broken, b.sent = on, false, uriSet{}
	}
	b.collect(heard, b.feed.Take())
	if b.missed { // what waits is below what was asked for, and as good as told by it
		b.missed, b.waiting = false, uriSet{}
		b.collect(heard, events.Batch{Gap: true})
	}
	return b.waiting.take()
}

// putBack has URIs wait that could not be sent.
func (b *subscriber) putBack(uris []string, broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = broken
	for _, uri := range uris {
		if b.heard != nil && b.heard.Gives(uri) && !b.waiting.add(uri) {
			b.missed = true
		}
	}
	if !broken {
		b.signal()
	}
}

// note remembers that a change was sent.
func (b *subscriber) note(uri string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard != nil && b.heard.Gives(uri) && !b.sent.add(uri) {
		b.sent = uriSet{}
		for _, all := range b.heard.Asked() {
			b.sent.add(all)
		}
	}
}
