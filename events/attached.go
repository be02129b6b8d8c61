package events

import (
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// attached sends what is published, while a second goroutine reads, until Redis is
// lost or the Bus is closed: then the error is nil.
func (b *Bus) attached(client *redis.Client, sweep <-chan time.Time) error {
	s := b.shared
	failed := make(chan error, 1)
	var broken bool // guarded by reading
	var reading sync.WaitGroup
	reading.Go(func() {
		err := b.follow(client)
		broken = errors.Is(err, errBroken)
		failed <- err
	})
	defer func() {
		_ = client.Close() // ends what it waits for
		reading.Wait()
		s.known = s.known && !broken // whatever it was that came first
	}()
	for {
		var err error
		select {
		case err = <-failed:
		case <-b.wake:
			err = b.send()
		case <-sweep:
			b.sweep()
			err = s.stream.tidy(s.ctx)
		case <-b.stop:
			if b.send() != nil {
				s.lastWord()
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// send sends what was published.
func (b *Bus) send() error {
	s := b.shared
	batch, missed := b.take()
	last, rest, err := s.stream.send(s.ctx, batch)
	if last != (Position{}) {
		s.sent.Store(&last)
	}
	if err == nil && missed {
		err = s.stream.mark(s.ctx, Position{})
	}
	if err != nil {
		s.unsent, s.rest, s.missed = true, rest, missed
		return err
	}
	b.giveBack(batch)
	return nil
}

// follow gives out what comes into the stream, until it cannot be read or was not
// all.
func (b *Bus) follow(client *redis.Client) error {
	s := b.shared
	for {
		sent := s.sent.Load()
		entries, err := s.stream.next(s.ctx, client)
		if err != nil {
			return err
		}
		if sent != nil && sent.After(s.stream.last) { // it was sent to another server
			return errBroken
		}
		b.receive(entries)
		if err := s.stream.wait(s.ctx, client); err != nil {
			return err
		}
	}
}

// receive gives out what was read.
func (b *Bus) receive(entries []entry) {
	var batch []*Event
	for _, en := range entries {
		if en.event != nil {
			batch = append(batch, en.event)
		}
		if en.gap || len(batch) == deliverAtOnce {
			b.deliver(batch, en.at)
			batch = batch[:0]
		}
		if en.gap {
			b.gap(en.at)
		}
	}
	if len(entries) > 0 {
		b.deliver(batch, entries[len(entries)-1].at)
	}
}

// alone gives out what is published here, and looks for Redis from after a pause
// on, until it is found. The client is nil where the Bus was closed.
func (b *Bus) alone(sweep <-chan time.Time, pause time.Duration) (*redis.Client, run) {
	s := b.shared
	b.giveOutAlone(s.rest, s.missed)
	s.rest, s.missed = nil, false
	try := time.NewTimer(pause)
	defer try.Stop()
	client := reader(s.settings)
	type answer struct {
		run run
		err error
	}
	answers := make(chan answer, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		select {
		case <-b.wake:
			batch, missed := b.take()
			b.giveOutAlone(batch, missed)
		case <-sweep:
			b.sweep()
		case <-try.C:
			asking.Go(func() {
				run, err := findRun(s.ctx, client)
				answers <- answer{run, err}
			})
		case a := <-answers:
			if a.err == nil {
				return client, a.run
			}
			_ = client.Close()
			client = reader(s.settings)
			s.tell(lostRedis(a.err))
			try.Reset(tryEvery)
		case <-b.stop:
			batch, missed := b.take()
			b.giveOutAlone(batch, missed)
			s.lastWord()
			s.cancel()
			_ = client.Close()
			return nil, run{}
		}
	}
}

// giveOutAlone gives out events in a feed of our own. Who listened to the shared
// one may have missed what others did just before.
func (b *Bus) giveOutAlone(batch []Event, missed bool) {
	s := b.shared
	if len(batch) == 0 && !missed {
		return
	}
	if !s.own {
		b.gap(Position{Millis: max(b.Last().Millis, millis(b.opt.Now())), Feed: newFeed()})
	}
	s.own, s.unsent, s.known = true, true, false
	b.giveOut(batch, missed)
}

// lastWord tries to tell the other replicas, before this one ends, that they did
// not hear all.
func (s *shared) lastWord() {
	if s.unsent {
		_ = s.stream.mark(s.ctx, Position{}) // Redis is not well: there is nobody else to tell
	}
}
