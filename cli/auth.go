package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// openProxies are the trusted proxies.
func openProxies(cfg *config.Config) (*auth.Proxies, error) {
	proxies, err := auth.ParseProxies(cfg.HTTP.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("TRUSTED_PROXIES: %w", err)
	}
	return proxies, nil
}

// mtlsOptions are those of client certificates; nil where they do not count.
func mtlsOptions(cfg *config.Config) (*auth.MTLSOptions, error) {
	if !cfg.Auth.MTLS {
		return nil, nil
	}
	proxies, err := openProxies(cfg)
	if err != nil {
		return nil, err
	}
	opt := &auth.MTLSOptions{
		Identity: cfg.Auth.MTLSIdentity, CAFile: cfg.HTTP.ClientCAFile, CRLFile: cfg.HTTP.ClientCRLFile,
		Proxies: proxies, SubjectHeader: cfg.Auth.MTLSSubject, SubjectPrefix: cfg.Auth.MTLSPrefix, CertHeader: cfg.Auth.MTLSCert,
	}
	// Where clients bring certificates to our own listener, a proxy may be trusted
	// with their addresses alone, and pass on whatever else they send. So its
	// headers about certificates count only if somebody asked for them.
	if asked := cfg.Source("MTLS_VERIFY_HEADER") != "default" || cfg.Auth.MTLSCert != ""; asked || !ownCertificates(cfg) {
		opt.VerifyHeader = cfg.Auth.MTLSVerify
	}
	named := cfg.Source("MTLS_IDENTITY") != "default" && cfg.Auth.MTLSIdentity != "cn"
	if opt.VerifyHeader != "" && len(cfg.HTTP.TrustedProxies) > 0 && opt.CertHeader == "" && named {
		return nil, fault.New(fault.Invalid, "MTLS_IDENTITY: a proxy that sends only the subject of a certificate can name its CN alone; want cn, or the whole certificate in MTLS_CERT_HEADER")
	}
	return opt, nil
}

// ownCertificates reports whether our own listener takes client certificates.
func ownCertificates(cfg *config.Config) bool {
	return cfg.Auth.MTLS && cfg.HTTP.CertFile != "" && cfg.HTTP.ClientCAFile != ""
}

// openTLS reads the certificate under which we listen; nil if there is none.
func openTLS(cfg *config.Config, log *zap.Logger) (*server.TLS, error) {
	if cfg.HTTP.CertFile == "" {
		return nil, nil
	}
	return server.OpenTLS(server.TLSOptions{
		CertFile: cfg.HTTP.CertFile, KeyFile: cfg.HTTP.KeyFile, ClientCertificates: ownCertificates(cfg), Log: log,
	})
}

// openAuth makes the authenticator from the settings.
func openAuth(cfg *config.Config) (*auth.Authenticator, error) {
	var limit auth.Limit
	if cfg.Calls.RateLimit {
		limit = auth.Limit{Requests: cfg.Calls.RateRequests, Window: cfg.Calls.RateWindow, Burst: cfg.Calls.RateBurst}
	}
	mtls, err := mtlsOptions(cfg)
	if err != nil {
		return nil, err
	}
	return auth.New(auth.Options{
		MTLS:          mtls,
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
	names := []string{cfg.HTTP.PublicURL, cfg.HTTP.PublicURL + "/mcp"}
	// Clients are told the canonical spelling, and ask for tokens for that.
	if resource, err := server.Resource(cfg.HTTP.PublicURL); err == nil && !slices.Contains(names, resource) {
		names = append(names, strings.TrimSuffix(resource, "/mcp"), resource)
	}
	return names
}
