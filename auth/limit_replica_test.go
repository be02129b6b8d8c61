package auth_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/secret"
)

// changes is what a shared limiter has told.
type changes struct {
	mu  sync.Mutex
	all []string
}

func (c *changes) told(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.all = append(c.all, "back")
		return
	}
	c.all = append(c.all, err.Error())
}

func (c *changes) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.all...)
}

// replica is one process's limiter.
func replica(t testing.TB, url secret.Text) (*auth.Limiter, *changes) {
	t.Helper()
	var c changes
	l, err := auth.NewSharedLimiter(t.Context(), auth.SharedOptions{URL: url, Changed: c.told})
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l, &c
}

// inTime waits for what happens by itself.
func inTime(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "still not: %s", what)
	}
}

// idHash is what stands for a principal's id in Redis.
func idHash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

// slow is a limit that gives nothing back while a test runs.
var slow = auth.Limit{Requests: 10, Window: 10 * time.Hour}

// says is a server that answers every command with the same.
func says(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					switch strings.ToUpper(lines.Text()) {
					case "HELLO", "SELECT", "CLIENT":
						_, _ = fmt.Fprint(conn, "-ERR unknown command\r\n")
					case "EVALSHA", "EVAL":
						_, _ = fmt.Fprint(conn, answer)
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().String()
}
