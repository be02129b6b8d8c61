package server

import (
	"sync"

	"vault-mcp/fault"
)

// sessions counts what one caller can hold open at the server: sessions of the
// older protocol revisions, and streams of the newer. The SDK has no bound.
//
// A session that ended is noticed when the next one asks for its seat; until
// then its id is one small entry, of which there are never more than the bound.
// The session itself is not held: the SDK's holds what its client sent.
type sessions struct {
	mu         sync.Mutex
	max, maxOf int
	seats      map[*seat]struct{}
}

// seat is one place among them, held for a principal. It is without a session
// between the reservation and the session's start.
type seat struct {
	of      *sessions
	owner   string
	session string // id
}

func newSessions(limit, perOwner int) *sessions {
	return &sessions{max: limit, maxOf: perOwner, seats: make(map[*seat]struct{})}
}

// reserve takes a place for an owner. open are the SDK's sessions, asked only
// when there seems to be no room.
func (s *sessions) reserve(owner string, open func() map[string]bool) (*seat, *fault.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.room(owner) {
		living := open()
		for st := range s.seats {
			if st.session != "" && !living[st.session] {
				delete(s.seats, st)
			}
		}
	}
	if !s.room(owner) {
		kind, msg := fault.RateLimited, "too many sessions of this principal; end one, or let one expire"
		if len(s.seats) >= s.max {
			kind, msg = fault.Unavailable, "too many sessions at this server"
		}
		full := fault.New(kind, msg)
		full.RetryAfter = sessionRetry
		return nil, full
	}
	st := &seat{of: s, owner: owner}
	s.seats[st] = struct{}{}
	return st, nil
}

func (s *sessions) room(owner string) bool {
	held := 0
	for st := range s.seats {
		if st.owner == owner {
			held++
		}
	}
	return len(s.seats) < s.max && held < s.maxOf
}

// take gives the seat to the session that it was reserved for, also where the
// client hung up meanwhile and the seat was released: the session lives. A nil
// seat, as over stdio, takes none.
func (st *seat) take(session string) {
	if st == nil {
		return
	}
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	st.session = session
	st.of.seats[st] = struct{}{}
}

// release gives the seat back, unless a session took it.
func (st *seat) release() {
	if st == nil {
		return
	}
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	if st.session == "" {
		delete(st.of.seats, st)
	}
}

// open are the ids of the SDK's sessions of now.
func (s *Server) open() map[string]bool {
	living := make(map[string]bool)
	for session := range s.mcp.Sessions() {
		living[session.ID()] = true
	}
	return living
}
