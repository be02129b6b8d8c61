package events

import (
	"context"

	"github.com/redis/go-redis/v9"

	"vault-mcp/redisx"
	"vault-mcp/secret"
)

// History counts the events that are kept.
func (b *Bus) History() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.history.order.Len()
}

// NewIdle makes a Bus that gives out nothing.
func NewIdle(opt Options) *Bus { return newBus(opt) }

// MarkAfter marks a gap after a position of the same run, and returns the last
// position of the stream.
func MarkAfter(ctx context.Context, url secret.Text, after Position) (Position, error) {
	settings, err := redisx.Options(url)
	if err != nil {
		return Position{}, err
	}
	client := redis.NewClient(settings)
	defer func() { _ = client.Close() }()
	s := stream{key: streamKey, writer: client}
	s.opt.defaults()
	if s.run, err = findRun(ctx, client); err != nil {
		return Position{}, err
	}
	after.Feed = s.run.feed
	if err := s.mark(ctx, after); err != nil {
		return Position{}, err
	}
	_, st, err := s.page(ctx, client, Position{})
	return st.last, err
}
