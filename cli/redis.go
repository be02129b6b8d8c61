package cli

import (
	"context"

	"go.uber.org/zap"

	"vault-mcp/config"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/server"
)

// openEvents makes the change feed: one for all replicas where there is a Redis,
// else one of this process.
func openEvents(ctx context.Context, cfg *config.Config, log *zap.Logger) (*events.Bus, error) {
	if cfg.State.RedisURL.IsZero() {
		return events.NewMemory(events.Options{}), nil
	}
	return events.NewRedis(ctx, events.Options{}, events.RedisOptions{URL: cfg.State.RedisURL, Changed: func(err error) {
		if err != nil {
			log.Error("events are not shared", zap.String("detail", fault.From(err).Msg))
			return
		}
		log.Info("events are shared again")
	}})
}

// openTokens makes what keeps the handles of streams for all replicas; nil where
// there is no Redis, and the server keeps them itself.
func (a *app) openTokens() (server.TokenStore, error) {
	if a.cfg.State.RedisURL.IsZero() {
		return nil, nil
	}
	handles, err := events.NewHandles(a.cfg.State.RedisURL)
	if err != nil {
		return nil, err
	}
	a.close = append(a.close, func() error { handles.Close(); return nil })
	return handles, nil
}

// redis looks whether limits and events can be shared as they should be.
func (d *doctor) redis(ctx context.Context, cfg *config.Config) {
	if cfg.State.RedisURL.IsZero() {
		return
	}
	limiter, err := openLimiter(ctx, cfg, zap.NewNop())
	if err != nil {
		d.found("redis", stateBroken, fault.From(err).Msg, "correct REDIS_URL")
		return
	}
	defer limiter.Close()
	if err := limiter.Check(ctx); err != nil {
		d.found("redis", stateWarning, fault.From(err).Msg, "check REDIS_URL, the network, the password, and with rediss:// the certificate")
		return
	}
	if err := events.Probe(ctx, cfg.State.RedisURL); err != nil {
		d.found("redis", stateWarning, fault.From(err).Msg, "events need Redis 7 or later and the keys vault-mcp:events and vault-mcp:events:probe")
		return
	}
	d.found("redis", stateOK, "replicas share their limits and their events", "")
}
