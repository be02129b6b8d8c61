package devstacktest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

const roleEnv = "DEVSTACKTEST_ROLE"

func TestMain(m *testing.M) { os.Exit(devstacktest.Main(m)) }

func TestShared(t *testing.T) {
	v := devstacktest.Shared(t)
	require.Same(t, v, devstacktest.Shared(t))
	require.NoError(t, v.PutSecret(t.Context(), "shared/a", map[string]any{"k": "v"}))
	fresh := devstacktest.Fresh(t, devstacktest.Options{})
	require.NotEqual(t, v.Addr, fresh.Addr)
	_, err := fresh.GetSecret(t.Context(), "shared/a")
	require.ErrorContains(t, err, "status 404")
}

func TestFreshEndsWithItsTest(t *testing.T) {
	var pid int
	var addr string
	t.Run("inner", func(t *testing.T) {
		v := devstacktest.Fresh(t, devstacktest.Options{})
		pid, addr = v.Pid(), strings.TrimPrefix(v.Addr, "http://")
	})
	require.NotZero(t, pid)
	_, err := net.Dial("tcp", addr)
	require.Error(t, err)
}

// again runs one test of this binary in another process.
func again(t *testing.T, test string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), roleEnv+"="+test)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func TestMainStopsTheSharedVault(t *testing.T) {
	const mark = "shared at "
	if os.Getenv(roleEnv) != "" {
		fmt.Println(mark + strings.TrimPrefix(devstacktest.Shared(t).Addr, "http://"))
		return
	}
	out, code := again(t, t.Name())
	require.Zero(t, code, out)
	_, addr, ok := strings.Cut(out, mark)
	require.True(t, ok, out)
	addr, _, _ = strings.Cut(addr, "\n")
	_, err := net.Dial("tcp", addr)
	require.ErrorContains(t, err, "refused")
}

func TestMainFindsGoroutinesLeftBehind(t *testing.T) {
	if os.Getenv(roleEnv) != "" {
		go func() { time.Sleep(time.Hour) }()
		return
	}
	out, code := again(t, t.Name())
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "goroutines were left behind")
}

// TestRecorder writes request lines by hand, as a client library would clean
// them, and looks at what an echoing server behind the proxy received.
func TestRecorder(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s token=%s body=%s\n", r.Method, wire(r), r.Header.Get("X-Vault-Token"), body)
	})}
	go func() { _ = server.Serve(echo) }()
	defer func() { _ = server.Close() }()
	rec := devstacktest.Recorder(t, "http://"+echo.Addr().String())

	lines := []string{
		"GET /v1/secret/data/a", "LIST /v1/secret/metadata/a/", "PATCH /v1/secret/data/a?x=1&y=%20", "GET /v1/x?", "DELETE /v1/a;b?c;d",
		"GET /v1/a/%2e%2e/b", "GET /v1/a/../b", "GET /v1/a%2Fb%2f..%2fc", "GET //v1//a", "POST /v1/%C3%BC/@=+,:!$&'()*", "PUT /v1/a%00b%0a",
	}
	for _, line := range lines {
		require.Equal(t, line+" token=s3 body=hello\n", send(t, rec.URL, line), line)
	}
	require.Equal(t, lines, rec.Requests())
	rec.Reset()
	require.Empty(t, rec.Requests())
	require.Empty(t, rec.Carrying(), "it was not asked to look")

	for _, text := range []string{"/v1/mark?x", "X-Vault-Token: s3", "hello"} {
		rec.LookFor("nothing", text)
		require.Equal(t, "GET /v1/mark?x token=s3 body=hello\n", send(t, rec.URL, "GET /v1/mark?x"), "the body arrives all the same")
	}
	rec.LookFor("nothing")
	send(t, rec.URL, "GET /v1/other")
	require.Equal(t, []string{"GET /v1/mark?x", "GET /v1/mark?x", "GET /v1/mark?x"}, rec.Carrying())
	rec.Reset()

	require.NoError(t, server.Close())
	send(t, rec.URL, "GET /v1/down")
	require.Equal(t, []string{"GET /v1/down"}, rec.Requests(), "what does not arrive is recorded too")
}

// wire is the target of a request line without the host, which stands in it
// where the path begins with two slashes.
func wire(r *http.Request) string { return strings.TrimPrefix(r.RequestURI, "http://"+r.Host) }

// send sends one request line as it is, and returns the answer's body.
func send(t *testing.T, url, line string) string {
	t.Helper()
	host := strings.TrimPrefix(url, "http://")
	c, err := net.Dial("tcp", host)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: %s\r\nX-Vault-Token: s3\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", line, host)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

// The recorder stands before a real Vault without being noticed.
func TestRecorderBeforeVault(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	rec := devstacktest.Recorder(t, v.Addr)
	direct := v.Addr
	v.Addr = rec.URL
	defer func() { v.Addr = direct }()
	require.NoError(t, v.PutSecret(t.Context(), "a/b", map[string]any{"k": "v"}))
	patch := map[string]any{"data": map[string]any{"k2": "v2"}}
	require.NoError(t, v.Request(t.Context(), http.MethodPatch, "secret/data/a/b", patch, nil))
	require.NoError(t, v.Request(t.Context(), "LIST", "secret/metadata/a", nil, nil))
	got, err := v.GetSecret(t.Context(), "a/b")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"k": "v", "k2": "v2"}, got)
	require.Equal(t, []string{
		"POST /v1/secret/data/a/b", "PATCH /v1/secret/data/a/b", "LIST /v1/secret/metadata/a", "GET /v1/secret/data/a/b",
	}, rec.Requests())
}
