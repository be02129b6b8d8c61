package server

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func (s *Server) listResources(ctx context.Context, next mcp.MethodHandler, req *mcp.ListResourcesRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "resources/list", req)
}

func (s *Server) listTemplates(ctx context.Context, next mcp.MethodHandler, req *mcp.ListResourceTemplatesRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "resources/templates/list", req)
}

func (s *Server) readResource(ctx context.Context, next mcp.MethodHandler, req *mcp.ReadResourceRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "resources/read", req)
}
