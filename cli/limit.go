package cli

import (
	"context"

	"go.uber.org/zap"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/fault"
)

// openLimiter makes what holds callers to their limits: all replicas together
// where there is a Redis, else each for itself.
func openLimiter(ctx context.Context, cfg *config.Config, log *zap.Logger) (*auth.Limiter, error) {
	if cfg.State.RedisURL.IsZero() {
		return auth.NewLimiter(), nil
	}
	return auth.NewSharedLimiter(ctx, auth.SharedOptions{URL: cfg.State.RedisURL, Changed: func(err error) {
		if err != nil {
			log.Error("limits are not shared", zap.String("detail", fault.From(err).Msg))
			return
		}
		log.Info("limits are shared again")
	}})
}

// redis looks whether limits can be shared as they should be.
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
	d.found("redis", stateOK, "replicas share their limits", "")
}
