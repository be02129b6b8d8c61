package server_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/server"
	"vault-mcp/tools"
)

func TestBodiesAndMediaTypes(t *testing.T) {
	s := listen(t)
	hello := initialize(t, legacy, "test")
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(hello))
	require.NoError(t, z.Close())
	large := `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("a", 4<<20) + `"}`
	for name, tc := range map[string]struct {
		body    io.Reader
		headers []string
		status  int
	}{
		"as it should be":         {strings.NewReader(hello), nil, 200},
		"chunked":                 {io.MultiReader(strings.NewReader(hello)), nil, 200},
		"charset":                 {strings.NewReader(hello), []string{"Content-Type", `application/json; charset="UTF-8"`}, 200},
		"other charset":           {strings.NewReader(hello), []string{"Content-Type", "application/json; charset=utf-16"}, 415},
		"4 MiB and more":          {strings.NewReader(large), nil, 413},
		"4 MiB and more, chunked": {io.MultiReader(strings.NewReader(large)), nil, 413},
		"compressed":              {bytes.NewReader(zipped.Bytes()), []string{"Content-Encoding", "gzip"}, 415},
		"compressed, untold":      {bytes.NewReader(zipped.Bytes()), nil, 400},
		"text":                    {strings.NewReader(hello), []string{"Content-Type", "text/plain"}, 415},
		"a form":                  {strings.NewReader(hello), []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		"no type":                 {strings.NewReader(hello), []string{"Content-Type", ""}, 415},
		"json of another kind":    {strings.NewReader(hello), []string{"Content-Type", "application/json-patch+json"}, 415},
		"nothing":                 {strings.NewReader(""), nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.records(t, audit.Reject))
			req, err := http.NewRequest(http.MethodPost, s.url+"/mcp", tc.body)
			require.NoError(t, err)
			for headers := posted(aliceKey); len(headers) > 0; headers = headers[2:] {
				req.Header.Set(headers[0], headers[1])
			}
			for headers := tc.headers; len(headers) > 0; headers = headers[2:] {
				req.Header.Set(headers[0], headers[1])
			}
			resp, err := s.http.Do(req)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, tc.status, resp.StatusCode, string(body))
			if tc.status != 200 {
				require.Equal(t, "invalid", s.rejected(t, before).Outcome)
			}
		})
	}
}

func TestMethodsAndPaths(t *testing.T) {
	s := listen(t)
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"TRACE", "/mcp", 405},
		{"PUT", "/mcp", 405},
		{"HEAD", "/mcp", 405},
		{"OPTIONS", "/mcp", 405},
		{"GET", "/mcp/rpc", 405},
		{"POST", "/", 404},
		{"POST", "/mcp/", 404},
		{"POST", "//mcp", 404},
		{"POST", "/MCP", 404},
		{"POST", "/mcp/../mcp", 404},
		{"POST", "/x/../mcp", 404},
		{"POST", "/%6dcp", 404},
		{"POST", "/%2e%2e/mcp", 404},
		{"POST", "/mcp%2frpc", 404},
		{"GET", "/healthz/", 404},
		{"GET", "/%68ealthz", 404},
	} {
		conn := s.dial(t)
		hello := initialize(t, legacy, "test")
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n%s",
			tc.method, tc.path, aliceKey, len(hello), hello)
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: tc.method})
		require.NoError(t, err)
		if tc.method == "POST" && strings.HasPrefix(tc.path, "/%6") { // an escape that says the same
			require.Contains(t, []int{200, 404}, resp.StatusCode)
			continue
		}
		require.Equal(t, tc.status, resp.StatusCode, "%s %s", tc.method, tc.path)
		require.Empty(t, resp.Header.Get("Location"))
		if tc.status == 405 {
			require.NotEmpty(t, resp.Header.Get("Allow"))
		}
	}
}

// raw sends the start of a request and reads what comes back, until the server
// ends the connection.
func raw(t *testing.T, s *stack, request string) string {
	t.Helper()
	conn := s.dial(t)
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err, "the server does not end the connection")
	return string(answer)
}

func quickly(o *server.Options, _ *tools.Options) { o.ReadTimeout = 100 * time.Millisecond }

// Whoever sends a body too slowly is told so and let go of: also one who has no
// credential and whose body nobody wants.
func TestSlowBodies(t *testing.T) {
	s := listen(t, quickly)
	const head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"
	for name, tc := range map[string]struct {
		request string
		status  string
	}{
		"never comes":            {head + "X-API-Key: " + aliceKey + "\r\nContent-Length: 100\r\n\r\n", "408"},
		"less than was promised": {head + "X-API-Key: " + aliceKey + "\r\nContent-Length: 100\r\n\r\n{\"jsonrpc\"", "408"},
		"stalls when asked for":  {head + "X-API-Key: " + aliceKey + "\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n", "408"},
		"chunk never comes":      {head + "X-API-Key: " + aliceKey + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", "408"},
		"no credential":          {head + "Content-Length: 1000\r\n\r\n", "401"},
		"no credential, chunked": {head + "Transfer-Encoding: chunked\r\n\r\n5\r\n", "401"},
		"nothing at the path":    {"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "404"},
		"a probe with a body":    {"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "200"},
		"a stream with a body":   {"GET /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "401"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := raw(t, s, tc.request)
			answer = strings.TrimPrefix(answer, "HTTP/1.1 100 Continue\r\n\r\n")
			require.True(t, strings.HasPrefix(answer, "HTTP/1.1 "+tc.status+" "), answer)
		})
	}
}

// The time for the body is not the time for the call, nor that for the next
// request on the connection.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	s := listen(t, quickly)
	done := make(chan reply, 1)
	c := &modernHTTP{s: s, key: aliceKey, name: "test"}
	go func() { done <- call(t, c, "kv.read", object{"path": "slow"}) }()
	receive(t, "the call at Vault", s.vault.asked)
	time.Sleep(300 * time.Millisecond)
	s.vault.let()
	require.NotContains(t, receive(t, "the answer", done).result(t), "isError")
	require.NotContains(t, call(t, c, "kv.read", object{"path": "a"}).result(t), "isError")
}

// Requests whose end is told in two ways open no session, whichever way counts.
func TestSmuggling(t *testing.T) {
	s := listen(t)
	hello := initialize(t, legacy, "test")
	const head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\nX-API-Key: " + aliceKey + "\r\n"
	for name, tc := range map[string]struct{ request, status string }{
		"both lengths": {head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", len(hello)), "400"},
		"two lengths":  {head + fmt.Sprintf("Content-Length: %d\r\nContent-Length: 5\r\n\r\n%s", len(hello), hello), "400"},
		"odd coding":   {head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		"odd header":   {strings.Replace(head, "X-API-Key:", "X-API-Key :", 1) + "Content-Length: 0\r\n\r\n", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := raw(t, s, tc.request+"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
			require.True(t, strings.HasPrefix(answer, "HTTP/1.1 "+tc.status+" "), answer)
			require.NotContains(t, answer, "Mcp-Session-Id")
		})
	}
}
