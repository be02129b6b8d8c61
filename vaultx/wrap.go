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
	Token        secret.Text `json:"token"`
	TTL          int         `json:"ttl"`           // seconds
	CreationPath string      `json:"creation_path"` // whoever unwraps compares it
	CreationTime string      `json:"creation_time"` // RFC 3339
}

// WrapOperation is what Wrap needs of Vault.
var WrapOperation = fixed(http.MethodPost, "sys/wrapping/wrap")

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
	return *resp.WrapInfo, nil
}
