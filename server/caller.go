package server

import (
	"context"
	"encoding/json"
	"sync/atomic"

	sdkauth "github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
	"vault-mcp/tools"
)

// Transports, as they stand in records.
const (
	transportStdio = "stdio"
	transportMCP   = "mcp"
	transportRPC   = "rpc"
	transportFeed  = "events"
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
	remote    string // the client's address; empty over stdio
	shown     auth.Presented
	handle    bool // a handle stood in place of what is shown
	requestID string
	id        json.RawMessage // the message's own id, of a subscriptions/listen
	tool      string          // canonical name, once it is known
	uri       string          // of the resource that is read
	wanted    atomic.Pointer[wanted]
	gone      context.Context //nolint:containedctx // its end ends the call; nil where nothing tells
	seat      *seat           // reserved for the session that this request opens
}

// call is a call of the request's, for its principal.
func (c *caller) call(p *auth.Principal) tools.Call {
	return tools.Call{Principal: p, Transport: c.transport, Remote: c.remote, RequestID: c.requestID}
}

// who is the principal of the request.
func (c *caller) who(ctx context.Context) (*auth.Principal, error) {
	if c.launch != nil {
		return c.launch(ctx)
	}
	return c.principal, nil
}

// launched is the principal of a stdio process, for the records of what never
// became a call: a broken line, too, is of the one client that there is.
//
//nolint:contextcheck,nolintlint // what is asked is local, and a record does not wait for a request's end
func (c *caller) launched() (p *auth.Principal) {
	if c.launch == nil {
		return nil
	}
	// Where a record is about a panic of launch itself, there is nobody to name.
	defer func() {
		if recover() != nil {
			p = nil
		}
	}()
	p, _ = c.launch(context.Background())
	return p
}

// callerKey is where a TokenInfo carries the caller.
const callerKey = "caller"

// tokenInfo is what the SDK learns of a caller. It binds sessions to UserID.
func (c *caller) tokenInfo() *sdkauth.TokenInfo {
	info := &sdkauth.TokenInfo{Extra: map[string]any{callerKey: c}}
	if p := c.principal; p != nil {
		info.UserID = p.ID() + "|" + p.Prefix
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
