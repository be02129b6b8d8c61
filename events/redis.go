package events

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"vault-mcp/fault"
	"vault-mcp/redisx"
	"vault-mcp/secret"
)

// RedisOptions say where replicas share their feed.
type RedisOptions struct {
	URL secret.Text // of a Redis: redis:// or rediss://, which is TLS

	// Changed is told when Redis is lost, and nil when it is back, and must not
	// block. nil: nobody is told.
	Changed func(error)
}

// shared is what a Bus has whose feed is a stream in Redis.
//
// While it is attached, what is published goes into the stream, and what comes out
// of the stream is given out, one's own events too: so all replicas have the same
// feed, with the same positions. When Redis does not do as it should, the Bus is
// alone: it gives out its own events at once, in a feed of its own, and looks each
// second whether Redis is back. Everybody is told of a gap when it becomes alone
// with something to give out, and again when it is attached again and cannot prove
// that nothing was missed; and if something was not sent, so is everybody at the
// other replicas, by an entry in the stream.
//
// One goroutine runs the Bus, as in memory; a second one reads while it is
// attached.
type shared struct {
	settings *redis.Options
	changed  func(error)
	stream   stream
	why      atomic.Pointer[fault.Error] // it is alone; nil: attached
	sent     atomic.Pointer[Position]    // the last one that is in the stream by our hand

	// What follows is of the goroutine that runs the Bus.
	known  bool            // the stream goes on from what was given out
	unsent bool            // something did not come into the stream, or may not have
	rest   []Event         // what that is, as far as it was not given out yet
	missed bool            // there was no room for what came after it
	own    bool            // the feed is of this process alone
	ctx    context.Context //nolint:containedctx // its end ends what waits for Redis
	cancel context.CancelFunc
}

// tryEvery is the pause between two looks at a Redis that was lost.
const tryEvery = time.Second

const onlyOwn = "each process tells only of its own events until it is back"

// NewRedis makes a Bus that all processes with the same Redis share. A Redis that
// is not there is no error; it waits for it a second at most.
func NewRedis(ctx context.Context, opt Options, where RedisOptions) (*Bus, error) {
	settings, err := redisx.Options(where.URL)
	if err != nil {
		return nil, err
	}
	settings.PoolSize, settings.MaxRetries = 2, -1 // what may have been done is not done again
	b := newBus(opt)
	s := &shared{settings: settings, changed: where.Changed, own: true}
	s.stream = stream{key: streamKey, opt: b.opt, writer: redis.NewClient(settings)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	b.shared = s
	first := make(chan struct{})
	b.done.Go(func() { b.runShared(sync.OnceFunc(func() { close(first) })) })
	select {
	case <-first:
	case <-ctx.Done():
	case <-time.After(redisx.Patience):
	}
	return b, nil
}

// Check reports that the feed is not shared though it should be. Events of this
// process are told all the same, so whatever it finds is degraded.
func (b *Bus) Check(context.Context) error {
	if b.shared == nil {
		return nil
	}
	if why := b.shared.why.Load(); why != nil {
		return fault.Degraded(why)
	}
	return nil
}

// runShared is run for a feed that is shared.
func (b *Bus) runShared(tried func()) {
	s := b.shared
	sweep := time.NewTicker(b.opt.SweepPeriod)
	defer sweep.Stop()
	defer func() { _ = s.stream.writer.Close() }() // its connections end in any case
	defer s.cancel()
	client := reader(s.settings)
	run, err := findRun(s.ctx, client)
	for {
		if err == nil {
			err = b.attach(client, run)
		}
		since := time.Now()
		if err == nil {
			s.tell(nil)
			tried()
			err = b.attached(client, sweep.C)
		}
		_ = client.Close()
		if err == nil { // it was closed
			return
		}
		s.tell(lostRedis(err))
		tried()
		pause := tryEvery
		if errors.Is(err, errBroken) && time.Since(since) > tryEvery { // Redis is there
			pause = 0
		}
		if client, run = b.alone(sweep.C, pause); client == nil {
			return
		}
		err = nil
	}
}

func lostRedis(err error) *fault.Error {
	var ours *fault.Error
	if errors.As(err, &ours) {
		return ours
	}
	return redisx.Lost(err, onlyOwn)
}

// tell keeps and tells what is the matter, nil for nothing.
func (s *shared) tell(why *fault.Error) {
	was := s.why.Swap(why)
	switch {
	case s.changed == nil:
	case why != nil && was == nil:
		s.changed(why)
	case why == nil && was != nil:
		s.changed(nil)
	}
}

// attach goes on with the stream where it is known that nothing was missed, as far
// as the reader can prove it; else it begins with it.
func (b *Bus) attach(client *redis.Client, now run) error {
	s := b.shared
	if s.known && !s.unsent && s.stream.run == now {
		return nil
	}
	s.known = false
	history, err := s.stream.open(s.ctx, client, now, s.unsent)
	if err != nil {
		return err
	}
	b.startAt(s.stream.last, history)
	s.known, s.unsent, s.own = true, false, false
	s.sent.Store(nil)
	return nil
}
