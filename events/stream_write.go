package events

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"vault-mcp/redisx"
)

// mark writes that something may have been missed. It stands after a position,
// where that is one of the same run: a stream that was emptied must not give the
// same ids again.
func (s *stream) mark(ctx context.Context, after Position) error {
	ctx, cancel := context.WithTimeout(ctx, redisx.Patience)
	defer cancel()
	add := &redis.XAddArgs{Stream: s.key, MaxLen: int64(s.opt.MaxEvents), Approx: true, Values: s.run.gapEntry()}
	id, err := s.writer.XAdd(ctx, add).Result()
	if err != nil {
		return err
	}
	at, err := s.run.position(id)
	if err != nil || after.Feed != s.run.feed || at.After(after) {
		return err
	}
	add.ID = after.next(0).streamID()
	return s.writer.XAdd(ctx, add).Err()
}

// send puts events into the stream, in order, and returns the last one's position.
// Those of which it is not known that they came into it are returned with the
// error.
func (s *stream) send(ctx context.Context, batch []Event) (last Position, rest []Event, err error) {
	for len(batch) > 0 {
		n := min(len(batch), sendAtOnce)
		at, failed, err := s.sendSome(ctx, batch[:n])
		if err != nil {
			return last, append(failed, batch[n:]...), err
		}
		last, batch = at, batch[n:]
	}
	return last, nil, nil
}

func (s *stream) sendSome(ctx context.Context, some []Event) (last Position, failed []Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisx.Patience)
	defer cancel()
	added := make([]*redis.StringCmd, len(some))
	_, err = s.writer.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range some {
			added[i] = pipe.XAdd(ctx, &redis.XAddArgs{
				Stream: s.key, MaxLen: int64(s.opt.MaxEvents), Approx: true, Values: s.run.eventEntry(&some[i]),
			})
		}
		return nil
	})
	if err == nil {
		last, err = s.run.position(added[len(added)-1].Val())
		return last, nil, err
	}
	for i, a := range added {
		if a.Err() != nil || a.Val() == "" {
			failed = append(failed, some[i])
		}
	}
	return last, failed, err
}

// tidy takes out what is too old. A stream that nobody uses goes away by itself.
func (s *stream) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, redisx.Patience)
	defer cancel()
	oldest := millis(s.opt.Now().Add(-s.opt.MaxAge))
	_, err := s.writer.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.XTrimMinIDApprox(ctx, s.key, strconv.FormatUint(oldest, 10), 0)
		pipe.Expire(ctx, s.key, 2*s.opt.MaxAge+time.Hour)
		return nil
	})
	return err
}
