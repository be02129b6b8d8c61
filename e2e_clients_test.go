package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// clients is where other people's clients are installed (make clients).
const clients = "testdata/clients"

// node is the Node.js that the conformance suite and the Inspector need.
func node(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(clients, "node_modules", "node", "bin", "node"))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		devstacktest.Cannot(t, "the MCP clients are not installed: run `make clients` (needs npm: apt-get install nodejs npm)")
	}
	return path
}

// script is one run of a client's program; it is given a minute or two.
func script(t testing.TB, env []string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, node(t), args...)
	cmd.Dir = clients
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	return cmd
}

// The TypeScript SDK is a second real client: it has a decoder of its own and
// holds structured content against the output schema.
func TestTypeScriptSDK(t *testing.T) {
	t.Run("stdio", func(t *testing.T) {
		v := devstacktest.Fresh(t, devstacktest.Options{})
		playStory(t, script(t, settings(t, v, "VAULT_MCP_API_KEY="+devKey), "story.mjs", "stdio", binary, "stdio"))
	})
	t.Run("http", func(t *testing.T) {
		v := devstacktest.Fresh(t, devstacktest.Options{})
		p := startHTTP(t, settings(t, v))
		playStory(t, script(t, []string{"VAULT_MCP_API_KEY=" + devKey}, "story.mjs", "http", p.url+"/mcp"))
	})
}

// playStory plays the story of secrets through story.mjs.
func playStory(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	cmd.Stderr = stderr
	said := func() string {
		b, _ := os.ReadFile(stderr.Name())
		return string(b)
	}
	require.NoError(t, cmd.Start())
	require.NoError(t, stderr.Close())
	lines := bufio.NewScanner(out)
	next := func(into any) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the client ended: %s", said())
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), into))
	}
	var hello struct{ Tools, Prompts []string }
	next(&hello)
	require.Contains(t, hello.Tools, "kv.read")
	require.Contains(t, hello.Prompts, "rotate_secret")
	send := func(line any) {
		t.Helper()
		b, err := json.Marshal(line)
		require.NoError(t, err)
		_, err = in.Write(append(b, '\n'))
		require.NoError(t, err)
	}
	for _, s := range append(kvStory, step{about: "who", tool: "whoami", args: obj{}, want: has("subject", "dev")}) {
		if s.exact {
			continue // JavaScript alters the number before it is sent
		}
		send(obj{"tool": s.tool, "args": s.args})
		var got struct {
			Failed bool
			Body   obj
		}
		next(&got)
		require.Equal(t, s.code != "", got.Failed, "%s: %v", s.about, got.Body)
		if s.code != "" {
			require.Equal(t, s.code, got.Body["code"], s.about)
		}
		if s.want != nil {
			s.want(t, got.Body)
		}
	}
	// The user completes the path of a secret, and has it rotated.
	var typed struct{ Values []string }
	send(obj{"prompt": "rotate_secret", "argument": "path", "value": ""})
	next(&typed)
	require.NotEmpty(t, typed.Values)
	var rotate struct{ Text string }
	send(obj{"prompt": "rotate_secret", "args": obj{"path": strings.TrimSuffix(typed.Values[0], "/")}})
	next(&rotate)
	require.Contains(t, rotate.Text, quote(strings.TrimSuffix(typed.Values[0], "/")))
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait(), said())
}

// The Inspector's command line, over both transports and in both eras; its
// strict mode says whether other vendors' schema mappers can take the tools.
func TestInspector(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	p := startHTTP(t, settings(t, v))
	stdio := []string{binary, "stdio"}
	for _, setting := range settings(t, v, "VAULT_MCP_API_KEY="+devKey) { // it passes no environment on by itself
		stdio = append([]string{"-e", setting}, stdio...)
	}
	ways := map[string][]string{
		"stdio":  stdio,
		"legacy": {p.url + "/mcp", "--transport", "http", "--header", "X-API-Key: " + devKey},
		"modern": {p.url + "/mcp", "--transport", "http", "--protocol-era", "modern", "--header", "X-API-Key: " + devKey},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			run := func(args ...string) string {
				t.Helper()
				all := append([]string{"node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js", "--cli"}, way...)
				cmd := script(t, []string{"MCP_INSPECTOR_SECRET_STORE=memory"}, append(all, args...)...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				require.NoError(t, err, "%s\n%s", out, stderr.String())
				return string(out)
			}
			strict := run("--method", "tools/list", "--strict", "--format", "json")
			require.Contains(t, strict, "kv.read")
			path := "inspector/" + name
			run("--method", "tools/call", "--tool-name", "kv.write", "--tool-args-json", `{"path":"`+path+`","data":{"k":"v-`+name+`"}}`, "--format", "json")
			require.Contains(t, run("--method", "tools/call", "--tool-name", "kv.read", "--tool-args-json", `{"path":"`+path+`"}`, "--format", "json"), "v-"+name)
			require.Contains(t, run("--method", "tools/call", "--tool-name", "whoami", "--format", "json"), "dev")
		})
	}
}

// withoutHeaders stands before the server for clients that cannot send a
// credential: it adds the key, and keeps Host and Origin as they came.
func withoutHeaders(t testing.TB, target, key string) string {
	t.Helper()
	to, err := url.Parse(target)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			r.Out.Header.Set("X-API-Key", key)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Read whole first: net/http closes a request's body when its answer
		// begins, which may be while the proxy still looks for the body's end,
		// and then the proxy breaks the connection that the answer comes by.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Every scenario of the conformance suite that needs no fixture server, through
// the real HTTP stack. conformance.yml lists what is not expected to pass, each
// entry with its reason; the suite fails on a stale entry.
func TestConformance(t *testing.T) {
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(revision, func(t *testing.T) {
			v := devstacktest.Shared(t)
			conformance(t, v, revision)
		})
	}
}

func conformance(t *testing.T, v *devstack.Vault, revision string) {
	t.Helper()
	p := startHTTP(t, settings(t, v))
	endpoint := withoutHeaders(t, p.url, devKey) + "/mcp"
	cmd := script(t, nil, "node_modules/@modelcontextprotocol/conformance/dist/index.js", "server",
		"--url", endpoint, "--requirements", revision,
		"--expected-failures", "conformance-"+revision+".yml", "--timeout", "30000", "-o", t.TempDir())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	summary := string(out)
	if at := strings.LastIndex(summary, "SUMMARY"); at >= 0 {
		summary = summary[at:]
	}
	t.Log(summary)
}
