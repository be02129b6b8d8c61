//go:build unix

package main_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// codeBlock is the first block of code in a language in a document.
func codeBlock(t testing.TB, file, language string) string {
	t.Helper()
	doc, err := os.ReadFile(file)
	require.NoError(t, err)
	_, after, found := strings.Cut(string(doc), "\n```"+language+"\n")
	code, _, closed := strings.Cut(after, "\n```\n")
	require.True(t, found && closed, "%s has no example in %s", file, language)
	return code + "\n"
}

// cutter passes connections on to a server, and can cut them all.
type cutter struct {
	ln net.Listener
	to string

	mu   sync.Mutex
	open []net.Conn
	all  sync.WaitGroup
}

func newCutter(t testing.TB, to string) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{ln: ln, to: to}
	c.all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.all.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		c.cut()
		c.all.Wait()
	})
	return c
}

func (c *cutter) pass(client net.Conn) {
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		_ = client.Close()
		return
	}
	c.mu.Lock()
	c.open = append(c.open, client, server)
	c.mu.Unlock()
	c.all.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	_, _ = io.Copy(client, server)
	_ = client.Close()
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}

// example is a program of the documentation.
type example struct {
	name, language string
	file           string // as which it is run
	run            []string
}

// The subscribers of docs/events.md read a secret when they begin, whenever it
// changes, and after they were cut off.
func TestEventExamples(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	p := startHTTP(t, settings(t, v))
	require.Equal(t, codeBlock(t, "docs/events.md", "bash"), codeBlock(t, "README.md", "bash"))
	for _, ex := range []example{
		{"curl", "bash", "follow.sh", []string{"bash"}},
		{"Go", "go", "follow.go", []string{"go", "run"}},
		{"TypeScript", "ts", "follow.ts", []string{node(t)}},
	} {
		t.Run(ex.name, func(t *testing.T) {
			c := newCutter(t, strings.TrimPrefix(p.url, "http://"))
			write := openRPC(p.url, devKey)
			n := write(t, "kv.write", map[string]any{"path": "app/db", "data": map[string]any{"n": 1}}).body["version"].(float64)
			says := ex.start(t, "http://"+c.ln.Addr().String(), codeBlock(t, "docs/events.md", ex.language))
			waitForLine(t, says, version(n))
			for i := range 3 {
				if i == 1 {
					c.cut()
				}
				n = write(t, "kv.write", map[string]any{"path": "app/db", "data": map[string]any{"n": i}}).body["version"].(float64)
				waitForLine(t, says, version(n))
			}
		})
	}
	require.NotContains(t, p.stderr(), `"ERROR"`)
}

func version(n float64) string { return `"version":` + strconv.Itoa(int(n)) }

// The page of docs/events.md, with the EventSource of Node's package in place of a
// browser's.
func TestEventPageExample(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	p := startHTTP(t, settings(t, v))
	c := newCutter(t, strings.TrimPrefix(p.url, "http://"))
	module, err := filepath.Abs(filepath.Join(clients, "node_modules", "eventsource", "dist", "index.js"))
	require.NoError(t, err)
	code := `import { EventSource } from "` + module + `"; const { VAULT_MCP, KEY, SUBJECT } = process.env;` +
		codeBlock(t, "docs/events.md", "js") + `events.onopen = () => console.log("open");`
	// The handle's URL is the server's own; the page goes by way of the cutter.
	code = strings.Replace(code, "new EventSource(url)", `new EventSource(url.replace("`+p.url+`", "http://`+c.ln.Addr().String()+`"))`, 1)
	ex := example{file: "page.mjs", run: []string{node(t)}}
	says := ex.start(t, p.url, code)
	write := openRPC(p.url, devKey)
	waitForLine(t, says, "open")
	write(t, "kv.write", map[string]any{"path": "app/a", "data": map[string]any{}})
	waitForLine(t, says, "kv://dev/app/a")
	c.cut()
	write(t, "kv.write", map[string]any{"path": "app/b", "data": map[string]any{}})
	waitForLine(t, says, "kv://dev/app/b") // it has connected again by itself, and resumed
}

// start runs the example, and gives what it says, line by line.
func (ex example) start(t testing.TB, url, code string) <-chan string {
	t.Helper()
	file := filepath.Join(t.TempDir(), ex.file)
	require.NoError(t, os.WriteFile(file, []byte(code), 0o600))
	cmd := exec.Command(ex.run[0], append(ex.run[1:], file)...)
	cmd.Env = append(os.Environ(), "VAULT_MCP="+url, "KEY="+devKey, "SUBJECT=dev")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // bash and go run have processes of their own
	p := &process{cmd: cmd}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	says, done := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(done)
		p.collect(out, func(line string) { says <- line })
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
		if t.Failed() {
			t.Log(p.stderr())
		}
	})
	return says
}

func waitForLine(t testing.TB, says <-chan string, want string) {
	t.Helper()
	timeout := time.After(time.Minute) // a compiler may have to run first
	for {
		select {
		case line := <-says:
			if strings.TrimSpace(line) == want {
				return
			}
		case <-timeout:
			t.Fatalf("it does not say %s", want)
		}
	}
}
