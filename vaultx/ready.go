package vaultx

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

const (
	// probeEvery is how old a readiness answer may be.
	probeEvery = time.Second
	// readyPatience is how long Vault has for it.
	readyPatience = 3 * time.Second
)

// probe holds the last readiness answer, and the question that is under way, so
// that any number of health checks make one request.
type probe struct {
	mu      sync.Mutex
	at      time.Time
	last    error
	era     int           // counts the tokens that were in force
	running chan struct{} // closed when the question under way is answered; nil: none is
	cancel  context.CancelFunc
}

var lookupSelf = fixed(http.MethodGet, "auth/token/lookup-self")

// Ready says whether Vault would serve a call now: it is asked with the
// server's own token, because an unauthenticated health check says 200 while
// every call fails (a full audit device, a token that has ended). The answer
// is up to a second old. It is for everyone who asks, so it does not depend on
// how long one of them is willing to wait. A degraded error (fault.IsDegraded) is
// of a Vault that serves, with a token that cannot be replaced.
func (c *Client) Ready(ctx context.Context) error {
	if err := c.ready(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return c.trouble()
}

// ready is Ready for one who does not wait longer than its context: it then gets
// the context's end.
func (c *Client) ready(ctx context.Context) error {
	c.probe.mu.Lock()
	if time.Since(c.probe.at) < probeEvery {
		defer c.probe.mu.Unlock()
		return c.probe.last
	}
	if c.probe.running == nil {
		c.probe.running = make(chan struct{})
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyPatience)
		c.probe.cancel = cancel
		go c.look(asking, cancel, c.probe.era) // Close ends it
	}
	answered := c.probe.running
	c.probe.mu.Unlock()
	select {
	case <-answered:
		c.probe.mu.Lock()
		defer c.probe.mu.Unlock()
		return c.probe.last
	case <-ctx.Done():
		return fault.From(ctx.Err())
	}
}

// look asks whether Vault would serve a call. The answer is not kept if another
// token has come into force meanwhile.
func (c *Client) look(ctx context.Context, cancel context.CancelFunc, era int) {
	defer cancel()
	_, err := c.ask(lookupSelf).Do(ctx, Request{})
	if errors.Is(err, fault.Forbidden) {
		err = c.refused(ctx)
	}
	c.probe.mu.Lock()
	defer c.probe.mu.Unlock()
	c.probe.at, c.probe.last = time.Now(), err
	if c.probe.era != era {
		c.probe.at = time.Time{}
	}
	close(c.probe.running)
	c.probe.running = nil
}

// forget makes the next who asks have Vault asked, for there is another token.
func (p *probe) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = time.Time{}
	p.era++
}

// end ends the question that is under way.
func (p *probe) end() {
	p.mu.Lock()
	running := p.running
	if running != nil {
		p.cancel()
	}
	p.mu.Unlock()
	if running != nil {
		<-running
	}
}

// refused tells a token that may not look itself up from one that has ended.
// Vault says "invalid token" of the latter; OpenBao, and Vault before 1.14, say
// the same of both. So the token has to do something else that any token of
// ours can: ask about the KV mount.
func (c *Client) refused(ctx context.Context) error {
	if err := c.KVVersion2(ctx); err == nil || !errors.Is(err, fault.Forbidden) {
		return err
	}
	return fault.New(fault.Unavailable, msgToken)
}

// ended reports whether a refusal was the token's end and not the policy's
// word. The answer is the readiness probe's, so that any number of refused calls
// make one request a second.
func (c *Client) ended(ctx context.Context) bool {
	var f *fault.Error
	return errors.As(c.ready(ctx), &f) && f.Msg == msgToken
}

// ask binds a question of the server's own: about Vault, for no principal.
func (c *Client) ask(op Operation) *Bound {
	b := c.Bind(op, BindOptions{Retryable: true})
	b.ours = true
	return b
}

// TokenInfo is what an operator wants to know of the server's token.
type TokenInfo struct {
	Policies  []string `json:"policies"`
	TTL       int      `json:"ttl"` // seconds; 0: does not end
	Renewable bool     `json:"renewable"`
	Period    int      `json:"period"` // seconds; 0: it has a maximum
	Identity  []string `json:"identity_policies"`
}

// Token looks the server's token up.
func (c *Client) Token(ctx context.Context) (TokenInfo, error) {
	resp, err := c.ask(lookupSelf).Do(ctx, Request{})
	var info TokenInfo
	if err != nil {
		return info, err
	}
	return info, decodeData(resp, &info)
}

var kvMount = MustTemplate("sys/internal/ui/mounts/{kv}")

// KVVersion2 says whether the KV mount is there and holds version 2. An
// ordinary token may ask.
func (c *Client) KVVersion2(ctx context.Context) error {
	op, err := NewOperation("read", kvMount, map[string]string{"kv": c.cfg.Mounts.KV})
	if err != nil {
		return err
	}
	resp, err := c.ask(op).Do(ctx, Request{})
	if err != nil {
		return err
	}
	var mount struct {
		Type    string            `json:"type"`
		Options map[string]string `json:"options"`
	}
	if err := jsonv2.Unmarshal(resp.Data, &mount); err != nil {
		return unreadable(secret.JSONError(err))
	}
	if mount.Type != "kv" || mount.Options["version"] != "2" {
		return fault.New(fault.Invalid, "KV_MOUNT is not a KV engine of version 2")
	}
	return nil
}

var sysHealth = fixed(http.MethodGet, "sys/health")

// Health is what Vault says of itself to anyone.
type Health struct {
	Version    string `json:"version"`
	Enterprise bool   `json:"enterprise"`
	ServerTime int64  `json:"server_time_utc"` // Unix seconds
}

// Health asks for version and clock. A standby may answer. The path is not
// within any namespace.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	b := c.ask(sysHealth)
	b.bare, b.tokens = true, fixedToken{} // anyone may ask, without a login too
	resp, err := b.Do(ctx, Request{Query: url.Values{"standbyok": {"true"}, "perfstandbyok": {"true"}}})
	if err != nil {
		return h, err
	}
	if err := jsonv2.Unmarshal(resp.whole, &h); err != nil {
		return h, unreadable(secret.JSONError(err))
	}
	return h, nil
}
