package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/server"
)

const (
	modern = "2026-07-28"
	legacy = "2025-11-25"
)

type object = map[string]any

// reply is an answer to a JSON-RPC request.
type reply struct {
	status int // over HTTP
	header http.Header
	raw    string

	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
}

// result reads the result into an object.
func (r reply) result(t testing.TB) object {
	t.Helper()
	require.Nil(t, r.Error, r.raw)
	var o object
	require.NoError(t, json.Unmarshal(r.Result, &o), r.raw)
	return o
}

// refusal is the error object of a refused call or request.
func (r reply) refusal(t testing.TB) (o struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	RequestID string `json:"request_id"`
},
) {
	t.Helper()
	data := json.RawMessage(r.raw)
	switch {
	case r.Error != nil:
		data = r.Error.Data
	case r.Result != nil:
		res := r.result(t)
		require.Equal(t, true, res["isError"], r.raw)
		require.NotContains(t, res, "structuredContent")
		data = json.RawMessage(res["content"].([]any)[0].(object)["text"].(string))
	}
	require.NoError(t, json.Unmarshal(data, &o), r.raw)
	require.NotEmpty(t, o.RequestID, r.raw)
	return o
}

// do makes one HTTP request and reads the whole answer.
func (s *stack) do(t testing.TB, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if body == "" {
		req.Body = nil
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header[http.CanonicalHeaderKey(header[i])] = append(req.Header[http.CanonicalHeaderKey(header[i])], header[i+1])
	}
	resp, err := s.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return parseReply(t, resp.StatusCode, resp.Header, all)
}

func parseReply(t testing.TB, status int, header http.Header, body []byte) reply {
	t.Helper()
	r := reply{status: status, header: header, raw: string(body)}
	msg := body
	if strings.HasPrefix(header.Get("Content-Type"), "text/event-stream") {
		msg = nil
		for line := range strings.Lines(string(body)) { // the last event is the answer
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				msg = []byte(data)
			}
		}
	}
	if bytes.HasPrefix(msg, []byte(`{"jsonrpc"`)) {
		require.NoError(t, json.Unmarshal(msg, &r), string(body))
	}
	return r
}

// posted are the headers of every JSON-RPC request.
func posted(key string, more ...string) []string {
	return append([]string{
		"Content-Type", "application/json", "Accept", "application/json, text/event-stream", "X-API-Key", key,
	}, more...)
}

func message(t testing.TB, id any, method string, params object) string {
	t.Helper()
	msg := object{"jsonrpc": "2.0", "method": method}
	if id != nil {
		msg["id"] = id
	}
	if params != nil {
		msg["params"] = params
	}
	b, err := json.Marshal(msg)
	require.NoError(t, err)
	return string(b)
}

// modernParams are params with what 2026-07-28 wants in each request.
func modernParams(params object, client string) object {
	with := object{"_meta": object{
		"io.modelcontextprotocol/protocolVersion":    modern,
		"io.modelcontextprotocol/clientCapabilities": object{},
		"io.modelcontextprotocol/clientInfo":         object{"name": client, "version": "1"},
	}}
	for k, v := range params {
		with[k] = v
	}
	return with
}

func modernHeaders(key, method, name string) []string {
	h := posted(key, "MCP-Protocol-Version", modern, "Mcp-Method", method)
	if name != "" {
		h = append(h, "Mcp-Name", name)
	}
	return h
}

// client speaks to a stack over one transport in one protocol era.
type client interface {
	request(t testing.TB, method string, params object) reply
	transport() string // as it stands in records
}

// how opens a client of a kind: with a key, and by what name.
type how struct {
	name string
	open func(t testing.TB, s *stack, key, name string) client
}

// everyWay are all transports and eras.
func everyWay() []how {
	return []how{
		{"legacy http", func(t testing.TB, s *stack, key, name string) client {
			t.Helper()
			return openSession(t, s, key, name, legacy)
		}},
		{"modern http", func(_ testing.TB, s *stack, key, name string) client { return &modernHTTP{s: s, key: key, name: name} }},
		{"rpc", func(_ testing.TB, s *stack, key, _ string) client { return &rpcHTTP{s: s, key: key} }},
		{"legacy stdio", func(t testing.TB, s *stack, key, name string) client {
			t.Helper()
			c := openStdio(t, s, key, name)
			c.initialize(t, legacy)
			return c
		}},
		{"modern stdio", func(t testing.TB, s *stack, key, name string) client {
			t.Helper()
			c := openStdio(t, s, key, name)
			c.modern = true
			return c
		}},
	}
}

// call calls a tool.
func call(t testing.TB, c client, tool string, args object) reply {
	t.Helper()
	params := object{"name": tool}
	if args != nil {
		params["arguments"] = args
	}
	return c.request(t, "tools/call", params)
}

// session is a session of an older revision over HTTP.
type session struct {
	s                *stack
	key, id, version string
	next             atomic.Int64
	init             reply
}

func openSession(t testing.TB, s *stack, key, name, version string) *session {
	t.Helper()
	c := &session{s: s, key: key, version: version}
	c.init = s.do(t, http.MethodPost, "/mcp", initialize(t, version, name), posted(key)...)
	require.Equal(t, http.StatusOK, c.init.status, c.init.raw)
	c.id = c.init.header.Get("Mcp-Session-Id")
	require.NotEmpty(t, c.id)
	c.version = c.init.result(t)["protocolVersion"].(string)
	r := s.do(t, http.MethodPost, "/mcp", message(t, nil, "notifications/initialized", nil), c.headers()...)
	require.Equal(t, http.StatusAccepted, r.status, r.raw)
	return c
}

func initialize(t testing.TB, version, name string) string {
	t.Helper()
	return message(t, 0, "initialize", object{
		"protocolVersion": version, "capabilities": object{}, "clientInfo": object{"name": name, "version": "1"},
	})
}

func (c *session) headers() []string {
	h := posted(c.key, "Mcp-Session-Id", c.id)
	if c.version >= "2025-06-18" {
		h = append(h, "MCP-Protocol-Version", c.version)
	}
	return h
}

func (c *session) transport() string { return "mcp" }

func (c *session) request(t testing.TB, method string, params object) reply {
	t.Helper()
	return c.s.do(t, http.MethodPost, "/mcp", message(t, c.next.Add(1), method, params), c.headers()...)
}

// modernHTTP makes requests of 2026-07-28.
type modernHTTP struct {
	s         *stack
	key, name string
}

func (c *modernHTTP) transport() string { return "mcp" }

func (c *modernHTTP) request(t testing.TB, method string, params object) reply {
	t.Helper()
	name, _ := params["name"].(string)
	if method == "resources/read" {
		name, _ = params["uri"].(string)
	}
	return c.s.do(t, http.MethodPost, "/mcp", message(t, 1, method, modernParams(params, c.name)), modernHeaders(c.key, method, name)...)
}

// rpcHTTP makes requests as `curl --json` does.
type rpcHTTP struct {
	s   *stack
	key string
}

func (c *rpcHTTP) transport() string { return "rpc" }

func (c *rpcHTTP) request(t testing.TB, method string, params object) reply {
	t.Helper()
	return c.s.do(t, http.MethodPost, "/mcp/rpc", message(t, 1, method, params),
		"Content-Type", "application/json", "Accept", "application/json", "X-API-Key", c.key)
}

// stdio is a client over pipes.
type stdio struct {
	name   string
	modern bool
	in     io.WriteCloser // to the server
	lines  chan string    // from it
	done   chan error     // what ServeStdio returned
	stop   context.CancelFunc
	next   int
}

func openStdio(t testing.TB, s *stack, key, name string) *stdio {
	t.Helper()
	return serveStdio(t, s, name, func(ctx context.Context) (*auth.Principal, error) {
		return s.keys.authenticate(ctx, auth.Presented{Header: http.Header{"X-Api-Key": {key}}})
	})
}

func serveStdio(t testing.TB, s *stack, name string, launch server.Launch) *stdio {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	// A server of its own on the same trail: the end of stdio is its end.
	own, err := server.New(s.opt)
	require.NoError(t, err)
	c := &stdio{name: name, in: inW, lines: make(chan string, 4096), done: make(chan error, 1), stop: cancel}
	go func() {
		err := own.ServeStdio(ctx, inR, outW, launch)
		_ = outW.Close()
		c.done <- err
	}()
	go func() {
		defer close(c.lines)
		r := bufio.NewReader(outR)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			c.lines <- line
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = inW.Close()
		_ = outR.Close()
		for range c.lines { // until the reader has ended
		}
	})
	return c
}

func (c *stdio) transport() string { return "stdio" }

func (c *stdio) send(t testing.TB, line string) {
	t.Helper()
	_, err := io.WriteString(c.in, line+"\n")
	require.NoError(t, err)
}

// line waits for the next line of the server.
func (c *stdio) line(t testing.TB) reply {
	t.Helper()
	select {
	case line, ok := <-c.lines:
		require.True(t, ok, "the output ended")
		var r reply
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		r.raw = line
		return r
	case <-time.After(patience):
		t.Fatal("no answer")
		panic("unreachable")
	}
}

func (c *stdio) initialize(t testing.TB, version string) reply {
	t.Helper()
	c.send(t, initialize(t, version, c.name))
	r := c.line(t)
	c.send(t, message(t, nil, "notifications/initialized", nil))
	return r
}

// start sends a request and returns its id.
func (c *stdio) start(t testing.TB, method string, params object) string {
	t.Helper()
	c.next++
	if c.modern {
		params = modernParams(params, c.name)
	}
	c.send(t, message(t, c.next, method, params))
	return strconv.Itoa(c.next)
}

func (c *stdio) request(t testing.TB, method string, params object) reply {
	t.Helper()
	id := c.start(t, method, params)
	for {
		if r := c.line(t); string(r.ID) == id {
			return r
		}
	}
}

// stopped waits for ServeStdio to return.
func (c *stdio) stopped(t testing.TB) error {
	t.Helper()
	return receive(t, "the end of ServeStdio", c.done)
}
