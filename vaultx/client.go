package vaultx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-mcp/fault"
	"vault-mcp/gate"
	"vault-mcp/secret"
)

// Config says how Vault is reached. Nothing else does: the process environment,
// which the stock client reads, has no say. (A variable of its that cannot be
// parsed still keeps it from being made; New reports that.)
type Config struct {
	Address          string      // http(s)://host:port
	Namespace        string      // Enterprise and OpenBao; empty: none
	Token            secret.Text // of the server, unless Login gives another
	Login            Login
	Notice           func(Notice) // hears what becomes of the token; it must not wait; nil: nobody does
	CACert, CAPath   string       // PEM file or folder of CAs, instead of the system's
	ClientCert       string       // PEM file; with ClientKey
	ClientKey        string
	TLSServerName    string
	SkipVerify       bool
	MaxConcurrent    int   // requests in flight, default 128; a principal has at most half
	MaxResponseBytes int64 // default 4 MiB
	Mounts           Mounts
}

// Mounts are the paths at which engines stand.
type Mounts struct{ KV, Transit, Database, SSH string }

// Client reaches Vault. It is safe for concurrent use.
type Client struct {
	cfg   Config
	base  *url.URL
	wire  *http.Transport
	http  *http.Client
	gate  *gate.Gate
	brk   breaker
	probe probe

	tokens   tokens    // the server's own
	keeper   *keeper   // nil: tokens are of another kind
	login    *login    // nil: there is none
	children *children // nil: child tokens are not turned on

	// The stock clients. They have no token: each request is given its own. A
	// client is never cloned.
	api  *api.Client
	bare *api.Client // without a namespace
}

// New makes a client. It reads certificate files and reaches no network.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.Address)
	if err != nil || base.Hostname() == "" || base.Scheme != "http" && base.Scheme != "https" || base.Path != "" && base.Path != "/" ||
		base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("VAULT_ADDR: must be http:// or https:// with a host and nothing after it")
	}
	if !secret.IsHeaderText(cfg.Token.Reveal()) || !secret.IsHeaderText(cfg.Namespace) {
		return nil, errors.New("VAULT_TOKEN, VAULT_NAMESPACE: must be printable ASCII without spaces or line ends")
	}
	base.Path = ""
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = 128
	}
	if cfg.MaxResponseBytes <= 0 {
		cfg.MaxResponseBytes = 4 << 20
	}
	for name, mount := range map[string]*string{
		"KV_MOUNT": &cfg.Mounts.KV, "TRANSIT_MOUNT": &cfg.Mounts.Transit,
		"DATABASE_MOUNT": &cfg.Mounts.Database, "SSH_MOUNT": &cfg.Mounts.SSH,
	} {
		if *mount == "" {
			continue
		}
		if *mount, err = NormalizeMount(*mount); err != nil {
			return nil, fmt.Errorf("%s: %s", name, fault.From(err).Msg)
		}
	}
	wire, err := newTransport(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, base: base, wire: wire, gate: gate.New(cfg.MaxConcurrent)}
	if err := c.chooseTokens(); err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Transport:     &guard{base: base, next: wire, maxResponse: cfg.MaxResponseBytes},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if c.api, err = c.stock(cfg.Namespace); err != nil {
		return nil, err
	}
	if c.bare, err = c.stock(""); err != nil {
		return nil, err
	}
	return c, nil
}

// Close revokes the child tokens, and ends idle connections and the server's own
// questions that are under way. The guard does not pass the former on: the stock
// client would do it after every request that fails.
//
// A token that a login gave is not revoked: Vault would end the leases that were
// issued under it at once, credentials that agents use. It ends by itself.
func (c *Client) Close() {
	c.probe.end()
	if c.children != nil {
		c.children.end()
	}
	if c.keeper != nil {
		c.keeper.close()
	}
	c.wire.CloseIdleConnections()
}

// Mounts are the configured mounts, normalized.
func (c *Client) Mounts() Mounts { return c.cfg.Mounts }

func newTransport(cfg Config) (*http.Transport, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	// The stock client's own reading of certificates, on a transport of ours.
	probe := &api.Config{HttpClient: &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig}}}
	err := probe.ConfigureTLS(&api.TLSConfig{
		CACert: cfg.CACert, CAPath: cfg.CAPath, ClientCert: cfg.ClientCert, ClientKey: cfg.ClientKey,
		TLSServerName: cfg.TLSServerName, Insecure: cfg.SkipVerify,
	})
	if err != nil {
		return nil, fmt.Errorf("VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT or VAULT_CLIENT_KEY: %w", err)
	}
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialContext:         dialer.DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 3 * time.Second,
		MaxIdleConns:        cfg.MaxConcurrent, MaxIdleConnsPerHost: cfg.MaxConcurrent,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		// Over HTTP/2 all requests share a connection; without pings one that has
		// died silently would go on failing them all for many minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 3 * time.Second},
	}, nil
}

func (c *Client) stock(namespace string) (*api.Client, error) {
	stock, err := api.NewClient(&api.Config{
		Address: c.base.String(), HttpClient: c.http, MaxRetries: 0, DisableRedirects: true,
		CheckRetry: func(context.Context, *http.Response, error) (bool, error) { return false, nil },
	})
	if err != nil {
		return nil, fmt.Errorf("the Vault client: %w", err)
	}
	// What NewClient took from the environment is taken back.
	stock.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	stock.ClearToken()
	stock.SetWrappingLookupFunc(func(string, string) string { return "" })
	if namespace != "" {
		stock.SetNamespace(namespace)
	}
	return stock, nil
}

// Operation is one method on one path: all that a call may do.
type Operation struct {
	Method   string
	Path     Path
	Template Template
}

// methods is the request method that exercises a capability.
var methods = map[string]string{
	"read": http.MethodGet, "list": "LIST", "create": http.MethodPost, "update": http.MethodPost,
	"patch": http.MethodPatch, "delete": http.MethodDelete,
}

// NewOperation resolves a capability on a template to an operation. For
// "list", the template's last hole names a folder and may be empty.
func NewOperation(capability string, t Template, values map[string]string) (Operation, error) {
	method, ok := methods[capability]
	if !ok {
		return Operation{}, fault.New(fault.Internal, "there is no such capability")
	}
	p, err := t.expand(values, capability == "list")
	return Operation{Method: method, Path: p, Template: t}, err
}

// fixed is an operation on a path without holes, written in this package.
func fixed(method, path string) Operation {
	template := MustTemplate(path)
	p, err := template.Expand(nil)
	if err != nil {
		panic("vaultx: " + path)
	}
	return Operation{Method: method, Path: p, Template: template}
}
