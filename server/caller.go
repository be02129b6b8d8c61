package server

import (
	"context"

	sdkauth "github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
)

// Transports, as they stand in records.
const (
	transportStdio = "stdio"
	transportMCP   = "mcp"
	transportRPC   = "rpc"
)

// Launch gives the principal of a stdio process. It is asked on every call, so
// that a credential which expires or changes while the process lives counts.
type Launch func(ctx context.Context) (*auth.Principal, error)

// caller is what the adapters know of one request, made where it came in. It
// reaches the handlers with the SDK's request, never in a context: in a
// session, the SDK's contexts are those of the request that opened it.
type caller struct {
	principal *auth.Principal // over HTTP
	launch    Launch          // over stdio
	transport string
	remote    string // the peer's address; empty over stdio
	requestID string
	gone      context.Context //nolint:containedctx // its end ends the call; nil where nothing tells
	seat      *seat           // reserved for the session that this request opens
}

// who is the principal of the request.
func (c *caller) who(ctx context.Context) (*auth.Principal, error) {
	if c.launch != nil {
		return c.launch(ctx)
	}
	return c.principal, nil
}

// callerKey is where a TokenInfo carries the caller.
const callerKey = "caller"

// tokenInfo is what the SDK learns of a caller. It binds sessions to UserID.
func (c *caller) tokenInfo() *sdkauth.TokenInfo {
	info := &sdkauth.TokenInfo{Extra: map[string]any{callerKey: c}}
	if p := c.principal; p != nil {
		info.UserID = p.ID() + "|" + p.Slug
		info.Expiration = p.ExpiresAt
	}
	return info
}

// callerOf finds the caller of the current request.
func callerOf(req mcp.Request) *caller {
	extra := req.GetExtra()
	if extra == nil || extra.TokenInfo == nil {
		return nil
	}
	c, _ := extra.TokenInfo.Extra[callerKey].(*caller)
	return c
}
