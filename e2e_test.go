package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// binary is the product, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	if mode := os.Getenv(bareMode); mode != "" {
		if err := bareServer(mode); err != nil {
			panic(err)
		}
		return
	}
	if url := os.Getenv(followersOf); url != "" {
		if err := followAsMany(url, os.Getenv(followersKeys)); err != nil {
			panic(err)
		}
		return
	}
	dir, err := os.MkdirTemp("", "vault-mcp-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "vault-mcp")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, ".")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(fmt.Sprint("building the product: ", err))
	}
	code := devstacktest.Main(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

const (
	devKey = "dev-api-key-0123456789"
	botKey = "bot-api-key-0123456789"
	webKey = "web-api-key-0123456789"
)

// apiKeys are the test's principals: two tenants, one of whose names begins
// with the other's, and one that may only read.
const apiKeys = `{
  "` + devKey + `": "dev",
  "` + botKey + `": "dev-bot",
  "` + webKey + `": {"subject": "web", "scopes": ["kv:read", "list"]}
}`

// settings are the environment of a product process: a Vault, a state folder of
// its own, and what the test adds.
func settings(t testing.TB, v *devstack.Vault, more ...string) []string {
	t.Helper()
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"VAULT_ADDR=" + v.Addr, "VAULT_TOKEN=" + v.RootToken.Reveal(),
		"STATE_DIR=" + t.TempDir(), "API_KEYS_JSON=" + apiKeys,
		"RATE_LIMIT_REQUESTS=100000", "LOG_FORMAT=json", "LOG_LEVEL=debug",
	}, more...)
}

// process is a running product.
type process struct {
	cmd  *exec.Cmd
	url  string
	env  []string
	mu   sync.Mutex
	log  strings.Builder
	done chan struct{}
}

// stderr is what the process has said so far.
func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) collect(r io.Reader, line func(string)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		line(lines.Text())
	}
}

// startHTTP starts `vault-mcp http` on a free port and waits until it listens.
func startHTTP(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{env: env, done: make(chan struct{})}
	p.cmd = exec.Command(binary, append([]string{"http", "--addr", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = env
	p.listen(t)
	t.Cleanup(func() { p.stop(t) })
	p.settle()
	return p
}

// settle waits until the server knows what token it was given, so that tests which
// count requests to Vault count those of calls alone. Where Vault is out it does
// not get to know.
func (p *process) settle() {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if setting(p.env, "VAULT_TOKEN") == "" || strings.Contains(p.stderr(), "the Vault token") || strings.Contains(p.stderr(), "what the Vault token is") {
			return
		}
	}
}

// listen starts the process and waits until it says where it listens.
func (p *process) listen(t testing.TB) {
	t.Helper()
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	listening := make(chan string, 1)
	go func() {
		defer close(p.done)
		p.collect(stderr, func(line string) {
			var entry struct{ Msg, URL string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" {
				listening <- entry.URL
			}
		})
		_ = p.cmd.Wait()
	}()
	select {
	case p.url = <-listening:
	case <-p.done:
		t.Fatalf("the server ended at start:\n%s", p.stderr())
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Fatalf("the server does not listen:\n%s", p.stderr())
	}
}

// stop ends the process as an operator would, and expects it to end well.
func (p *process) stop(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		t.Errorf("the server did not end within 20 s of SIGTERM:\n%s", p.stderr())
	}
}

// reply is a tool's answer as a client sees it.
type reply struct {
	failed bool
	body   map[string]any
}

func (r reply) code() string { s, _ := r.body["code"].(string); return s }

// caller calls one tool.
type caller func(t testing.TB, tool string, args map[string]any) reply

// surface is one way in.
type surface struct {
	name string
	open func(t testing.TB, v *devstack.Vault, key string, more ...string) caller
}

// surfaces are all ways to call a tool. A further one is one more entry here:
// every table of cases then runs through it.
func surfaces() []surface {
	return []surface{
		{"stdio", openStdio},
		{"http-2025-06-18", func(t testing.TB, v *devstack.Vault, key string, more ...string) caller {
			t.Helper()
			return openHTTP(t, startHTTP(t, settings(t, v, more...)).url, key, "2025-06-18")
		}},
		{"http-2026-07-28", func(t testing.TB, v *devstack.Vault, key string, more ...string) caller {
			t.Helper()
			return openHTTP(t, startHTTP(t, settings(t, v, more...)).url, key, "2026-07-28")
		}},
		{"rpc", func(t testing.TB, v *devstack.Vault, key string, more ...string) caller {
			t.Helper()
			return openRPC(startHTTP(t, settings(t, v, more...)).url, key)
		}},
	}
}

func openStdio(t testing.TB, v *devstack.Vault, key string, more ...string) caller {
	t.Helper()
	cmd := exec.Command(binary, "stdio")
	cmd.Env = settings(t, v, append([]string{"VAULT_MCP_API_KEY=" + key}, more...)...)
	p := &process{cmd: cmd, env: cmd.Env}
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	go p.collect(stderr, func(string) {})
	return callThrough(connect(t, &mcp.CommandTransport{Command: cmd}, ""))
}

func openHTTP(t testing.TB, url, key, version string) caller {
	t.Helper()
	return callThrough(connect(t, httpTransport(url, key), version))
}

func httpTransport(url, key string) *mcp.StreamableClientTransport {
	return showing(url, withKey(key))
}

// showing is a transport whose every request has a credential.
func showing(url string, credential http.Header) *mcp.StreamableClientTransport {
	return &mcp.StreamableClientTransport{
		Endpoint: url + "/mcp", MaxRetries: -1,
		HTTPClient: &http.Client{Transport: bearing{credential}},
	}
}

func connect(t testing.TB, transport mcp.Transport, version string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, nil)
	session, err := client.Connect(context.Background(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// withKey and withToken are credentials as they stand in a request.
func withKey(key string) http.Header { return http.Header{"X-Api-Key": {key}} }

func withToken(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

type bearing struct{ credential http.Header }

func (b bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	maps.Copy(r.Header, b.credential)
	return http.DefaultTransport.RoundTrip(r)
}

func callThrough(session *mcp.ClientSession) caller {
	return func(t testing.TB, tool string, args map[string]any) reply {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		res, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: args})
		require.NoError(t, err)
		return readReply(t, res)
	}
}

// readReply also holds an answer to the rules of every answer: success has
// structured content and the same as text; failure has only text.
func readReply(t testing.TB, res *mcp.CallToolResult) reply {
	t.Helper()
	require.Len(t, res.Content, 1)
	text := []byte(res.Content[0].(*mcp.TextContent).Text)
	r := reply{failed: res.IsError}
	require.NoError(t, json.Unmarshal(text, &r.body))
	if res.IsError {
		require.Nil(t, res.StructuredContent)
		require.NotEmpty(t, r.body["request_id"])
		return r
	}
	structured, err := json.Marshal(res.StructuredContent)
	require.NoError(t, err)
	require.JSONEq(t, string(text), string(structured))
	return r
}

// openRPC calls as a user of curl would: one POST, no handshake.
func openRPC(url, key string) caller { return rpcShowing(url, withKey(key)) }

func rpcShowing(url string, credential http.Header) caller {
	return func(t testing.TB, tool string, args map[string]any) reply {
		t.Helper()
		body, err := json.Marshal(map[string]any{
			"jsonrpc": "2.0", "id": 1, "method": "tools/call",
			"params": map[string]any{"name": tool, "arguments": args},
		})
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/mcp/rpc", strings.NewReader(string(body)))
		require.NoError(t, err)
		maps.Copy(req.Header, credential)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		var answer struct {
			Result mcp.CallToolResult `json:"result"`
			Error  json.RawMessage    `json:"error"`
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		require.Empty(t, answer.Error)
		return readReply(t, &answer.Result)
	}
}
