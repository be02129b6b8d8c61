package server

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// subscriber is a session of an older revision, with what it subscribed to.
//
// Over HTTP its stream comes and goes. What changes meanwhile waits; and what was
// sent on one stream is sent again on the next, since nobody knows how much of it
// was still under way when the first one broke.
//
// Where its credential gives it no right any more, it hears nothing. The
// subscriptions stay, for a client that renews its credential cannot know that
// they were gone: when the session shows a good one, it is told of all that may
// have changed.
type subscriber struct {
	s       *Server
	session *mcp.ServerSession
	stdio   *standing // over stdio
	wake    chan struct{}
	over    context.Context //nolint:containedctx // ends with the session, and with the server's streams
	end     context.CancelFunc

	changing sync.Mutex // held while what is subscribed to changes

	mu      sync.Mutex
	closed  bool
	from    *caller              // who showed a credential last
	owner   string               // principal of what is heard
	heard   *tools.Listening     // nil: nothing
	feed    *events.Subscription // nil: nothing may be heard now
	missed  bool                 // changes were missed, or may have been
	waiting uriSet               // to be sent
	sent    uriSet               // on served
	served  *standing            // the stream that was last sent to
	broken  bool                 // nothing more can be sent on it
}

// maxWaiting bounds the changes that wait for one session, and those remembered
// as sent. Beyond it, the session is told of all that it subscribed to in place of
// each change.
const maxWaiting = 1024

func newSubscriber(s *Server, session *mcp.ServerSession) *subscriber {
	b := &subscriber{s: s, session: session, wake: make(chan struct{}, 1)}
	b.over, b.end = context.WithCancel(s.streams)
	return b
}

// reserve makes room for one more URI, if it is one. changing is held from here
// until add.
func (b *subscriber) reserve(p *auth.Principal, uri string) *fault.Error {
	b.changing.Lock()
	b.mu.Lock()
	asked := b.asked(p)
	b.mu.Unlock()
	full := (*fault.Error)(nil)
	switch {
	case slices.Contains(asked, uri):
	case len(asked) >= tools.MaxListenURIs:
		full = fault.Field("/uri", "the session has as many subscriptions as it may, which is "+strconv.Itoa(tools.MaxListenURIs))
	default:
		full = b.s.subscribers.take(p.ID(), 1)
	}
	if full != nil {
		b.changing.Unlock()
	}
	return full
}

// asked are the URIs that are subscribed to for a principal.
func (b *subscriber) asked(p *auth.Principal) []string {
	if b.heard == nil || b.owner != p.ID() {
		return nil
	}
	return b.heard.Asked()
}

// add has a URI heard that was reserved and then permitted; nil: it was not.
func (b *subscriber) add(c *caller, p *auth.Principal, uri string, l *tools.Listening) {
	defer b.changing.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	had := slices.Contains(b.asked(p), uri)
	if l == nil || b.closed {
		if !had {
			b.s.subscribers.give(p.ID(), 1)
		}
		return
	}
	all := l
	if b.heard != nil {
		both, same := b.heard.With(l)
		if same {
			all = both
		} else { // over stdio: the process has another credential now
			b.drop()
		}
	}
	b.from, b.owner = c, p.ID()
	b.hear(all)
	b.signal()
}

// remove ends the subscription to a URI, if there is one.
func (b *subscriber) remove(uri string) {
	b.changing.Lock()
	defer b.changing.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard == nil || !slices.Contains(b.heard.Asked(), uri) {
		return
	}
	rest := b.heard.Without(uri)
	if rest == nil {
		b.drop()
		return
	}
	b.s.subscribers.give(b.owner, 1)
	if b.feed != nil {
		b.hear(rest)
	}
	b.heard = rest
	b.waiting.keep(rest.Gives)
	b.sent.keep(rest.Gives)
}

// hear has what is heard replaced, and loses nothing: what the old feed has is
// taken when the new one is there.
func (b *subscriber) hear(all *tools.Listening) {
	old := b.feed
	b.feed = b.s.subscribeTo(all)
	if old != nil {
		old.Close()
		b.collect(b.heard, old.Take())
	} else if b.heard != nil {
		b.missed = true
	}
	b.heard = all
}

// drop ends all of it.
func (b *subscriber) drop() {
	if b.heard != nil {
		b.s.subscribers.give(b.owner, len(b.heard.Asked()))
	}
	b.silence()
	b.heard, b.missed = nil, false
}

// silence has nothing heard any more, and remembers that.
func (b *subscriber) silence() {
	if b.feed != nil {
		b.feed.Close()
	}
	b.feed, b.missed = nil, true
	b.waiting, b.sent = uriSet{}, uriSet{}
}

// collect has what a batch tells of wait to be sent.
func (b *subscriber) collect(heard *tools.Listening, batch events.Batch) {
	for _, uri := range changes(heard, batch) {
		if !b.waiting.add(uri) {
			b.waiting, b.missed = uriSet{}, true
			return
		}
	}
}

func (b *subscriber) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// watch ends the subscriber with its session.
func (b *subscriber) watch() {
	_ = b.session.Wait()
	b.end()
}

// run is the one goroutine that sends to the session.
func (b *subscriber) run() {
	defer b.close()
	tick := time.NewTicker(b.s.opt.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-b.over.Done():
			return
		case <-tick.C:
		case <-b.wake:
		case <-b.ready():
		}
		b.tell()
	}
}

func (b *subscriber) close() {
	defer b.s.flows.leave()
	b.end()
	b.s.subscribers.forget(b.session.ID())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.drop()
}

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
	if b.missed {
		b.missed = false
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
