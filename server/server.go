// Package server faces the outside: MCP over stdio and streamable HTTP, plain
// JSON-RPC at /mcp/rpc, and health. It adapts and nothing else: every call of a
// tool goes to tools.Runner.Run, every refusal before that to
// tools.Runner.Reject, and no rule about tools stands here.
//
// One SDK server serves all transports and all protocol revisions from
// 2024-11-05 to 2026-07-28. What a request meets on its way:
//
//   - stdio: a line reader with a bound, the frame gate, the SDK, the middleware
//   - HTTP: request id, panic recovery, Host and Origin lists, CORS, media type
//     and size, the limit per address, authentication, the frame gate, the bound
//     on sessions, the SDK's handler of the protocol era, the middleware
//
// The frame gate (CheckFrame) stands before the SDK because the SDK takes
// duplicate names, trailing data, broken UTF-8 and batches, ends a stdio
// session at the first bad line, and repeats values in its errors. Errors that
// the SDK makes after the gate are stripped of their text on the way out.
//
// The principal is that of the current request, carried in its TokenInfo. The
// contexts that the SDK gives to handlers are not asked: in a session they come
// from the request that opened it.
//
// Everything that grows with use has a bound: messages, depth, connections,
// sessions in all and per principal, calls under way, time for headers, bodies,
// writes and shutdown, and records about refused requests.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/zap"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/secret"
	"vault-mcp/tools"
)

// AddressLimiter bounds what one network address may try.
type AddressLimiter interface {
	// Allow counts a request of an address; false refuses it.
	Allow(addr string) bool
	// Failed counts a failed authentication of an address.
	Failed(addr string)
}

// Options are a Server's settings. Zero durations and counts mean the default
// that stands beside them.
type Options struct {
	Runner    *tools.Runner // required
	Log       *zap.Logger   // required
	Version   string        // of the program
	ToolNames ToolNames     // default NamesAuto

	// Events are what streams and subscriptions tell of; nil: nothing.
	Events *events.Bus

	// Key makes ids of events and what guards handles; replicas share it. Empty: one
	// that is good for as long as this Server lives.
	Key []byte

	// Authenticate gives the principal of what a request shows, or a
	// *fault.Error. Required for HTTP.
	Authenticate func(ctx context.Context, p auth.Presented) (*auth.Principal, error)
	Addresses    AddressLimiter // nil: no limit per address

	// Tokens keeps what handles of streams of events stand for; nil: this process does.
	Tokens TokenStore

	TLS         *TLS          // nil: plain HTTP
	Proxies     *auth.Proxies // whose word about the client's address counts; nil: nobody's
	ForwardedBy string        // the header with it, default X-Forwarded-For; or Forwarded

	AllowedHosts   []string // host or host:port; loopback names and PublicURL's host are always allowed
	AllowedOrigins []string // scheme://host[:port]; PublicURL's origin is always allowed
	PublicURL      string   // where clients reach us, if not at the listener's address
	OAuth          OAuth    // who issues access tokens

	MaxSessions                  int // legacy sessions and open streams in all, default 1000
	MaxSessionsPerPrincipal      int // of one principal, default 100
	MaxSubscribers               int // streams of /events in all, default 1000
	MaxSubscribersPerPrincipal   int // of one principal, default 100
	MaxSubscriptions             int // URIs that MCP clients are subscribed to in all, default 10 000
	MaxSubscriptionsPerPrincipal int // by one principal, default 1000
	MaxCalls                     int // calls under way, default 256
	MaxConnections               int // open connections, default 4096

	KeepAlive      time.Duration // between comments on an idle stream, default 15 s
	SessionTimeout time.Duration // an unused session ends, default 30 min
	ReadTimeout    time.Duration // to send a body, default 15 s
	WriteTimeout   time.Duration // to take what is written, default 15 s; on a stream never more than streamWait
	Recheck        time.Duration // between checks of a stream's credential, default 2 s
	DrainTimeout   time.Duration // for what is under way at shutdown, default 10 s

	// Ready are the checks of /readyz by name ("vault", "audit"). One whose error is
	// degraded (fault.IsDegraded) is told, and the server is ready all the same.
	Ready map[string]func(context.Context) error
}

func (o *Options) defaults() {
	number := func(n *int, value int) {
		if *n <= 0 {
			*n = value
		}
	}
	duration := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	number(&o.MaxSessions, 1000)
	number(&o.MaxSessionsPerPrincipal, 100)
	number(&o.MaxSubscribers, 1000)
	number(&o.MaxSubscribersPerPrincipal, 100)
	number(&o.MaxCalls, 256)
	number(&o.MaxSubscriptions, 10_000)
	number(&o.MaxSubscriptionsPerPrincipal, 1000)
	number(&o.MaxConnections, 4096)
	duration(&o.KeepAlive, 15*time.Second)
	duration(&o.SessionTimeout, 30*time.Minute)
	duration(&o.ReadTimeout, 15*time.Second)
	duration(&o.WriteTimeout, 15*time.Second)
	duration(&o.Recheck, 2*time.Second)
	duration(&o.DrainTimeout, 10*time.Second)
	if o.ForwardedBy == "" {
		o.ForwardedBy = headerForwardedFor
	}
	if o.Tokens == nil {
		o.Tokens = newMemoryTokens()
	}
	if len(o.Key) == 0 {
		o.Key = make([]byte, secret.KeySize)
		_, _ = rand.Read(o.Key) // never fails
	}
	if o.ToolNames == "" {
		o.ToolNames = NamesAuto
	}
}

// Server serves one catalogue over any of its transports, until it is drained.
// It cannot be used again after that.
type Server struct {
	opt      Options
	log      *zap.Logger
	catalog  *tools.Catalog
	mcp      *mcp.Server
	listed   map[string]listing // by dotted name
	sessions *sessions
	cutOffs  *cutOffs
	feed     feeds
	health   *health
	hosts    hosts
	cors     cors
	resource *resource

	subscribers *subscribers
	send        mcp.MethodHandler // sends a notification to a session, see subscribe.go

	forwarded string // the header with the client's address, as net/http spells it

	calls    *flight     // calls of tools under way
	requests *flight     // HTTP requests under way, streams excepted
	flows    *flight     // streams
	draining atomic.Bool // shutdown began

	base      context.Context //nolint:containedctx // its end ends calls under way
	endCalls  context.CancelFunc
	streams   context.Context //nolint:containedctx // its end ends streams
	endStream context.CancelFunc
}

// New makes a Server.
func New(opt Options) (*Server, error) {
	opt.defaults()
	if opt.Runner == nil || opt.Log == nil {
		return nil, errors.New("server: a runner and a log are required")
	}
	if err := opt.ToolNames.check(); err != nil {
		return nil, err
	}
	hosts, err := newHosts(opt)
	if err != nil {
		return nil, err
	}
	resource, err := newResource(opt)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt: opt, log: opt.Log, hosts: hosts,
		catalog:  opt.Runner.Catalog(),
		sessions: newSessions("sessions", opt.MaxSessions, opt.MaxSessionsPerPrincipal),
		cutOffs:  newCutOffs(opt.Log),
		feed:     newFeeds(opt),
		health:   newHealth(opt.Ready),
		calls:    newFlight(opt.MaxCalls),
		requests: newFlight(0),
		flows:    newFlight(0),
		cors:     newCORS(opt, hosts),
		resource: resource,

		subscribers: newSubscribers(opt.MaxSubscriptions, opt.MaxSubscriptionsPerPrincipal),

		forwarded: http.CanonicalHeaderKey(opt.ForwardedBy),
	}
	s.base, s.endCalls = context.WithCancel(context.Background())
	s.streams, s.endStream = context.WithCancel(context.Background())
	s.mcp, s.listed = s.newMCP()
	return s, nil
}
