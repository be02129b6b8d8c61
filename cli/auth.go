package cli

import (
	"cmp"

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
		JWT: auth.JWTOptions{
			Accept:     cfg.JWT.Enabled,
			Home:       homeIssuer(cfg),
			Further:    cfg.JWT.Issuers,
			Audiences:  audiences(cfg),
			CacheFor:   cfg.JWT.CacheFor,
			Launch:     cfg.JWT.Launch,
			LaunchFile: cfg.JWT.LaunchFile,
		},
	})
}

// offer is the tools that the settings offer.
func offer(cfg *config.Config) tools.Offer {
	return tools.Offer{ReadOnly: cfg.Tools.ReadOnly, Sets: cfg.Tools.Sets, Exclude: cfg.Tools.Exclude}
}

// homeIssuer is the issuer whose subjects are the operator's own, nil if no
// setting speaks of one.
func homeIssuer(cfg *config.Config) *auth.Issuer {
	j := &cfg.JWT
	if j.Issuer == "" && j.OIDC == "" && j.Secret.IsZero() && j.JWKSFile == "" && j.JWKSURL == "" {
		return nil
	}
	return &auth.Issuer{
		Name: cmp.Or(j.Issuer, j.OIDC), Audiences: j.Audience, Algorithms: j.Algorithms,
		Secret: j.Secret, JWKSFile: j.JWKSFile, JWKSURL: j.JWKSURL, OIDC: j.OIDC, RequireKID: j.RequireKID,
		AnyIssuer: !j.ValidateIssuer, AnyAudience: !j.ValidateAudience,
	}
}

// audiences are what a token calls this server that is made for it and for no
// other: the URL of the server, or of its MCP endpoint.
func audiences(cfg *config.Config) []string {
	if cfg.HTTP.PublicURL == "" {
		return nil
	}
	return []string{cfg.HTTP.PublicURL, cfg.HTTP.PublicURL + "/mcp"}
}
