package cli

import (
	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/tools"
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
		Rules:         string(cfg.Auth.Principals),
		Tool:          func(entry string) bool { return theCatalog().IsTool(entry) },
		Toolset:       tools.IsToolset,
	})
}

// offer is the tools that the settings offer.
func offer(cfg *config.Config) tools.Offer {
	return tools.Offer{ReadOnly: cfg.Tools.ReadOnly, Sets: cfg.Tools.Sets, Exclude: cfg.Tools.Exclude}
}
