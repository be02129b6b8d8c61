package server

import (
	"sync"

	"vault-mcp/fault"
)

// sessions counts what one caller can hold open at the server: sessions of the
// older protocol revisions, and streams of the newer, for which the SDK has no
// bound; and the streams of /events.
//
// A session that ended is noticed when the next one asks for its seat; until
// then its id is one small entry, of which there are never more than the bound.
// The session itself is not held: the SDK's holds what its client sent.
type sessions struct {
	what       string // for whoever finds no room
	mu         sync.Mutex
	max, maxOf int
	seats      map[*seat]struct{}
	held       map[string]int // by owner
}

// seat is one place among them, held for a principal. It is without a session
// between the reservation and the session's start.
type seat struct {
	of      *sessions
	owner   string
	session string // id
}

func newSessions(what string, limit, perOwner int) *sessions {
	return &sessions{what: what, max: limit, maxOf: perOwner, seats: make(map[*seat]struct{}), held: make(map[string]int)}
}

// reserve takes a place for an owner. open are the SDK's sessions, asked only
// when there seems to be no room; nil where they take no seats.
func (s *sessions) reserve(owner string, open func() map[string]bool) (*seat, *fault.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open != nil && !s.room(owner) {
		living := open()
		for st := range s.seats {
			if st.session != "" && !living[st.session] {
				s.drop(st)
			}
		}
	}
	if !s.room(owner) {
		full := fault.New(fault.RateLimited, "too many "+s.what+" of this principal; end one, or let one expire")
		if len(s.seats) >= s.max {
			full = fault.New(fault.Unavailable, "too many "+s.what+" at this server")
		}
		full.RetryAfter = sessionRetry
		return nil, full
	}
	st := &seat{of: s, owner: owner}
	s.put(st)
	return st, nil
}

func (s *sessions) room(owner string) bool {
	return len(s.seats) < s.max && s.held[owner] < s.maxOf
}

func (s *sessions) put(st *seat) {
	if _, ok := s.seats[st]; !ok {
		s.seats[st] = struct{}{}
		s.held[st.owner]++
	}
}

func (s *sessions) drop(st *seat) {
	if _, ok := s.seats[st]; !ok {
		return
	}
	delete(s.seats, st)
	if s.held[st.owner]--; s.held[st.owner] == 0 {
		delete(s.held, st.owner)
	}
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
	st.of.put(st)
}

// release gives the seat back, unless a session took it.
func (st *seat) release() {
	if st == nil {
		return
	}
	st.of.mu.Lock()
	defer st.of.mu.Unlock()
	if st.session == "" {
		st.of.drop(st)
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
