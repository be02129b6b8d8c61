package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// launchStdio starts `vault-mcp stdio` so that a test sees how it ends: unlike
// openStdio it leaves the process to the test. It waits for nothing.
func launchStdio(t testing.TB, env []string, key string) (*process, *mcp.IOTransport) {
	t.Helper()
	p := &process{cmd: exec.Command(binary, "stdio"), env: env, done: make(chan struct{})}
	p.cmd.Env = append(slices.Clone(env), "VAULT_MCP_API_KEY="+key)
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	// A pipe of our own: that of StdoutPipe is closed by Wait, with the last
	// answers in it.
	out, theirs, err := os.Pipe()
	require.NoError(t, err)
	p.cmd.Stdout = theirs
	require.NoError(t, p.cmd.Start())
	require.NoError(t, theirs.Close())
	go func() {
		defer close(p.done)
		p.collect(stderr, func(string) {})
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() { p.stop(t); _ = out.Close() })
	return p, &mcp.IOTransport{Reader: out, Writer: in}
}

// startStdio is launchStdio with a session; endInput closes the process's stdin.
func startStdio(t testing.TB, env []string, key string) (_ *mcp.ClientSession, p *process, endInput func()) {
	t.Helper()
	p, transport := launchStdio(t, env, key)
	return connect(t, transport, ""), p, func() { _ = transport.Writer.Close() }
}

// exit waits for the process to end within its bound, and returns its code.
func (p *process) exit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(soon):
		t.Fatalf("the server does not end:\n%s", p.stderr())
	}
	return p.cmd.ProcessState.ExitCode()
}

// verifyTrail has the product itself verify the trails of a state folder.
func verifyTrail(t testing.TB, env []string) (report audit.Report) {
	t.Helper()
	cmd := exec.Command(binary, "audit", "verify", "--json")
	cmd.Env = env
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(t, err, "%s%s", out, said.String())
	require.NoError(t, json.Unmarshal(out, &report))
	require.True(t, report.OK)
	return report
}

// running is a product in one transport, whose end a test sees.
type running struct {
	name  string
	start func(t *testing.T, env []string) (*mcp.ClientSession, *process, func())
}

func overHTTP(version string) running {
	return running{"http-" + version, func(t *testing.T, env []string) (*mcp.ClientSession, *process, func()) {
		t.Helper()
		p := startHTTP(t, env)
		transport := httpTransport(p.url, devKey)
		// The SDK's client gives up all of its calls, answered or not, when its
		// stream for other messages ends and cannot be had again.
		transport.DisableStandaloneSSE = true
		return connect(t, transport, version), p, nil
	}}
}

func everyTransport() []running {
	return []running{
		{"stdio", func(t *testing.T, env []string) (*mcp.ClientSession, *process, func()) {
			t.Helper()
			return startStdio(t, env, devKey)
		}},
		overHTTP("2025-06-18"), overHTTP("2026-07-28"),
	}
}

// calls notes what became of calls, each known by the path that it writes.
type calls struct {
	mu       sync.Mutex
	answered map[string]string // path to outcome
	broken   int               // calls without an answer
}

func (c *calls) write(session *mcp.ClientSession, caller, n int) bool {
	path := fmt.Sprintf("load/%d-%d", caller, n)
	a, err := ask(context.Background(), session, "kv.write", obj{"path": path, "data": obj{"n": n}})
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.broken++
		return false
	case a.code == "":
		c.answered[path] = "ok"
	default:
		c.answered[path] = a.code
		return false
	}
	return true
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answered)
}

// A server that is told to end while sixteen callers are at work loses nothing:
// it exits with 0, what was answered is on the trail, and what is on the trail
// was answered.
func TestEndUnderLoad(t *testing.T) {
	v := devstacktest.Shared(t)
	for _, r := range everyTransport() {
		for _, how := range []string{"SIGTERM", "end of input"} {
			if how == "end of input" && r.name != "stdio" {
				continue
			}
			t.Run(r.name+" "+how, func(t *testing.T) {
				env := settings(t, v)
				session, p, endInput := r.start(t, env)
				c := &calls{answered: map[string]string{}}
				wait := storm(16, func(caller, n int) bool { return c.write(session, caller, n) })
				require.Eventually(t, func() bool { return c.count() > 100 }, soon, time.Millisecond)
				if how == "SIGTERM" {
					require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
				} else {
					endInput()
				}
				require.Zero(t, p.exit(t), p.stderr())
				wait()
				requireSettled(t, env, c)
			})
		}
	}
}

// requireSettled holds the answers of calls against the trail.
func requireSettled(t *testing.T, env []string, c *calls) {
	t.Helper()
	recorded, attempts := map[string]string{}, 0
	for _, rec := range readTrail(env).more(t) {
		if rec.Kind == audit.Attempt {
			attempts++
		}
		if rec.Kind == audit.Outcome {
			require.Len(t, rec.Needs, 1)
			_, path, _ := strings.Cut(rec.Needs[0], "/mcp/dev/")
			require.NotContains(t, recorded, path, "two outcomes")
			recorded[path] = rec.Outcome
		}
	}
	require.Len(t, recorded, attempts)
	for path, code := range c.answered {
		if recorded[path] == "" && code == "unavailable" {
			continue // refused because the server was ending: it never became a call
		}
		require.Equal(t, recorded[path], code, "%s was answered so", path)
	}
	for path, outcome := range recorded {
		require.Equal(t, outcome, c.answered[path], "%s was recorded so", path)
	}
	chain := verifyTrail(t, env).Chains[0]
	require.EqualValues(t, attempts, chain.Kinds[audit.Attempt])
	require.Zero(t, chain.Unanswered)
	require.False(t, chain.Writing)
}

// A call under way is waited for; whoever does not want to wait sends a second
// signal.
func TestSecondSignal(t *testing.T) {
	for _, r := range everyTransport() {
		for _, second := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s second=%t", r.name, second), func(t *testing.T) {
				h := holdAnswers(t, devstacktest.Shared(t).Addr)
				env := settings(t, devstacktest.Shared(t), "VAULT_ADDR="+h.URL, "CALL_TIMEOUT=5m")
				session, p, _ := r.start(t, env)
				var got atomic.Pointer[answer]
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					a, err := ask(context.Background(), session, "kv.write", obj{"path": "held", "data": obj{"a": "b"}})
					if err == nil {
						got.Store(&a)
					}
				}()
				h.awaitRequest(t)
				require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
				require.Eventually(t, func() bool { return strings.Contains(p.stderr(), `"stopping"`) }, soon, 5*time.Millisecond)
				if second {
					require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
					require.Equal(t, 1, p.exit(t))
					<-ended
					require.Nil(t, got.Load())
					require.EqualValues(t, 1, verifyTrail(t, env).Chains[0].Unanswered, "the trail shows what was cut off")
					return
				}
				if p.url != "" {
					require.Eventually(t, func() bool { return refusesConnections(p.url) }, soon, 5*time.Millisecond, "nobody new is let in")
				}
				close(h.let)
				require.Zero(t, p.exit(t), p.stderr())
				<-ended
				require.NotNil(t, got.Load(), "the answer was lost")
				require.Empty(t, got.Load().code)
				require.Zero(t, verifyTrail(t, env).Chains[0].Unanswered)
			})
		}
	}
}

func refusesConnections(url string) bool {
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err == nil {
		_ = conn.Close()
	}
	return err != nil
}

// A call may take longer than servers are commonly given to end: its outcome is
// awaited all the same.
func TestDrainIsAsLongAsACall(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	h := holdAnswers(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+h.URL, "CALL_TIMEOUT=60s")
	p := startHTTP(t, env)
	done := make(chan string, 1)
	go func() {
		_, body := postRaw(t, p.url+"/mcp/rpc", devKey, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.write","arguments":{"path":"long","data":{"k":"v"}}}}`, nil) //nolint:testifylint // a failure shows as no answer
		done <- body
	}()
	h.awaitRequest(t)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.done:
		t.Fatal("it did not wait for the call")
	case <-time.After(11 * time.Second): // longer than the shortest drain
	}
	close(h.let)
	require.Contains(t, <-done, `"structuredContent":{"version":1`)
	require.Zero(t, p.exit(t))
	require.Equal(t, map[string]string{"long": "ok"}, outcomes(t, readTrail(env), 1))
}
