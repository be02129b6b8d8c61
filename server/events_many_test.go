package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// How many follow in TestManySubscribers, as how many principals, from how many
// addresses.
const (
	manySubscribers = 10_000
	manyPrincipals  = 100
	manyAddresses   = 10
	manyBytes       = 40 << 10 // that each may take
)

// subscriberEnv makes this program the subscribers of TestManySubscribers: so many,
// at this address.
const subscriberEnv = "VAULT_MCP_TEST_SUBSCRIBERS"

func subscribers() int {
	n := manySubscribers
	if raceDetector {
		n /= 10
	}
	return n
}

// TestManySubscribers has subscribers by the thousand, in a process of their own:
// what each takes is bounded, all hear of what is theirs, and nothing is left of
// them when they have gone.
func TestManySubscribers(t *testing.T) {
	n := subscribers()
	if files := openFiles(t); files.limit < n+500 {
		devstacktest.Cannot(t, "the limit of open files is too low: ulimit -n %d", n+500)
	}
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) {
		o.MaxSubscribers, o.MaxConnections = n, 4*n
	})
	for i := range manyPrincipals {
		s.keys.set(numbered("key-", i), principal(numbered("p", i), numbered("cred-", i), auth.AllScopes()))
	}
	follow(t, s, aliceKey, "").placed(t).close() // what is made once is made
	eventually(t, "it has gone", func() bool { return s.Subscribers() == 0 })
	before := inUse(t)

	client := exec.Command(os.Args[0])
	client.Env = append(os.Environ(), subscriberEnv+"="+s.addr)
	client.Stderr = os.Stderr
	in, err := client.StdinPipe()
	require.NoError(t, err)
	out, err := client.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, client.Start())
	defer func() { _ = client.Wait() }()
	defer func() { _ = in.Close() }()
	said := bufio.NewReader(out)
	wantLine(t, said, "open")
	require.Equal(t, n, s.Subscribers())
	during := inUse(t)
	each := (during.memory - before.memory) / n
	resident := (during.resident - before.resident) / n
	t.Logf("each of %d subscribers takes %d bytes of heap and stack, %d of resident memory, and %.1f goroutines",
		n, each, resident, float64(during.goroutines-before.goroutines)/float64(n))
	if !raceDetector {
		require.Less(t, each, manyBytes)
		require.Less(t, resident, manyBytes)
	}
	// Those of net/http: one that serves, and one that sees the client go.
	require.LessOrEqual(t, during.goroutines-before.goroutines, 2*n+10)

	start := time.Now()
	for i := range manyPrincipals {
		s.opt.Events.Publish(events.Event{
			Type: events.ResourceChanged, Path: numbered("mcp/p", i) + "/told", Owner: numbered("mcp/p", i), Subject: "x", Tool: "kv.write", Time: start,
		})
	}
	t.Logf("published in %v", time.Since(start))
	wantLine(t, said, "heard")
	t.Logf("all have heard after %v", time.Since(start))

	require.NoError(t, in.Close())
	eventually(t, "all have gone", func() bool {
		return s.Subscribers() == 0 && runtime.NumGoroutine() <= before.goroutines+5 && openFiles(t).open <= before.files+5
	})
}

func wantLine(t testing.TB, r *bufio.Reader, want string) {
	t.Helper()
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, want+"\n", line)
}

// usage is what this process has in use.
type usage struct{ memory, resident, goroutines, files int }

func inUse(t testing.TB) usage {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(status), "VmRSS:")
	require.True(t, found)
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(t, err)
	return usage{int(m.HeapInuse + m.StackInuse), kib << 10, runtime.NumGoroutine(), openFiles(t).open}
}

type files struct{ open, limit int }

func openFiles(t testing.TB) files {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	limits, err := os.ReadFile("/proc/self/limits")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(limits), "Max open files")
	require.True(t, found)
	limit, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(t, err)
	return files{len(entries), limit}
}

// followAsMany is the process of subscribers. It says when all streams are open,
// when all have heard of something, and ends with its input.
func followAsMany(addr string) error {
	n := subscribers()
	failed := make(chan error, n)
	var opened, heard sync.WaitGroup
	opened.Add(n)
	heard.Add(n)
	room := make(chan struct{}, 64) // so many open one at a time
	for i := range n {
		room <- struct{}{}
		go func() {
			err := followAsOne(addr, i, func() { <-room; opened.Done() }, heard.Done)
			if err != nil {
				failed <- err
			}
		}()
	}
	go func() {
		opened.Wait()
		fmt.Println("open")
		heard.Wait()
		fmt.Println("heard")
		_, err := io.Copy(io.Discard, os.Stdin)
		failed <- err
	}()
	return <-failed
}

func followAsOne(addr string, i int, opened, heard func()) error {
	from := net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%manyAddresses))}
	conn, err := (&net.Dialer{LocalAddr: &from}).Dial("tcp", addr)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: key-%d\r\n\r\n", i%manyPrincipals)
	if err != nil {
		return err
	}
	var got []byte
	buf := make([]byte, 1024)
	want := []byte("\nid: ")
	for {
		k, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("a subscriber's stream ended: %w: %s", err, got)
		}
		got = append(got, buf[:k]...)
		if !bytes.Contains(got, want) {
			continue
		}
		if opened == nil {
			heard()
			return hold(conn)
		}
		opened()
		opened, got, want = nil, nil, []byte(`"uri":"kv://p`+strconv.Itoa(i%manyPrincipals)+`/told"`)
	}
}

// hold keeps a stream open, and takes what comes.
func hold(conn net.Conn) error {
	buf := make([]byte, 256)
	for {
		if _, err := conn.Read(buf); err != nil {
			return fmt.Errorf("a subscriber's stream ended: %w", err)
		}
	}
}
