package events

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"vault-mcp/fault"
	"vault-mcp/redisx"
	"vault-mcp/secret"
)

// Probe looks whether events can be shared in a Redis, without a word to those who
// share theirs there: it does all that a Bus does, in a stream of its own.
func Probe(ctx context.Context, url secret.Text) error {
	settings, err := redisx.Options(url)
	if err != nil {
		return err
	}
	settings.PoolSize, settings.MaxRetries = 2, -1
	var opt Options
	opt.defaults()
	opt.MaxEvents = 1
	s := stream{key: streamKey + ":probe", opt: opt, writer: redis.NewClient(settings)}
	defer func() { _ = s.writer.Close() }()
	client := reader(settings)
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 3*redisx.Patience)
	defer cancel()
	if err := s.probe(ctx, client); err != nil {
		return fault.Degraded(lostRedis(err))
	}
	return nil
}

func (s *stream) probe(ctx context.Context, client *redis.Client) error {
	now, err := findRun(ctx, client)
	if err != nil {
		return err
	}
	if _, err := s.open(ctx, client, now, true); err != nil {
		return err
	}
	s.last = Position{} // so that there is something to wait for
	if err := s.wait(ctx, client); err != nil {
		return err
	}
	if err := s.tidy(ctx); err != nil {
		return err
	}
	return s.writer.Expire(ctx, s.key, time.Minute).Err()
}
