package events

import (
	"slices"
	"sync"
)

// Interest says what a subscription gets.
type Interest struct {
	// Roots are paths: events at or below one of them are of interest. They are
	// the parts of the tree that the subscriber may see.
	Roots  []string
	Types  []Type            // empty: all
	Match  func(*Event) bool // narrows it further; nil: nothing does. It must not block
	After  Position          // with Resume: events after it, as far as they are kept
	Resume bool

	// Coalesce keeps of each path only the last event that waits, for subscribers
	// to whom the last state is enough.
	Coalesce bool
}

// wants reports whether an event, which may be anywhere, is of interest.
func (in *Interest) wants(e *Event) bool {
	return in.covers(e.Path) && in.chooses(e)
}

// chooses is wants for an event below one of the roots.
func (in *Interest) chooses(e *Event) bool {
	return (len(in.Types) == 0 || slices.Contains(in.Types, e.Type)) && (in.Match == nil || in.Match(e))
}

func (in *Interest) covers(path string) bool {
	return slices.ContainsFunc(in.Roots, func(root string) bool { return Contains(root, path) })
}

// overlaps reports whether an owner's events of a type may be of interest.
func (in *Interest) overlaps(owner string, typ Type) bool {
	if len(in.Types) > 0 && !slices.Contains(in.Types, typ) {
		return false
	}
	return slices.ContainsFunc(in.Roots, func(root string) bool {
		// What one above a root changes may be below it; its calls are not, and are
		// not to be counted from there.
		return Contains(root, owner) || typ != ToolCompleted && Contains(owner, root)
	})
}

// Subscription is one subscriber's queue.
type Subscription struct {
	bus      *Bus
	interest Interest
	ready    chan struct{}
	seen     Position // the last event that was offered; guarded by the bus's lock
	closed   bool     // guarded by the bus's lock
	end      Position // when it was closed; guarded by the bus's lock

	mu    sync.Mutex
	queue []*Event
	paths map[changedPath]int // with Coalesce: where in the queue what is about a path is
	gap   bool
	gapAt Position
}

// changedPath is what coalesces: a path may be both a secret's and a principal's.
type changedPath struct {
	typ  Type
	path string
}

// Subscribe adds a subscription. It holds what it resumes with, or a gap in its
// place, from the beginning.
func (b *Bus) Subscribe(in Interest) *Subscription {
	s := &Subscription{bus: b, interest: in, ready: make(chan struct{}, 1)}
	if in.Coalesce {
		s.paths = make(map[changedPath]int)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if in.Resume {
		missed, ok := b.history.since(in.After, s)
		switch {
		case !ok, in.After.After(b.last):
			s.skip()
		default:
			for _, e := range missed {
				s.push(e)
			}
		}
	}
	for _, root := range in.Roots {
		if b.subs[root] == nil {
			b.subs[root] = make(map[*Subscription]struct{})
		}
		b.subs[root][s] = struct{}{}
	}
	return s
}

// Close ends the subscription. What waits can still be taken.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	if s.closed {
		return
	}
	s.closed, s.end = true, s.bus.last
	for _, root := range s.interest.Roots {
		delete(s.bus.subs[root], s)
		if len(s.bus.subs[root]) == 0 {
			delete(s.bus.subs, root)
		}
	}
}

// Ready tells, by a value, that there is something to Take.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Batch is what a subscription had waiting.
type Batch struct {
	Gap    bool     // events before these were missed, or may have been
	GapAt  Position // with Gap: what came after it is in Events
	Events []*Event // in order; not to be changed
	At     Position // the subscriber has everything up to here now
}

// Take empties the queue.
func (s *Subscription) Take() Batch {
	s.bus.mu.RLock()
	defer s.bus.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Batch{Gap: s.gap, GapAt: s.gapAt, Events: s.queue, At: s.bus.last}
	if s.closed {
		b.At = s.end
	}
	if s.paths != nil { // one that came in another's place came later
		slices.SortFunc(b.Events, func(a, b *Event) int { return a.At.Compare(b.At) })
	}
	s.gap, s.gapAt, s.queue = false, Position{}, nil
	clear(s.paths)
	return b
}

// offer gives the subscription an event that is below one of its roots; the same
// one may come by way of several. The bus is locked.
func (s *Subscription) offer(e *Event) {
	if s.seen == e.At {
		return
	}
	s.seen = e.At
	if s.interest.chooses(e) {
		s.push(e)
	}
}

func (s *Subscription) push(e *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := changedPath{e.Type, e.Path}
	i, waits := s.paths[key]
	switch {
	case e.doubt:
		s.skipLocked(e.At)
	case waits:
		s.queue[i] = e
	case len(s.queue) >= s.bus.opt.MaxQueue:
		s.skipLocked(e.At)
	default:
		if s.paths != nil {
			s.paths[key] = len(s.queue)
		}
		s.queue = append(s.queue, e)
	}
	s.signal()
}

// skip puts a gap in place of what waits, and of all else up to now. The bus is
// locked.
func (s *Subscription) skip() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skipLocked(s.bus.last)
	s.signal()
}

func (s *Subscription) skipLocked(at Position) {
	s.gap, s.gapAt, s.queue = true, at, nil
	clear(s.paths)
}

func (s *Subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Subscribers is how many subscriptions there are.
func (b *Bus) Subscribers() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	all := make(map[*Subscription]struct{})
	for _, of := range b.subs {
		for s := range of {
			all[s] = struct{}{}
		}
	}
	return len(all)
}
