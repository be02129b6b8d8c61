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

// subscribe has one more URI heard, if it is permitted.
func (b *subscriber) subscribe(c *caller, p *auth.Principal, uri string, permit func() (*tools.Listening, error)) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	room, full := b.reserve(p, uri)
	if full != nil {
		return b.s.reject(c, p, full)
	}
	heard := false
	defer func() { // also where something panicked
		if !heard {
			b.s.subscribers.give(p.ID(), room)
		}
	}()
	l, err := permit()
	if err == nil {
		heard = b.add(c, p, l)
	}
	return err
}

// reserve makes room for one more URI, if it is one.
func (b *subscriber) reserve(p *auth.Principal, uri string) (room int, full *fault.Error) {
	b.mu.Lock()
	asked := b.asked(p)
	b.mu.Unlock()
	switch {
	case slices.Contains(asked, uri):
		return 0, nil
	case len(asked) >= tools.MaxListenURIs:
		return 0, fault.Field("/uri", "the session has as many subscriptions as it may, which is "+strconv.Itoa(tools.MaxListenURIs))
	}
	return 1, b.s.subscribers.take(p.ID(), 1)
}

// asked are the URIs that are subscribed to for a principal.
func (b *subscriber) asked(p *auth.Principal) []string {
	if b.heard == nil || b.owner != p.ID() {
		return nil
	}
	return b.heard.Asked()
}

// add has what was permitted heard. It is false where the session is over.
func (b *subscriber) add(c *caller, p *auth.Principal, l *tools.Listening) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if b.heard != nil {
		if both, same := b.heard.With(l); same {
			l = both
		} else { // over stdio: the process has another credential now
			b.drop()
		}
	}
	b.from, b.owner = c, p.ID()
	b.hear(l)
	return true
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
	b.hear(rest)
	b.waiting.keep(rest.Gives)
	b.sent.keep(rest.Gives)
}

// hear has what is heard replaced, and loses nothing: what the old feed has is
// taken when the new one is there. Where there is none, the next check makes one.
func (b *subscriber) hear(all *tools.Listening) {
	old := b.feed
	if old != nil || b.heard == nil {
		b.feed = b.s.subscribeTo(all)
	}
	if old != nil {
		old.Close()
		b.collect(b.heard, old.Take())
	}
	b.heard = all
	b.signal()
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
