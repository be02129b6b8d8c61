package cli

import (
	"cmp"
	"context"
	"strings"
	"time"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/server"
	"vault-mcp/telemetry"
)

// openServer makes what faces callers.
func (a *app) openServer(limiter *auth.Limiter, mode string) (*server.Server, error) {
	cfg := a.cfg
	proxies, err := openProxies(cfg)
	if err != nil {
		return nil, err
	}
	ready := map[string]func(context.Context) error{
		"vault": a.watched("vault", a.vault.Ready),
		"audit": a.watched("audit", func(context.Context) error { return a.trail.Check() }),
		"keys":  a.watched("keys", a.authn.Check),
	}
	if !cfg.State.RedisURL.IsZero() {
		ready["redis"] = limiter.Check // it tells the operator itself, see openLimiter
		ready["events"] = a.events.Check
	}
	var certificate *server.TLS
	if mode == "http" {
		if certificate, err = openTLS(cfg, a.log); err != nil {
			return nil, err
		}
	}
	if a.tls = certificate != nil; a.tls {
		ready["tls"] = a.watched("tls", certificate.Check)
	}
	key, err := keyFor(cfg.State.SealKey, cfg.State.Dir, sealKeyFile)
	if err != nil {
		return nil, err
	}
	tokens, err := a.openTokens()
	if err != nil {
		return nil, err
	}
	return server.New(server.Options{
		Runner: a.runner, Log: a.log, Version: telemetry.BuildInfo().Version,
		ToolNames:    server.ToolNames(cfg.Tools.Names),
		Authenticate: a.authn.Authenticate,
		Events:       a.events, Key: key, Tokens: tokens,
		Addresses:    auth.NewAddressLimiter(),
		AllowedHosts: cfg.HTTP.AllowedHosts, AllowedOrigins: cfg.HTTP.AllowedOrigins, PublicURL: cfg.HTTP.PublicURL,
		OAuth:       server.OAuth{AuthorizationServers: authorizationServers(cfg)},
		MaxSessions: cfg.HTTP.MaxSessions, KeepAlive: cfg.HTTP.Keepalive, MaxConnections: cfg.HTTP.MaxConnections,
		MaxSubscribers: cfg.HTTP.MaxSubscribers, MaxSubscribersPerPrincipal: cfg.HTTP.MaxSubsOfOne,
		MaxSubscriptions: cfg.HTTP.MaxSubscribed, MaxSubscriptionsPerPrincipal: cfg.HTTP.MaxSubscrOfOne,
		// A call that may not be repeated is never cut off before its own end.
		DrainTimeout: max(10*time.Second, cfg.Calls.Timeout+2*time.Second),
		Ready:        ready,
		TLS:          certificate, Proxies: proxies, ForwardedBy: cfg.HTTP.ForwardedBy,
	})
}

// authorizationServers are those that clients are sent to: none where no token of
// theirs would be accepted, and the home issuer unless others are named.
func authorizationServers(cfg *config.Config) []string {
	home := cmp.Or(cfg.JWT.Issuer, cfg.JWT.OIDC)
	switch {
	case !cfg.JWT.Configured():
		return nil
	case len(cfg.HTTP.AuthServers) > 0:
		return cfg.HTTP.AuthServers
	case strings.HasPrefix(home, "https://"):
		return []string{home}
	}
	return nil
}
