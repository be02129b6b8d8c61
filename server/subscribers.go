package server

import (
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/fault"
)

// subscribers bounds what is subscribed to, and knows the sessions of older
// revisions that subscribed and their streams. A session has one subscriber and one
// stream at most, and keeps its subscriber to its end: so the bound on sessions is
// one on these.
type subscribers struct {
	mu         sync.Mutex
	max, maxOf int
	uris       int                    // in all
	urisOf     map[string]int         // by principal
	sessions   map[string]*subscriber // by id, which is empty over stdio
	streams    map[string]*standing   // open ones, by session
}

// standing is a stream on which notifications go out that belong to no request: the
// answer to a session's GET, or stdout.
type standing struct{ from *caller }

func newSubscribers(limit, perOwner int) *subscribers {
	return &subscribers{
		max: limit, maxOf: perOwner, urisOf: make(map[string]int),
		sessions: make(map[string]*subscriber), streams: make(map[string]*standing),
	}
}

// take makes room for an owner's URIs; give gives it back.
func (r *subscribers) take(owner string, n int) *fault.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.urisOf[owner]+n > r.maxOf:
		full := fault.New(fault.RateLimited, "too many subscriptions of this principal; end some, or subscribe to a folder")
		full.RetryAfter = sessionRetry
		return full
	case r.uris+n > r.max:
		full := fault.New(fault.Unavailable, "too many subscriptions at this server")
		full.RetryAfter = sessionRetry
		return full
	}
	r.uris += n
	r.urisOf[owner] += n
	return nil
}

func (r *subscribers) give(owner string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uris -= n
	if r.urisOf[owner] -= n; r.urisOf[owner] <= 0 {
		delete(r.urisOf, owner)
	}
}

// of is a session's subscriber, made if there is none yet; nil at shutdown.
func (r *subscribers) of(s *Server, session *mcp.ServerSession, c *caller) *subscriber {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.sessions[session.ID()]; b != nil {
		return b
	}
	if !s.flows.enter() {
		return nil
	}
	b := newSubscriber(s, session)
	if c.transport == transportStdio {
		b.stdio = &standing{from: c}
	}
	r.sessions[session.ID()] = b
	go b.watch()
	go b.run()
	return b
}

// find is a session's subscriber; nil if it has none.
func (r *subscribers) find(session string) *subscriber {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[session]
}

func (r *subscribers) forget(session string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, session)
}

// opened tells that a session's stream is open, closed that it has ended.
func (r *subscribers) opened(session string, on *standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[session] = on
	if b := r.sessions[session]; b != nil {
		b.signal()
	}
}

func (r *subscribers) closed(session string, on *standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams[session] == on {
		delete(r.streams, session)
	}
}

// stream is a session's open stream, if there is one.
func (r *subscribers) stream(session string) *standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streams[session]
}
