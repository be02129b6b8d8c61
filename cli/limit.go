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
