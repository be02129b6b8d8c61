package events

import (
	"sync"
	"time"
)

// Options are a Bus's settings. Zero means the default that stands beside it.
type Options struct {
	MaxEvents   int           // kept in all, default 65 536
	MaxBytes    int           // kept in all, default 32 MiB
	MaxAge      time.Duration // kept no longer than this, default 1 h
	MaxOfOwner  int           // kept of one principal and type, default 1024
	MaxQueue    int           // waiting for one subscriber, default 1024
	MaxWaiting  int           // published and not yet given out, default 65 536
	Now         func() time.Time
	SweepPeriod time.Duration // between looks for what is too old, default 1 min
}

func (o *Options) defaults() {
	number := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	number(&o.MaxEvents, 1<<16)
	number(&o.MaxBytes, 32<<20)
	number(&o.MaxOfOwner, 1024)
	number(&o.MaxQueue, 1024)
	number(&o.MaxWaiting, 1<<16)
	if o.MaxAge <= 0 {
		o.MaxAge = time.Hour
	}
	if o.SweepPeriod <= 0 {
		o.SweepPeriod = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Bus is the feed. It is safe for concurrent use.
type Bus struct {
	opt    Options
	shared *shared // nil: it is of this process alone

	inbox struct {
		sync.Mutex
		waiting []Event
		spare   []Event // the room of those that were given out
		missed  bool    // there was no room for one
		closed  bool
	}
	wake chan struct{}
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.RWMutex // guards what follows; taken before a subscription's
	last    Position     // up to here, everything was given out
	history *history
	subs    map[string]map[*Subscription]struct{} // by root
}

// NewMemory makes a Bus that lives in this process alone.
func NewMemory(opt Options) *Bus {
	b := newBus(opt)
	b.done.Go(b.run)
	return b
}

func newBus(opt Options) *Bus {
	opt.defaults()
	// What an earlier process gave out is not known here.
	start := Position{Millis: millis(opt.Now()), Feed: newFeed()}
	return &Bus{
		opt: opt, last: start, history: newHistory(opt, start),
		subs: make(map[string]map[*Subscription]struct{}),
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
}

func millis(t time.Time) uint64 { return uint64(max(0, t.UnixMilli())) }

// Publish takes an event, to be given out soon. It never waits: where events come
// faster than they can be given out, everybody is told of a gap.
func (b *Bus) Publish(e Event) {
	b.inbox.Lock()
	switch {
	case b.inbox.closed:
	case len(b.inbox.waiting) >= b.opt.MaxWaiting:
		b.inbox.missed = true
	default:
		b.inbox.waiting = append(b.inbox.waiting, e)
	}
	b.inbox.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Doubt tells that a secret may have changed, by its owner's doing, where nobody
// knows: no event says so, but a gap, for those alone who would have had one. It
// never waits.
func (b *Bus) Doubt(owner, path string) {
	b.Publish(Event{Type: ResourceChanged, Owner: owner, Path: path, doubt: true})
}

// take empties the inbox. What it gives is good until the next one.
func (b *Bus) take() (batch []Event, missed bool) {
	b.inbox.Lock()
	defer b.inbox.Unlock()
	batch, missed = b.inbox.waiting, b.inbox.missed
	b.inbox.waiting, b.inbox.spare, b.inbox.missed = b.inbox.spare[:0], nil, false
	return batch, missed
}

// giveBack leaves the room of a batch for others.
func (b *Bus) giveBack(batch []Event) {
	clear(batch)
	if cap(batch) > deliverAtOnce { // was for a rush
		return
	}
	b.inbox.Lock()
	defer b.inbox.Unlock()
	b.inbox.spare = batch
}

// run gives out what is published, until the Bus is closed.
func (b *Bus) run() {
	sweep := time.NewTicker(b.opt.SweepPeriod)
	defer sweep.Stop()
	for {
		select {
		case <-b.wake:
		case <-sweep.C:
			b.sweep()
			continue
		case <-b.stop:
			b.giveOut(b.take())
			return
		}
		b.giveOut(b.take())
	}
}

// giveOut numbers events and delivers them.
func (b *Bus) giveOut(batch []Event, missed bool) {
	at := b.Last()
	for rest := batch; len(rest) > 0; {
		n := min(len(rest), deliverAtOnce)
		numbered := make([]*Event, 0, n)
		for _, e := range rest[:n] { // each for itself: one that is kept keeps no other
			at = at.next(millis(b.opt.Now()))
			e.At = at
			numbered = append(numbered, &e)
		}
		b.deliver(numbered, at)
		rest = rest[n:]
	}
	b.giveBack(batch)
	if missed {
		b.gap(at.next(millis(b.opt.Now())))
	}
}

// deliverAtOnce bounds how many events are delivered while others wait for the
// lock of the Bus.
const deliverAtOnce = 256

// Last is the position up to which everything was given out.
func (b *Bus) Last() Position {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.last
}

// deliver keeps events, which are in order and have their positions, and gives
// them to those who want them: then everything up to a position was.
func (b *Bus) deliver(batch []*Event, at Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range batch {
		b.history.add(e)
		ancestors(e.Path, func(root string) bool {
			for s := range b.subs[root] {
				s.offer(e)
			}
			return true
		})
	}
	b.last = at
}

// gap tells everybody that something before a position may have been missed, and
// forgets what is kept: nobody can resume from before it.
func (b *Bus) gap(at Position) { b.startAt(at, newHistory(b.opt, at)) }

// startAt goes on from a position, which may be of another feed, with what is
// known of the time before, and tells everybody of a gap.
func (b *Bus) startAt(at Position, known *history) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last, b.history = at, known
	for _, of := range b.subs {
		for s := range of {
			s.skip()
		}
	}
}

func (b *Bus) sweep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.history.expire(millis(b.opt.Now()))
}

// Close gives out what was published before, and ends the Bus. Subscriptions stay
// as they are, and get nothing more.
func (b *Bus) Close() {
	b.inbox.Lock()
	closed := b.inbox.closed
	b.inbox.closed = true
	b.inbox.Unlock()
	if !closed {
		close(b.stop)
	}
	b.done.Wait()
}
