package server

import (
	"context"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// resourceType is the media type of every resource.
const resourceType = "application/json"

// anyResource is the one resource that the SDK knows of: only by serving one that
// it knows does it complete a result as each revision wants it. Nobody sees it.
const anyResource = "kv:any"

// addResource makes the SDK serve resources/read.
func (s *Server) addResource(server *mcp.Server) {
	server.AddResource(&mcp.Resource{URI: anyResource, Name: "any", MIMEType: resourceType}, s.sendResource)
}

// readResource serves resources/read: it notes the URI on the caller and lets the
// SDK call sendResource.
func (s *Server) readResource(ctx context.Context, next mcp.MethodHandler, req *mcp.ReadResourceRequest, c *caller) (mcp.Result, error) {
	c.uri = req.Params.URI
	params, same := *req.Params, *req
	params.URI = anyResource
	same.Params = &params
	return next(ctx, methodRead, &same)
}

// sendResource is the SDK's handler of every resource.
func (s *Server) sendResource(ctx context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	c := callerOf(req)
	if c == nil {
		return nil, rpcError(codeInternal, fault.New(fault.Unauthenticated, "the request has no caller"), "")
	}
	var uri string
	var res tools.Result
	err := s.serve(ctx, c, func(ctx context.Context, p *auth.Principal) (err error) {
		uri, res, err = s.opt.Runner.ReadResource(ctx, c.call(p), c.uri)
		return err
	})
	if err != nil {
		return nil, protocolError(err, req.ProtocolVersion(), c.requestID)
	}
	return &mcp.ReadResourceResult{
		Contents: []*mcp.ResourceContents{{URI: uri, MIMEType: resourceType, Text: string(res.JSON)}},
	}, nil
}

// listResources serves resources/list.
func (s *Server) listResources(ctx context.Context, _ mcp.MethodHandler, req *mcp.ListResourcesRequest, c *caller) (mcp.Result, error) {
	cursor := ""
	if req.Params != nil {
		cursor = req.Params.Cursor
	}
	var page tools.ResourcePage
	err := s.serve(ctx, c, func(ctx context.Context, p *auth.Principal) (err error) {
		page, err = s.opt.Runner.ListResources(ctx, c.call(p), cursor)
		return err
	})
	if err != nil {
		return nil, protocolError(err, req.ProtocolVersion(), c.requestID)
	}
	shown := make([]*mcp.Resource, 0, len(page.Resources))
	for _, r := range page.Resources {
		shown = append(shown, &mcp.Resource{URI: r.URI, Name: r.Path, MIMEType: resourceType})
	}
	return &mcp.ListResourcesResult{Cacheable: uncached, Resources: shown, NextCursor: page.Next}, nil
}

// listTemplates serves resources/templates/list: one, for who may read.
func (s *Server) listTemplates(ctx context.Context, _ mcp.MethodHandler, req *mcp.ListResourceTemplatesRequest, c *caller) (mcp.Result, error) {
	p, err := s.present(ctx, c)
	if err == nil && req.Params != nil && req.Params.Cursor != "" {
		err = onePage()
	}
	if err != nil {
		return nil, protocolError(s.reject(c, p, err), req.ProtocolVersion(), c.requestID)
	}
	shown := []*mcp.ResourceTemplate{}
	if help, ok := s.opt.Runner.ResourceHelp(p); ok {
		shown = append(shown, &mcp.ResourceTemplate{
			URITemplate: tools.ResourceTemplate, Name: "secret", Title: help.Title, Description: help.Description, MIMEType: resourceType,
		})
	}
	return &mcp.ListResourceTemplatesResult{Cacheable: uncached, ResourceTemplates: shown}, nil
}

// onePage refuses the cursor of a list that has one page.
func onePage() *fault.Error { return fault.Field("/cursor", "must not be given: there is one page") }

// present is the principal of a request that only shows what there is.
func (s *Server) present(ctx context.Context, c *caller) (*auth.Principal, error) {
	p, err := c.who(ctx)
	if err == nil && !p.Valid(time.Now()) {
		err = fault.New(fault.Unauthenticated, "the credential is missing or has expired")
	}
	return p, err
}
