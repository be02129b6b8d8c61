package server

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func (s *Server) subscribe(ctx context.Context, next mcp.MethodHandler, req *mcp.SubscribeRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "resources/subscribe", req)
}

func (s *Server) unsubscribe(ctx context.Context, next mcp.MethodHandler, req *mcp.UnsubscribeRequest, _ *caller) (mcp.Result, error) {
	return next(ctx, "resources/unsubscribe", req)
}

// hear serves subscriptions/listen.
func (s *Server) hear(ctx context.Context, next mcp.MethodHandler, req *mcp.SubscriptionsListenRequest, _ *caller) (mcp.Result, error) {
	// At shutdown the stream ends with its result, as it should.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)() //nolint:contextcheck // two ends: the request's and the streams'
	return next(ctx, methodListen, req)
}
