package cli

import (
	"vault-mcp/auth"
	"vault-mcp/config"
)

// openAuth makes the authenticator from the settings.
func openAuth(cfg *config.Config) (*auth.Authenticator, error) {
	var limit auth.Limit
	if cfg.Calls.RateLimit {
		limit = auth.Limit{Requests: cfg.Calls.RateRequests, Window: cfg.Calls.RateWindow, Burst: cfg.Calls.RateBurst}
	}
	return auth.New(auth.Options{
		Prefix:        cfg.Auth.DefaultPrefix,
		Grants:        cfg.Auth.Grants,
		Limit:         limit,
		APIKeys:       cfg.Auth.APIKeys,
		KeysJSON:      cfg.Auth.KeysJSON,
		KeysFile:      cfg.Auth.KeysFile,
		LaunchKey:     cfg.Auth.LaunchKey,
		LaunchSubject: cfg.Auth.Subject,
	})
}
