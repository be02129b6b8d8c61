package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Bounds of a connection.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
)

// ListenAndServe serves HTTP on a listener until ctx ends. Then it accepts
// nothing more, reports not ready to those that are connected, lets requests under way finish within
// DrainTimeout, ends streams and sessions, and returns nil; an error says that
// something had to be cut off, or why serving failed.
//
// A caller that wants to stop at once, on a second signal, exits the process:
// records are written as calls go.
func (s *Server) ListenAndServe(ctx context.Context, ln net.Listener) error {
	s.hosts.listening(ln.Addr())
	scheme := "http"
	if s.opt.TLS != nil {
		scheme = "https"
	}
	if err := s.resource.listening(scheme, ln.Addr()); err != nil {
		return err
	}
	hs := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		// OPTIONS * is held against Host and Origin like all else.
		DisableGeneralOptionsHandler: true,
		// What it says quotes what clients send; what matters of that is
		// recorded and logged by us.
		ErrorLog:  log.New(io.Discard, "", 0),
		ConnState: newConnections(s.opt.MaxConnections, s.log).track,
		// No WriteTimeout: it would end event streams. Each write has a
		// deadline of its own.
	}
	serve := hs.Serve
	if s.opt.TLS != nil {
		s.opt.TLS.listenTLS(hs, s.opt.WriteTimeout)
		serve = func(ln net.Listener) error { return hs.ServeTLS(ln, "", "") }
	}
	failed := make(chan error, 1)
	go func() { failed <- serve(ln) }()
	done := s.opt.Runner.WatchRefusals(transportMCP)
	defer done()
	select {
	case err := <-failed:
		s.end()
		_ = hs.Close()
		return fmt.Errorf("http: %w", err)
	case <-ctx.Done():
	}
	s.log.Info("stopping", zap.String("transport", "http"))
	err := s.drainHTTP(hs) //nolint:contextcheck // ctx has ended: draining has bounds of its own
	<-failed               //nolint:errcheck // that it was closed
	s.log.Info("stopped", zap.String("transport", "http"))
	return err
}

// drainHTTP ends everything, in the order that loses least.
func (s *Server) drainHTTP(hs *http.Server) error {
	s.draining.Store(true)
	s.feed.land() // who follows events begins anew elsewhere, and is late by as little as can be
	s.requests.land()
	done := make(chan error, 1)
	bound, cancel := context.WithTimeout(context.Background(), s.opt.DrainTimeout+3*forcedGrace)
	defer cancel()
	go func() { done <- hs.Shutdown(bound) }() // closes the listener first, then waits

	finished := s.waitCalls(s.opt.DrainTimeout)
	s.endCalls()
	if !finished {
		finished = s.waitCalls(forcedGrace)
	}
	s.flows.land()
	s.endStream()
	// Before their sessions: what is closed sends no result any more.
	finished = within(forcedGrace, s.flows) && finished
	finished = within(forcedGrace, s.feed.streams) && finished
	s.closeSessions(forcedGrace)
	select {
	case <-done: //nolint:errcheck // finished says whether all went
	case <-time.After(forcedGrace): // connections on which nobody asked anything
	}
	_ = hs.Close()
	if !finished {
		return errors.New("http: what was under way did not end in time and was cut off")
	}
	return nil
}

// waitCalls waits for requests, and then for calls: a call in a session of an
// older revision goes on when the client of its request has gone.
func (s *Server) waitCalls(d time.Duration) bool {
	until := time.Now().Add(d)
	if !within(d, s.requests) {
		return false
	}
	s.calls.land()
	return within(time.Until(until), s.calls)
}

// within reports whether all of a flight have left in time.
func within(d time.Duration, f *flight) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return f.wait(ctx)
}

// closeSessions ends the sessions of the older revisions, which have no other
// end: the SDK keeps them until their timeout.
func (s *Server) closeSessions(within time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for session := range s.mcp.Sessions() {
			all.Go(func() { _ = session.Close() })
		}
		all.Wait()
	}()
	select {
	case <-done:
	case <-time.After(within):
	}
}

// end lets go of everything that the server's contexts hold.
func (s *Server) end() {
	s.draining.Store(true)
	s.endCalls()
	s.endStream()
	s.feed.land()
}
