package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
)

// BenchmarkCall compares a kv.read through the whole server with the least
// possible server of the SDK that makes the same request to Vault, in each
// mode, with 16 callers. Vault answers at once, so that what is left is ours.
// cpu-us/op is the processor time of one call, client and Vault included: it
// hardly depends on what else the machine does.
func BenchmarkCall(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	for _, mode := range []string{"stdio", "legacy", "modern"} {
		for _, kind := range []string{"bare", "ours"} {
			b.Run(mode+"/"+kind, func(b *testing.B) {
				var one func() error
				switch {
				case mode == "stdio":
					one = stdioCaller(b, kind)
				case kind == "ours":
					s := listen(b)
					one = httpCaller(b, s.http, s.url+"/mcp", mode)
				default:
					url, client := bareHTTP(b)
					one = httpCaller(b, client, url, mode)
				}
				for range 100 {
					require.NoError(b, one())
				}
				measure(b, one)
			})
		}
	}
}

const callers = 16

func measure(b *testing.B, one func() error) {
	b.Helper()
	left := make(chan struct{}, b.N)
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	b.ReportAllocs()
	b.ResetTimer()
	start := cpu(b)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range left {
				if err := one(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-start).Microseconds())/float64(b.N), "cpu-us/op")
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// httpCaller makes a call each time, over HTTP.
func httpCaller(b *testing.B, client *http.Client, url, mode string) func() error {
	b.Helper()
	headers, params := posted(aliceKey), object{"name": "kv.read", "arguments": object{"path": "app/config"}}
	if mode == "modern" {
		headers, params = modernHeaders(aliceKey, "tools/call", "kv.read"), modernParams(params, "bench")
	}
	body := message(b, 1, "tools/call", params)
	post := func(body string) (*http.Response, error) {
		req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		for h := headers; len(h) > 0; h = h[2:] {
			req.Header.Set(h[0], h[1])
		}
		return client.Do(req)
	}
	if mode == "legacy" {
		resp, err := post(initialize(b, legacy, "bench"))
		require.NoError(b, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(b, resp.Body.Close())
		headers = append(headers, "Mcp-Session-Id", resp.Header.Get("Mcp-Session-Id"), "MCP-Protocol-Version", legacy)
		resp, err = post(message(b, nil, "notifications/initialized", nil))
		require.NoError(b, err)
		require.NoError(b, resp.Body.Close())
	}
	var next struct {
		sync.Mutex
		id int
	}
	return func() error {
		msg := body
		if mode == "legacy" { // ids are a session's
			next.Lock()
			next.id++
			msg = strings.Replace(body, `"id":1,`, fmt.Sprintf(`"id":%d,`, next.id+1), 1)
			next.Unlock()
		}
		resp, err := post(msg)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(answer), marked) {
			return fmt.Errorf("%w: %s", err, answer)
		}
		return nil
	}
}

// stdioCaller makes a call each time, all through one pair of pipes.
func stdioCaller(b *testing.B, kind string) func() error {
	b.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	if kind == "ours" {
		s := newStack(b)
		p := principal("alice", "cred-1", auth.AllScopes())
		go func() {
			defer close(served)
			_ = s.ServeStdio(ctx, inR, outW, func(context.Context) (*auth.Principal, error) { return p, nil })
		}()
	} else {
		server, _ := bareServer(b)
		go func() {
			defer close(served)
			_ = server.Run(ctx, &mcp.IOTransport{Reader: inR, Writer: outW})
		}()
	}
	b.Cleanup(func() { _ = inW.Close(); cancel(); _ = outR.Close(); <-served })
	var mu sync.Mutex
	waiting, next := map[string]chan string{}, 0
	go func() {
		r := bufio.NewReader(outR)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			var head struct{ ID json.RawMessage }
			_ = json.Unmarshal([]byte(line), &head)
			mu.Lock()
			ch := waiting[string(head.ID)]
			delete(waiting, string(head.ID))
			mu.Unlock()
			if ch != nil {
				ch <- line
			}
		}
	}()
	ask := func(method string, params object) (string, error) {
		ch := make(chan string, 1)
		mu.Lock()
		next++
		id := next
		waiting[fmt.Sprint(id)] = ch
		mu.Unlock()
		if _, err := io.WriteString(inW, message(b, id, method, params)+"\n"); err != nil {
			return "", err
		}
		return <-ch, nil
	}
	_, err := ask("initialize", object{"protocolVersion": legacy, "capabilities": object{}, "clientInfo": object{"name": "bench", "version": "1"}})
	require.NoError(b, err)
	_, err = io.WriteString(inW, message(b, nil, "notifications/initialized", nil)+"\n")
	require.NoError(b, err)
	return func() error {
		answer, err := ask("tools/call", object{"name": "kv.read", "arguments": object{"path": "app/config"}})
		if err != nil || !strings.Contains(answer, marked) {
			return fmt.Errorf("%w: %s", err, answer)
		}
		return nil
	}
}

// bareServer is the least that reads a secret.
func bareServer(b *testing.B) (*mcp.Server, *fakeVault) {
	b.Helper()
	vault := newFakeVault(b)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	server := mcp.NewServer(&mcp.Implementation{Name: "bare", Version: "1"}, nil)
	server.AddTool(&mcp.Tool{Name: "kv.read", InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var in struct{ Path string }
			if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
				return nil, err
			}
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, vault.URL+"/v1/secret/data/mcp/alice/"+in.Path, nil)
			if err != nil {
				return nil, err
			}
			r.Header.Set("X-Vault-Token", "root")
			resp, err := client.Do(r)
			if err != nil {
				return nil, err
			}
			defer func() { _ = resp.Body.Close() }()
			var secret struct{ Data json.RawMessage }
			if err := json.NewDecoder(resp.Body).Decode(&secret); err != nil {
				return nil, err
			}
			return &mcp.CallToolResult{
				Content:           []mcp.Content{&mcp.TextContent{Text: string(secret.Data)}},
				StructuredContent: secret.Data,
			}, nil
		})
	return server, vault
}

func bareHTTP(b *testing.B) (string, *http.Client) {
	b.Helper()
	server, _ := bareServer(b)
	get := func(*http.Request) *mcp.Server { return server }
	stateful := mcp.NewStreamableHTTPHandler(get, nil)
	stateless := mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("MCP-Protocol-Version") >= modern {
			stateless.ServeHTTP(w, r)
			return
		}
		stateful.ServeHTTP(w, r)
	}))
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(func() {
		for session := range server.Sessions() {
			_ = session.Close()
		}
		transport.CloseIdleConnections()
		front.Close()
	})
	return front.URL, &http.Client{Transport: transport}
}
