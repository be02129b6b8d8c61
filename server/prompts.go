package server

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func (s *Server) listPrompts(ctx context.Context, next mcp.MethodHandler, req *mcp.ListPromptsRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "prompts/list", req)
}

func (s *Server) getPrompt(ctx context.Context, next mcp.MethodHandler, req *mcp.GetPromptRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "prompts/get", req)
}

func (s *Server) complete(ctx context.Context, next mcp.MethodHandler, req *mcp.CompleteRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "completion/complete", req)
}
