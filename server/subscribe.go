package server

import (
	"context"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// Changes are told by ways of our own, and not by the SDK's ResourceUpdated: that
// writes to one session after the other, so that a client which takes nothing holds
// up all others, and tells nobody whether anything was delivered. So the SDK holds
// no subscriptions. Its sending handler is called for one session at a time, by the
// one goroutine of each subscriber:
//
//   - a session of an older revision has a subscriber (subscriber.go)
//   - a subscriptions/listen of 2026-07-28 is one itself (listen.go)

// registered is the one URI of subscriptions that the SDK gets to see, for the sake
// of its answer.
const registered = "kv:"

// subscribe serves resources/subscribe of the older revisions.
func (s *Server) subscribe(ctx context.Context, next mcp.MethodHandler, req *mcp.SubscribeRequest, c *caller) (mcp.Result, error) {
	err := s.serve(ctx, c, func(ctx context.Context, p *auth.Principal) error {
		return s.addSubscription(ctx, req.Session, c, p, req.Params.URI)
	})
	if err != nil {
		return nil, protocolError(err, req.ProtocolVersion(), c.requestID)
	}
	return next(ctx, methodSubscribe, &mcp.SubscribeRequest{
		Session: req.Session, Extra: req.Extra, Params: &mcp.SubscribeParams{URI: registered},
	})
}

// addSubscription has a session hear of one more URI, from before its answer on.
func (s *Server) addSubscription(ctx context.Context, session *mcp.ServerSession, c *caller, p *auth.Principal, uri string) error {
	if err := s.current(c, p); err != nil {
		return err
	}
	if session.ID() == "" && c.transport != transportStdio {
		return s.reject(c, p, fault.New(fault.Invalid, "a subscription needs a session: an initialize, at /mcp"))
	}
	b := s.subscribers.of(s, session, c)
	if b == nil {
		return s.reject(c, p, shuttingDown())
	}
	return b.subscribe(c, p, uri, func() (*tools.Listening, error) {
		return s.opt.Runner.Listen(ctx, listenOf(c, p, []string{uri}))
	})
}

// unsubscribe serves resources/unsubscribe. What is not subscribed to needs no
// end.
func (s *Server) unsubscribe(ctx context.Context, next mcp.MethodHandler, req *mcp.UnsubscribeRequest, c *caller) (mcp.Result, error) {
	err := s.serve(ctx, c, func(_ context.Context, p *auth.Principal) error {
		if err := s.current(c, p); err != nil {
			return err
		}
		if b := s.subscribers.find(req.Session.ID()); b != nil {
			b.remove(req.Params.URI)
		}
		return nil
	})
	if err != nil {
		return nil, protocolError(err, req.ProtocolVersion(), c.requestID)
	}
	return next(ctx, methodUnsubscribe, &mcp.UnsubscribeRequest{
		Session: req.Session, Extra: req.Extra, Params: &mcp.UnsubscribeParams{URI: registered},
	})
}

// current refuses a principal whose credential is over.
func (s *Server) current(c *caller, p *auth.Principal) error {
	if p.Valid(time.Now()) {
		return nil
	}
	return s.reject(c, p, fault.New(fault.Unauthenticated, "the credential is missing or has expired"))
}

func listenOf(c *caller, p *auth.Principal, uris []string) tools.Listen {
	return tools.Listen{Principal: p, URIs: uris, Transport: c.transport, Remote: c.remote, RequestID: c.requestID}
}

// mayHear reports whether what a caller showed still gives a principal who may hear
// what it listens to.
func (s *Server) mayHear(ctx context.Context, c *caller, l *tools.Listening) bool {
	p, err := s.again(ctx, c)
	return err == nil && l.Permits(p)
}

// notify sends one notification to one session. In the context of a request it goes
// out with that request's answer, else on the session's stream.
func (s *Server) notify(ctx context.Context, session *mcp.ServerSession, method string, params mcp.Params) error {
	var req mcp.Request
	switch params := params.(type) {
	case *mcp.ResourceUpdatedNotificationParams:
		req = &mcp.ServerRequest[*mcp.ResourceUpdatedNotificationParams]{Session: session, Params: params}
	case *mcp.SubscriptionsAcknowledgedParams:
		req = &mcp.ServerRequest[*mcp.SubscriptionsAcknowledgedParams]{Session: session, Params: params}
	}
	_, err := s.send(ctx, method, req)
	return err
}
