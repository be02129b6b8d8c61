package vaultx

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// WrapInfo describes a single-use wrapping token.
type WrapInfo struct {
	Token        secret.Text
	TTL          int    // seconds
	CreationPath string // whoever unwraps compares it
	CreationTime string // RFC 3339
}

// wrapInfo is the same as Vault writes it.
type wrapInfo struct {
	Token        secret.Text `json:"token"`
	TTL          int         `json:"ttl"`
	CreationPath string      `json:"creation_path"`
	CreationTime string      `json:"creation_time"`
}

// WrapOperation is what Wrap needs of Vault.
var WrapOperation = Operation{Method: http.MethodPost, Template: MustTemplate("sys/wrapping/wrap"), Path: literal("sys/wrapping/wrap")}

// literal is a path without holes, written in this package.
func literal(s string) Path {
	p, err := MustTemplate(s).Expand(nil)
	if err != nil {
		panic("vaultx: " + s)
	}
	return p
}

// Wrap puts values under a single-use wrapping token that lives for ttl, which
// the caller has bounded: Vault does not.
func (b *Bound) Wrap(ctx context.Context, payload map[string]jsontext.Value, ttl time.Duration) (WrapInfo, error) {
	resp, err := b.Do(ctx, Request{Body: payload, wrapTTL: strconv.Itoa(max(1, int(ttl.Seconds()))) + "s"})
	if err != nil {
		return WrapInfo{}, err
	}
	if resp.WrapInfo == nil || resp.WrapInfo.Token.IsZero() {
		return WrapInfo{}, fault.New(fault.Unavailable, "Vault did not give a wrapping token")
	}
	return WrapInfo(*resp.WrapInfo), nil
}
