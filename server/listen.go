package server

import (
	"context"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/tools"
)

// hear serves subscriptions/listen of 2026-07-28: it acknowledges, and then tells
// of changes until the client, its right to hear, or the server goes.
func (s *Server) hear(ctx context.Context, next mcp.MethodHandler, req *mcp.SubscriptionsListenRequest, c *caller) (mcp.Result, error) {
	// At shutdown the stream ends with its result, as it should.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)() //nolint:contextcheck // two ends: the request's and the streams'
	if req.Params.Notifications == nil || len(req.Params.Notifications.ResourceSubscriptions) == 0 {
		return next(ctx, methodListen, req)
	}
	if req.ProtocolVersion() < modernVersion {
		return nil, &jsonrpc.Error{Code: codeNoMethod} // which is recorded where it is sent
	}
	l, err := s.newListener(ctx, req, c)
	if err != nil {
		return nil, protocolError(err, req.ProtocolVersion(), c.requestID)
	}
	defer l.close()
	if l.acknowledge(ctx) == nil {
		l.tell(ctx)
	}
	if c.transport == transportStdio && ctx.Err() != nil && s.streams.Err() == nil {
		return nil, context.Canceled // by the client, which wants no answer then
	}
	return &mcp.SubscriptionsListenResult{Meta: l.meta}, nil
}

// listener is one subscriptions/listen.
type listener struct {
	s       *Server
	session *mcp.ServerSession
	from    *caller
	owner   string
	heard   *tools.Listening
	feed    *events.Subscription
	meta    mcp.Meta // names the request, in whatever is sent
}

// newListener holds a listen against what its caller may do, and hears from then
// on. Where one URI is refused, all are.
func (s *Server) newListener(ctx context.Context, req *mcp.SubscriptionsListenRequest, c *caller) (l *listener, err error) {
	uris := slices.Clone(req.Params.Notifications.ResourceSubscriptions)
	slices.Sort(uris)
	uris = slices.Compact(uris)
	err = s.serve(ctx, c, func(ctx context.Context, p *auth.Principal) error {
		if err := s.current(c, p); err != nil {
			return err
		}
		if full := s.subscribers.take(p.ID(), len(uris)); full != nil {
			return s.reject(c, p, full)
		}
		defer func() { // also where something panicked
			if l == nil {
				s.subscribers.give(p.ID(), len(uris))
			}
		}()
		heard, err := s.opt.Runner.Listen(ctx, listenOf(c, p, uris))
		if err != nil {
			return err
		}
		l = &listener{
			s: s, session: req.Session, from: c, owner: p.ID(), heard: heard, feed: s.subscribeTo(heard),
			meta: mcp.Meta{mcp.MetaKeySubscriptionID: c.id},
		}
		return nil
	})
	return l, err
}

// subscribeTo is a queue of what is heard, of which the last change of each secret
// is enough.
func (s *Server) subscribeTo(l *tools.Listening) *events.Subscription {
	in := l.Interest()
	in.Coalesce = true
	return s.opt.Events.Subscribe(in)
}

func (l *listener) close() {
	l.feed.Close()
	l.s.subscribers.give(l.owner, len(l.heard.Asked()))
}

func (l *listener) acknowledge(ctx context.Context) error {
	return l.s.notify(ctx, l.session, "notifications/subscriptions/acknowledged", &mcp.SubscriptionsAcknowledgedParams{
		Meta: l.meta, Notifications: mcp.NotificationSubscriptions{ResourceSubscriptions: l.heard.Asked()},
	})
}

// tell tells of changes until it cannot, or may not.
func (l *listener) tell(ctx context.Context) {
	tick := time.NewTicker(l.s.opt.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.feed.Ready():
		}
		batch := l.feed.Take()
		var checked time.Time
		for _, uri := range append(changes(l.heard, batch), "") {
			if time.Since(checked) > l.s.opt.Recheck/2 {
				if !l.s.mayHear(ctx, l.from, l.heard) {
					return
				}
				checked = time.Now()
			}
			if uri != "" && l.s.updated(ctx, l.session, uri, l.meta) != nil {
				return
			}
		}
	}
}

// changes are the URIs of what a batch tells of: after a gap, all that are listened
// to.
func changes(heard *tools.Listening, batch events.Batch) (uris []string) {
	if batch.Gap {
		uris = heard.Asked()
	}
	for _, e := range batch.Events {
		uris = append(uris, heard.URIs(e)...)
	}
	return uris
}

// updated tells one session that a resource changed.
func (s *Server) updated(ctx context.Context, session *mcp.ServerSession, uri string, meta mcp.Meta) error {
	return s.notify(ctx, session, "notifications/resources/updated", &mcp.ResourceUpdatedNotificationParams{Meta: meta, URI: uri})
}
