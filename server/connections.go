package server

import (
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"vault-mcp/auth"
)

// connections bounds the open connections, in all and of one network, by
// http.Server.ConnState. Whoever comes when there is no room is told so and
// turned away at once.
type connections struct {
	max, maxOf int
	log        *zap.Logger
	say        *rate.Limiter

	mu   sync.Mutex
	held map[net.Conn]string // to the network of the peer
	of   map[string]int      // by network
	shed int                 // turned away since it was last logged
}

// newConnections makes room for so many connections, of which one network has
// a quarter: a proxy brings many clients, and one client must not have it all.
func newConnections(most int, log *zap.Logger) *connections {
	return &connections{
		max: most, maxOf: max(1, most/4), log: log, say: rate.NewLimiter(rate.Every(time.Minute), 1),
		held: make(map[net.Conn]string), of: make(map[string]int),
	}
}

// shed is the answer to a connection too many.
const shed = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

func (c *connections) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if c.enter(conn) {
			return
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = tcp.Write([]byte(shed))
		}
		_ = conn.Close()
	case http.StateClosed, http.StateHijacked:
		c.leave(conn)
	default: // busy and idle ones are held all the same
	}
}

func (c *connections) enter(conn net.Conn) bool {
	network := auth.Network(conn.RemoteAddr().String())
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) < c.max && c.of[network] < c.maxOf {
		c.held[conn] = network
		c.of[network]++
		return true
	}
	if c.shed++; c.say.Allow() {
		c.log.Warn("too many connections", zap.Int("open", len(c.held)), zap.Int("turned_away", c.shed),
			zap.String("last_from", network), zap.Int("open_from_there", c.of[network]))
		c.shed = 0
	}
	return false
}

// leave forgets a connection, if it is one that was let in.
func (c *connections) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	network, ok := c.held[conn]
	if !ok {
		return
	}
	delete(c.held, conn)
	if c.of[network]--; c.of[network] == 0 {
		delete(c.of, network)
	}
}
