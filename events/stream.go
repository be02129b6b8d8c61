package events

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"vault-mcp/fault"
	"vault-mcp/redisx"
	"vault-mcp/secret"
)

const (
	// streamKey names the stream in Redis.
	streamKey = "vault-mcp:events"
	// sendAtOnce bounds the events that are sent without an answer between them.
	sendAtOnce = 256
	// pageSize bounds what is read at once.
	pageSize = 1024
	// blockFor is how long Redis is asked to wait for an entry. After it, the
	// reader looks whether the stream is still what it was.
	blockFor = time.Second
	// attachPatience bounds reading back what is kept.
	attachPatience = 10 * time.Second
)

var (
	// errBroken says that entries may have been lost on their way to us.
	errBroken = fault.New(fault.Unavailable, "the stream of events in Redis was emptied, cut short or replaced; everybody was told to look again")
	// errForeign says that the stream cannot be one that we wrote.
	errForeign = fault.New(fault.Unavailable, "the stream of events in Redis has ids that Redis did not give: delete the key "+streamKey)
	// errOld says that continuity cannot be proven.
	errOld = fault.New(fault.Unavailable, "Redis is too old to share events: want version 7 or later")
	// errReconnected ends a client that would go on with another connection, which
	// may be to another server.
	errReconnected = errors.New("the connection was lost")
)

// stream is the feed as it stands in Redis. It is used by the goroutine that runs
// the Bus, and by the one that reads while there is one.
type stream struct {
	key    string
	opt    Options
	writer *redis.Client
	run    run

	last  Position // up to here it was read
	added int64    // entries that had ever been added to it then
}

// reader is a client with one connection, that ends with it.
func reader(settings *redis.Options) *redis.Client {
	o := *settings
	o.PoolSize = 1
	connected := false
	o.OnConnect = func(context.Context, *redis.Conn) error {
		if connected {
			return errReconnected
		}
		connected = true
		return nil
	}
	return redis.NewClient(&o)
}

// findRun asks a server which run it is. One that does not say may be another each
// time.
func findRun(ctx context.Context, client *redis.Client) (run, error) {
	text, err := client.Info(ctx, "server").Result()
	var refused redis.Error
	switch {
	case errors.As(err, &refused) && client.Ping(ctx).Err() == nil:
	case err != nil:
		return run{}, err
	}
	for line := range strings.Lines(text) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok {
			return runOf(strings.TrimSpace(id)), nil
		}
	}
	return runOf(secret.RandomHex(16)), nil
}

// state is what Redis says of the stream. The zero state is one that is not there.
type state struct {
	last    Position // the last id that was given
	added   int64    // entries that were ever added
	first   Position // the first entry that is kept
	deleted Position // the last one that was taken out by hand
	newest  string   // run in which the last entry was written
}

// page reads entries after a position, together with the state of the stream just
// then.
func (s *stream) page(ctx context.Context, client *redis.Client, after Position) (page []entry, st state, err error) {
	var read *redis.XStreamSliceCmd
	var info *redis.Cmd
	_, err = client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		read = pipe.XRead(ctx, &redis.XReadArgs{Streams: []string{s.key, after.streamID()}, Count: pageSize, Block: -1})
		info = pipe.Do(ctx, "XINFO", "STREAM", s.key)
		return nil
	})
	if answer := info.Err(); answer != nil && strings.HasPrefix(answer.Error(), "ERR no such key") {
		return nil, state{}, nil
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, state{}, err
	}
	if st, err = s.readState(info.Val()); err != nil {
		return nil, state{}, err
	}
	for _, of := range read.Val() {
		for _, m := range of.Messages {
			en, err := s.run.readEntry(m)
			if err != nil {
				return nil, state{}, err
			}
			page = append(page, en)
		}
	}
	return page, st, nil
}

// readState reads an answer to XINFO STREAM: names and values in turn. Newer
// servers add names.
func (s *stream) readState(answer any) (st state, err error) {
	list, ok := answer.([]any)
	if !ok || len(list)%2 != 0 {
		return state{}, redisx.ErrBadAnswer
	}
	known := make(map[string]any, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		name, _ := list[i].(string)
		known[name] = list[i+1]
	}
	if st.added, ok = known["entries-added"].(int64); !ok {
		return state{}, errOld
	}
	for name, p := range map[string]*Position{
		"last-generated-id": &st.last, "recorded-first-entry-id": &st.first, "max-deleted-entry-id": &st.deleted,
	} {
		id, _ := known[name].(string)
		if *p, err = s.run.position(id); err != nil {
			return state{}, err
		}
	}
	if last, ok := known["last-entry"].([]any); ok && len(last) == 2 {
		fields, _ := last[1].([]any)
		for i := 0; i+1 < len(fields); i += 2 {
			if fields[i] == fieldRun {
				st.newest, _ = fields[i+1].(string)
			}
		}
	}
	return st, nil
}

// next reads all that came since, and proves that it is all.
func (s *stream) next(ctx context.Context, client *redis.Client) (all []entry, err error) {
	ctx, cancel := context.WithTimeout(ctx, attachPatience)
	defer cancel()
	at := s.last
	for {
		page, st, err := s.page(ctx, client, at)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) > 0 {
			at = page[len(page)-1].at
		}
		switch {
		case len(page) == pageSize && len(all) < s.opt.MaxEvents:
			continue
		case st.last != at || st.added != s.added+int64(len(all)):
			return nil, errBroken
		}
		s.last, s.added = at, st.added
		return all, nil
	}
}

// wait returns when there is something new, or might be.
func (s *stream) wait(ctx context.Context, client *redis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, blockFor+redisx.Patience)
	defer cancel()
	err := client.XRead(ctx, &redis.XReadArgs{Streams: []string{s.key, s.last.streamID()}, Count: 1, Block: blockFor}).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// open reads back what is kept, to go on from there. Where Redis was started again
// since the last entry, or unsent says that something did not come into the
// stream, everybody is told so.
func (s *stream) open(ctx context.Context, client *redis.Client, now run, unsent bool) (*history, error) {
	ctx, cancel := context.WithTimeout(ctx, attachPatience)
	defer cancel()
	before, start := s.last, Position{Feed: now.feed} // where it fails, the next one wants before, too
	s.run = now
	_, st, err := s.page(ctx, client, start)
	if err != nil {
		return nil, err
	}
	if behind := before.Feed == now.feed && before.After(st.last); behind || unsent || st.newest != now.tag {
		if err := s.mark(ctx, before); err != nil {
			return nil, err
		}
	}
	return s.readBack(ctx, client, start)
}

// readBack reads all that is kept. Nobody can resume from before something that
// may have been lost.
func (s *stream) readBack(ctx context.Context, client *redis.Client, at Position) (*history, error) {
	known, tag := newHistory(s.opt, at), ""
	for {
		page, st, err := s.page(ctx, client, at)
		if err != nil {
			return nil, err
		}
		for _, en := range page {
			at = en.at
			if en.gap || en.run != tag {
				known, tag = newHistory(s.opt, at), en.run
			}
			if en.event != nil {
				known.add(en.event)
			}
		}
		if len(page) == pageSize {
			continue
		}
		if st.last.After(at) { // what came last was taken out
			at = st.last
			known = newHistory(s.opt, at)
		}
		known.raise(st.first)
		known.raise(st.deleted)
		s.last, s.added = at, st.added
		return known, nil
	}
}
