package server

import (
	"context"
	"net/http"
	"time"
)

// keepSession keeps a session alive that hears of changes on its open stream, until
// ctx ends. The SDK counts a session as used only by its POSTs, and would end it
// under a client that does nothing but listen: so there is a ping now and then, as
// if by the client.
func (e *endpoint) keepSession(ctx context.Context, r *http.Request, c *caller, session string) {
	tick := time.NewTicker(e.opt.SessionTimeout / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b := e.subscribers.find(session); b == nil || !b.hearsSome() {
			continue
		}
		ping := sdkRequest(ctx, r, c, []byte(`{"jsonrpc":"2.0","id":"`+c.requestID+`","method":"ping"}`))
		ping.Method = http.MethodPost
		ping.Header["Content-Type"] = []string{"application/json"}
		ping.Header["Accept"] = []string{"application/json, text/event-stream"}
		e.stateful.ServeHTTP(&unheard{header: make(http.Header)}, ping)
	}
}

// unheard is an answer that nobody reads.
type unheard struct{ header http.Header }

func (u *unheard) Header() http.Header         { return u.header }
func (u *unheard) Write(b []byte) (int, error) { return len(b), nil }
func (u *unheard) WriteHeader(int)             {}
func (u *unheard) Flush()                      {}
