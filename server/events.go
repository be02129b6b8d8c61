package server

import (
	"context"
	"net/http"
	"net/url"
	"runtime"
	"time"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// feeds are the streams of /events, and what they have in common.
type feeds struct {
	seats   *sessions
	streams *flight
	ends    chan struct{} // closed when streams are to end
	turns   chan struct{} // holds one for each stream that is at work
	frames  *frames
}

func newFeeds(opt Options) feeds {
	return feeds{
		seats:   newSessions("streams of events", opt.MaxSubscribers, opt.MaxSubscribersPerPrincipal),
		streams: newFlight(0), ends: make(chan struct{}),
		turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), frames: &frames{},
	}
}

// land ends the streams, and lets no more begin.
func (f *feeds) land() {
	if f.streams.land() {
		close(f.ends)
	}
}

// rest is how long a stream rests after a delivery.
func (f *feeds) rest() time.Duration {
	return min(feedRest+time.Duration(f.streams.now())*feedRestFor, feedRestMost)
}

// Subscribers is how many streams of events are open.
func (s *Server) Subscribers() int { return s.feed.streams.now() }

// Parameters of a stream's URL.
const (
	paramURI    = "uri"
	paramType   = "type"
	paramLastID = "last_event_id" // for pages, which cannot set the header when they begin
	paramToken  = "token"         // a handle: see giveToken
)

// headerLastID is what clients resume with, as net/http spells it.
const headerLastID = "Last-Event-Id"

// wish is what a request for a stream asks for.
type wish struct {
	uris, types []string
	lastID      string // empty: from now on
	handle      string // in place of a credential and of a filter
	later       bool   // it is for a handle to be made
}

// readWish reads it off a request. What it does not know is an error: a slip in a
// filter's name would make the stream wider than was meant.
func readWish(r *http.Request) (w wish, f *fault.Error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return w, fault.New(fault.Invalid, "the query is not well-formed: want uri=…&type=…, with what is special in it percent-encoded")
	}
	for name, values := range query {
		switch {
		case name == paramURI:
			w.uris = values
		case name == paramType:
			w.types = values
		case name == paramLastID && len(values) == 1:
			w.lastID = values[0]
		case name == paramToken && len(values) == 1 && values[0] != "":
			w.handle = values[0]
		default:
			return w, fault.New(fault.Invalid, "a stream of events takes the parameters uri and type, each any number of times, and last_event_id and token once")
		}
	}
	if w.handle != "" && (w.uris != nil || w.types != nil || hasCredential(r.Header)) {
		return w, fault.New(fault.Invalid, "a token says who listens and to what: neither a credential nor uri or type may stand beside it")
	}
	// A browser that connects again sends the header along with the URL that it
	// began with: the header is newer.
	if given := r.Header.Get(headerLastID); given != "" {
		w.lastID = given
	}
	return w, nil
}

// follow serves /events: what happens in the principal's part of the tree, as it
// happens. It is short, since its stack is held for as long as the stream is open.
func (s *Server) follow(a *answer, r *http.Request, c *caller) {
	c.transport = transportFeed
	a.stands()
	f := s.openFeed(a, r, c)
	if f == nil {
		return
	}
	defer f.close()
	f.run(r.Context())
}

// openFeed opens the stream that a request asks for. It is nil where the request was
// refused, and answered.
func (s *Server) openFeed(a *answer, r *http.Request, c *caller) *feed {
	if r.Method != http.MethodGet {
		a.Header().Set("Allow", http.MethodGet)
		s.refuse(a, http.StatusMethodNotAllowed, c, fault.New(fault.Invalid, "a stream of events is read with GET"))
		return nil
	}
	if !s.admitAddress(a, c) {
		return nil
	}
	wish, wrong := readWish(r)
	if wrong != nil {
		s.refuse(a, 0, c, wrong)
		return nil
	}
	if wish.handle != "" && !s.identifyByToken(a, r, c, &wish) || wish.handle == "" && !s.identify(a, r, c) {
		return nil
	}
	if s.opt.Events == nil {
		s.refuse(a, 0, c, fault.New(fault.Unavailable, "this server has no events"))
		return nil
	}
	seat, full := s.feed.seats.reserve(c.principal.ID(), nil)
	if full != nil {
		s.refuse(a, 0, c, full)
		return nil
	}
	c.seat = seat
	if !s.feed.streams.enter() {
		seat.release()
		s.refuse(a, 0, c, shuttingDown())
		return nil
	}
	f := &feed{Server: s, a: a, c: c, until: c.principal.ExpiresAt}
	defer func() {
		if f.sub == nil { // also where something panicked
			f.leave()
		}
	}()
	if listening, ok := s.listen(a, r, c, wish); ok {
		f.subscribe(listening, wish.lastID)
		return f
	}
	return nil
}

// listen asks whether the caller may hear what it wishes to, and answers where it
// may not.
func (s *Server) listen(a *answer, r *http.Request, c *caller, w wish) (listening *tools.Listening, ok bool) {
	err := s.serve(r.Context(), c, func(ctx context.Context, p *auth.Principal) (err error) {
		listening, err = s.opt.Runner.Listen(ctx, tools.Listen{
			Principal: p, URIs: w.uris, Types: w.types, Later: w.later,
			Transport: c.transport, Remote: c.remote, RequestID: c.requestID,
		})
		return err
	})
	if err == nil {
		return listening, true
	}
	if scope, ok := tools.StepUp(err); ok {
		a.Header().Set("WWW-Authenticate", s.resource.challenge("insufficient_scope", string(scope)))
	}
	writeProblem(a, 0, fault.From(err), c.requestID)
	return nil, false
}
