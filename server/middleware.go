package server

import (
	"context"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// How long callers are told to wait when there is no room for a call, or for a
// session.
const (
	busyRetry    = time.Second
	sessionRetry = time.Minute
)

// receive is the outermost middleware of every method: it recovers panics,
// which would end the process, and adapts the methods that need it.
func (s *Server) receive(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (res mcp.Result, err error) {
		c := callerOf(req)
		if c == nil { // no adapter of ours made this request
			return nil, rpcError(codeInternal, fault.New(fault.Unauthenticated, "the request has no caller"), "")
		}
		defer func() {
			if p := recover(); p != nil {
				res, err = nil, rpcError(codeInternal, s.reject(c, c.principal, fault.Panicked(p)), c.requestID)
			}
		}()
		switch req := req.(type) {
		case *mcp.CallToolRequest:
			return s.nameTool(ctx, next, req, c)
		case *mcp.ListToolsRequest:
			return s.listTools(ctx, next, req, c)
		case *mcp.SubscriptionsListenRequest:
			return s.hear(ctx, next, req, c)
		case *mcp.ListResourcesRequest:
			return s.listResources(ctx, next, req, c)
		case *mcp.ListResourceTemplatesRequest:
			return s.listTemplates(ctx, next, req, c)
		case *mcp.ReadResourceRequest:
			return s.readResource(ctx, next, req, c)
		case *mcp.SubscribeRequest:
			return s.subscribe(ctx, next, req, c)
		case *mcp.UnsubscribeRequest:
			return s.unsubscribe(ctx, next, req, c)
		case *mcp.ListPromptsRequest:
			return s.listPrompts(ctx, next, req, c)
		case *mcp.GetPromptRequest:
			return s.getPrompt(ctx, next, req, c)
		case *mcp.CompleteRequest:
			return s.complete(ctx, next, req, c)
		}
		res, err = next(ctx, method, req)
		if method == methodInitialize && err == nil {
			c.seat.take(req.GetSession().ID())
		}
		return res, err
	}
}

// nameTool gives the tool of a call its canonical name, whichever spelling the
// caller used. The request is copied: the SDK holds on to its own.
func (s *Server) nameTool(ctx context.Context, next mcp.MethodHandler, req *mcp.CallToolRequest, c *caller) (mcp.Result, error) {
	tool, ok := s.catalog.Lookup(req.Params.Name)
	if !ok {
		p, err := c.who(ctx)
		if err == nil {
			err = fault.New(fault.NotFound, "there is no such tool")
		}
		return nil, rpcError(codeInvalidParams, s.reject(c, p, err), c.requestID)
	}
	c.tool = tool.Name
	if req.Params.Name != tool.Name {
		params, renamed := *req.Params, *req
		params.Name = tool.Name
		renamed.Params = &params
		req = &renamed
	}
	return next(ctx, methodCall, req)
}

// listTools shows the tools that the caller may call, in the spelling that its
// client takes.
func (s *Server) listTools(ctx context.Context, next mcp.MethodHandler, req *mcp.ListToolsRequest, c *caller) (mcp.Result, error) {
	p, err := s.present(ctx, c)
	if err != nil {
		return nil, rpcError(codeInvalidRequest, s.reject(c, p, err), c.requestID)
	}
	res, err := next(ctx, methodList, req)
	all, ok := res.(*mcp.ListToolsResult)
	if err != nil || !ok {
		return res, err
	}
	shown := *all
	shown.Tools = s.visible(all.Tools, p, s.opt.ToolNames.underscored(req.ClientInfo()))
	return &shown, nil
}

// visible are those of the SDK's tools that a principal may call, as clients
// see them.
func (s *Server) visible(all []*mcp.Tool, p *auth.Principal, underscored bool) []*mcp.Tool {
	may := s.opt.Runner.Visible(p)
	shown := make([]*mcp.Tool, 0, len(may))
	for _, t := range all {
		l, ok := s.listed[t.Name]
		switch {
		case !ok || !slices.Contains(may, l.tool):
		case underscored:
			shown = append(shown, l.underlined)
		default:
			shown = append(shown, l.dotted)
		}
	}
	return shown
}

// reject records that a request was refused before it became a call, and
// returns what its caller is told.
func (s *Server) reject(c *caller, p *auth.Principal, err error) *fault.Error {
	if p == nil {
		p = c.launched()
	}
	return s.opt.Runner.Reject(tools.Rejection{
		Principal: p, Tool: c.tool, Transport: c.transport, Remote: c.remote, RequestID: c.requestID, Err: err,
	})
}
