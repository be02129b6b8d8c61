package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rawCall sends one message as bytes, and returns all that came back. A message
// holds metaHole where a request of 2026-07-28 has its _meta.
type rawCall func(t *testing.T, frame string) string

// What stands for the _meta member of the params, and what a modern client puts
// there.
const (
	metaHole   = `$META`
	modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},`
)

// toolCall is a tools/call with a name and arguments as they stand in JSON.
func toolCall(name, arguments string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{` + metaHole + `"name":` + name + `,"arguments":` + arguments + `}}`
}

// rawSurfaces are the ways in on which a test can send any bytes: all of one
// HTTP process and one of stdio.
func rawSurfaces(t *testing.T, env []string, key string) map[string]rawCall {
	t.Helper()
	p := startHTTP(t, env)
	surfaces := rawHTTP(t, p.url, key)
	surfaces["stdio"] = rawStdio(t, env, key)
	return surfaces
}

func rawHTTP(t *testing.T, url, key string) map[string]rawCall {
	t.Helper()
	post := func(path string, header map[string]string) rawCall {
		return func(t *testing.T, frame string) string {
			t.Helper()
			_, body := postRaw(t, url+path, key, strings.ReplaceAll(frame, metaHole, ""), header)
			return body
		}
	}
	session := legacySession(t, url, key)
	return map[string]rawCall{
		"rpc":    post("/mcp/rpc", nil),
		"legacy": post("/mcp", map[string]string{"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-06-18"}),
		"modern": func(t *testing.T, frame string) string {
			t.Helper()
			frame = strings.ReplaceAll(frame, metaHole, modernMeta)
			_, body := postRaw(t, url+"/mcp", key, frame, modernHeaders(frame))
			return body
		},
	}
}

var visible = regexp.MustCompile(`^[!-~]+$`)

// modernHeaders repeat method and name of a message, as a client must; where
// the message is too broken for that, they are those of a good one.
func modernHeaders(frame string) map[string]string {
	var m struct {
		Method string
		Params struct{ Name, URI string }
	}
	if json.Unmarshal([]byte(frame), &m) != nil {
		m.Method, m.Params.Name = "tools/call", "kv.write"
	}
	header := map[string]string{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}
	if visible.MatchString(m.Method) {
		header["Mcp-Method"] = m.Method
	}
	switch m.Method {
	case "tools/call", "prompts/get":
		header["Mcp-Name"] = headerText(m.Params.Name)
	case "resources/read":
		header["Mcp-Name"] = headerText(m.Params.URI[:min(len(m.Params.URI), 1024)]) // a longer one is refused before
	}
	return header
}

// headerText is a name as it stands in Mcp-Name: base64 where it would not pass
// through a header unchanged.
func headerText(name string) string {
	if visible.MatchString(name) && !strings.HasPrefix(name, "=?") {
		return name
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(name)) + "?="
}

// raw is an answer as it came, with its head.
type raw struct {
	status int
	header http.Header
	body   string
}

// all is everything of the answer that a client can see.
func (r raw) all() string {
	var b bytes.Buffer
	_ = r.header.Write(&b)
	return b.String() + r.body
}

// postRaw posts a body and returns the answer's status and body.
func postRaw(t *testing.T, url, key, body string, header map[string]string) (int, string) {
	t.Helper()
	r := exchange(t, url, key, body, header)
	return r.status, r.body
}

// exchange posts a body with the headers of a good request, but for those given.
func exchange(t *testing.T, url, key, body string, header map[string]string) raw {
	t.Helper()
	all := http.Header{}
	if key != "" {
		all.Set("X-API-Key", key)
	}
	for name, value := range header {
		all.Set(name, value)
	}
	return post(t, url, body, all)
}

// post is exchange with headers that may stand twice, and may be misspelt.
func post(t *testing.T, url, body string, header http.Header) raw {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	maps.Copy(req.Header, header)
	req.Host = header.Get("Host")
	req.Header.Del("Host")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return raw{resp.StatusCode, resp.Header, string(answer)}
}

const hello = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`

func legacySession(t *testing.T, url, key string) string {
	t.Helper()
	r := exchange(t, url+"/mcp", key, hello, nil)
	session := r.header.Get("Mcp-Session-Id")
	require.NotEmpty(t, session, r.body)
	_, _ = postRaw(t, url+"/mcp", key, `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		map[string]string{"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-06-18"})
	return session
}

// stdioProcess is a stdio process with which a test speaks lines.
type stdioProcess struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	once  sync.Once
	said  bytes.Buffer // standard error; to be read after stop
}

// rawStdio is one session with a stdio process of its own.
func rawStdio(t *testing.T, env []string, key string) rawCall {
	t.Helper()
	return openRawStdio(t, env, key).call
}

// openRawStdio starts a stdio process, and does the handshake of the older
// revisions with it.
func openRawStdio(t *testing.T, env []string, key string) *stdioProcess {
	t.Helper()
	p := &stdioProcess{cmd: exec.Command(binary, "stdio"), lines: make(chan string, 16)}
	p.cmd.Env = append(append([]string(nil), env...), "VAULT_MCP_API_KEY="+key)
	p.cmd.Stderr = &p.said
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go p.read(out)
	t.Cleanup(p.stop)
	p.call(t, hello)
	_, err = io.WriteString(p.in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	require.NoError(t, err)
	return p
}

func (p *stdioProcess) read(out io.Reader) {
	defer close(p.lines)
	var buf []byte
	chunk := make([]byte, 1<<16)
	for {
		n, err := out.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for {
			line, rest, ok := bytes.Cut(buf, []byte("\n"))
			if !ok {
				break
			}
			p.lines <- string(line)
			buf = rest
		}
		if err != nil {
			return
		}
	}
}

// call sends one message and returns the line that comes back.
func (p *stdioProcess) call(t *testing.T, frame string) string {
	t.Helper()
	_, err := io.WriteString(p.in, strings.ReplaceAll(frame, metaHole, "")+"\n")
	require.NoError(t, err)
	select {
	case line, ok := <-p.lines:
		require.True(t, ok, "the session ended")
		return line
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return ""
	}
}

// stop ends the process as a client does, and returns when it has ended.
func (p *stdioProcess) stop() {
	p.once.Do(func() {
		defer time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() }).Stop()
		_ = p.in.Close()
		for range p.lines { // what nobody asked for any more
		}
		_ = p.cmd.Wait()
	})
}

func setting(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// quote is a text as it stands in JSON.
func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// short is the start of a row, for messages.
func short(row string) string { return fmt.Sprintf("%.80q", row) }
