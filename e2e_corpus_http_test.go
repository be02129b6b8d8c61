package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// wire is a connection on which a test writes requests byte by byte.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, url string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(40*time.Second)))
	return &wire{t, conn, bufio.NewReader(conn)}
}

// answers sends what stands in text and reads so many answers; then it ends its
// own side, and reads what else may come until the server has ended the
// connection. A text that is cut off ends its side at once: to the server, that
// is a caller who hangs up.
func (w *wire) answers(text string, wanted int, cut bool) (statuses []int, all string) {
	w.t.Helper()
	_, _ = io.WriteString(w, text) // the server may have ended it by then
	for {
		if cut || len(statuses) == wanted {
			_ = w.Conn.(*net.TCPConn).CloseWrite()
		}
		resp, err := http.ReadResponse(w.r, nil)
		if err != nil {
			return statuses, all
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		statuses = append(statuses, resp.StatusCode)
		var head strings.Builder
		_ = resp.Header.Write(&head)
		all += head.String() + string(body)
	}
}

// TestHostileHTTP sends requests that no client library would send. Either
// net/http refuses them, as no request at all, which leaves no record; or they
// come to our own rules, which leave one; or they are a good request in an odd
// form. server/*_test.go has the rows on Origin, media types, bodies and MCP
// headers, through the same handler.
func TestHostileHTTP(t *testing.T) {
	v := devstacktest.Shared(t)
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	p := startHTTP(t, env)
	trail := readTrail(env)
	const call = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv.list","arguments":{}}}`
	request := func(target, host string, headers ...string) string {
		head := "POST " + target + " HTTP/1.1\r\n" + host + "X-API-Key: " + devKey + "\r\nContent-Type: application/json\r\n"
		for _, h := range headers {
			head += h + "\r\n"
		}
		return head
	}
	const local = "Host: localhost\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(call))
	good := request("/mcp/rpc", local) + length + "\r\n" + call
	host := func(hosts ...string) string {
		return request("/mcp/rpc", strings.Join(hosts, "")) + length + "\r\n" + call
	}
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(call), call)
	chunked := request("/mcp/rpc", local, "Transfer-Encoding: chunked") + "\r\n"

	for about, row := range map[string]struct {
		text    string
		status  []int
		records int // of ours that end a request
		calls   int // that reach Vault
	}{
		"as it should be": {good, []int{200}, 1, 1},
		"two on one line": {good + good, []int{200, 200}, 2, 2},

		// Host.
		"absolute form":               {request("http://localhost/mcp/rpc", local) + length + "\r\n" + call, []int{200}, 1, 1},
		"absolute form, evil target":  {request("http://evil.example/mcp/rpc", local) + length + "\r\n" + call, []int{403}, 1, 0},
		"absolute form, user":         {request("http://localhost@evil.example/mcp/rpc", local) + length + "\r\n" + call, []int{403}, 1, 0},
		"absolute form, own address":  {request(p.url+"/mcp/rpc", "Host: evil.example\r\n") + length + "\r\n" + call, []int{200}, 1, 1}, // the target is what counts (RFC 9112, 3.2.2); no browser sends it
		"network path":                {request("//evil.example/mcp/rpc", local) + length + "\r\n" + call, []int{404}, 0, 0},
		"two hosts":                   {host("Host: localhost\r\n", "Host: evil.example\r\n"), []int{400}, 0, 0},
		"two equal hosts":             {host("Host: localhost\r\n", "Host: localhost\r\n"), []int{400}, 0, 0},
		"no host":                     {host(""), []int{400}, 0, 0},
		"no host, HTTP/1.0":           {strings.Replace(host(""), "HTTP/1.1", "HTTP/1.0", 1), []int{403}, 1, 0},
		"empty host":                  {host("Host: \r\n"), []int{403}, 1, 0},
		"host with user":              {host("Host: localhost@evil.example\r\n"), []int{400}, 0, 0},
		"user at our host":            {host("Host: evil@localhost\r\n"), []int{400}, 0, 0},
		"host list":                   {host("Host: localhost, evil.example\r\n"), []int{400}, 0, 0},
		"host with path":              {host("Host: localhost/evil\r\n"), []int{400}, 0, 0},
		"trailing dot":                {host("Host: localhost.\r\n"), []int{403}, 1, 0},
		"upper case":                  {host("Host: LOCALHOST:1\r\n"), []int{200}, 1, 1},
		"folded upper case":           {host("Host: \u017fome.localhost\r\n"), []int{400}, 0, 0},
		"rebinding name":              {host("Host: 127.0.0.1.evil.example\r\n"), []int{403}, 1, 0},
		"name below localhost":        {host("Host: evil.localhost\r\n"), []int{403}, 1, 0},
		"localhost.localdomain":       {host("Host: localhost.localdomain\r\n"), []int{403}, 1, 0},
		"all addresses":               {host("Host: 0.0.0.0\r\n"), []int{403}, 1, 0},
		"short loopback":              {host("Host: 127.1\r\n"), []int{403}, 1, 0},
		"loopback in one number":      {host("Host: 2130706433\r\n"), []int{403}, 1, 0},
		"loopback in hex":             {host("Host: 0x7f.0.0.1\r\n"), []int{403}, 1, 0},
		"IPv6 loopback":               {host("Host: [::1]:8089\r\n"), []int{200}, 1, 1},
		"IPv6 without brackets":       {host("Host: ::1\r\n"), []int{200}, 1, 1},
		"IPv6 in long form":           {host("Host: [0:0:0:0:0:0:0:1]\r\n"), []int{403}, 1, 0},
		"IPv4 within IPv6":            {host("Host: [::ffff:127.0.0.1]\r\n"), []int{403}, 1, 0},
		"IPv6 with a zone":            {host("Host: [::1%25lo]\r\n"), []int{403}, 1, 0},
		"IPv6 unspecified":            {host("Host: [::]\r\n"), []int{403}, 1, 0},
		"forwarded host does nothing": {request("/mcp/rpc", local, "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example") + length + "\r\n" + call, []int{200}, 1, 1},
		"nor does it help":            {request("/mcp/rpc", "Host: evil.example\r\n", "X-Forwarded-Host: localhost") + length + "\r\n" + call, []int{403}, 1, 0},

		// Origin.
		"null origin":            {request("/mcp/rpc", local, "Origin: null") + length + "\r\n" + call, []int{403}, 1, 0},
		"two origins":            {request("/mcp/rpc", local, "Origin: http://localhost", "Origin: http://evil.example") + length + "\r\n" + call, []int{403}, 1, 0},
		"origin with other port": {request("/mcp/rpc", local, "Origin: http://localhost:9") + length + "\r\n" + call, []int{403}, 1, 0},
		"origin with user":       {request("/mcp/rpc", local, "Origin: http://localhost@evil.example") + length + "\r\n" + call, []int{403}, 1, 0},

		// The message's end.
		"chunked":                   {chunked + chunk + "0\r\n\r\n", []int{200}, 1, 1},
		"chunked, garbage after":    {chunked + chunk + "0\r\n\r\nGARBAGE\r\n\r\n", []int{200}, 1, 1},
		"chunked, trailer":          {chunked + chunk + "0\r\nX-API-Key: x\r\n\r\n", []int{200}, 1, 1},
		"chunk size not hex":        {chunked + "zz\r\n" + call + "\r\n0\r\n\r\n", []int{400}, 1, 0},
		"chunk size negative":       {chunked + "-1\r\n" + call + "\r\n0\r\n\r\n", []int{400}, 1, 0},
		"chunk longer than told":    {chunked + "5\r\n" + call + "\r\n0\r\n\r\n", []int{400}, 1, 0},
		"chunks, cut off":           {chunked + chunk, []int{400}, 1, 0},
		"length and chunked":        {request("/mcp/rpc", local, "Transfer-Encoding: chunked") + length + "\r\n" + chunk + "0\r\n\r\n", []int{200}, 1, 1},
		"length and chunked, other": {request("/mcp/rpc", local, "Transfer-Encoding: chunked") + length + "\r\n0\r\n\r\n" + good, []int{400}, 1, 0},
		"chunked twice":             {request("/mcp/rpc", local, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "\r\n" + chunk + "0\r\n\r\n", []int{501}, 0, 0},
		"chunked, chunked":          {request("/mcp/rpc", local, "Transfer-Encoding: chunked, chunked") + "\r\n" + chunk + "0\r\n\r\n", []int{501}, 0, 0},
		"chunked behind identity":   {request("/mcp/rpc", local, "Transfer-Encoding: identity, chunked") + "\r\n" + chunk + "0\r\n\r\n", []int{501}, 0, 0},
		"chunked behind a tab":      {request("/mcp/rpc", local, "Transfer-Encoding:\x0bchunked") + "\r\n" + chunk + "0\r\n\r\n", []int{400}, 0, 0},
		"length too long, cut off":  {request("/mcp/rpc", local) + "Content-Length: 1000\r\n\r\n" + call, []int{400}, 1, 0},
		"length too short":          {request("/mcp/rpc", local) + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(call)-1) + call, []int{400}, 1, 0},
		"two lengths":               {request("/mcp/rpc", local) + length + "Content-Length: 1\r\n\r\n" + call, []int{400}, 0, 0},
		"length in a list":          {request("/mcp/rpc", local) + strings.Replace(length, "\r\n", ", 1\r\n\r\n", 1) + call, []int{400}, 0, 0},
		"length with a sign":        {request("/mcp/rpc", local) + strings.Replace(length, ": ", ": +", 1) + "\r\n" + call, []int{400}, 0, 0},
		"length beyond int64":       {request("/mcp/rpc", local) + "Content-Length: 99999999999999999999\r\n\r\n" + call, []int{400}, 0, 0},
		"length beyond the bound":   {request("/mcp/rpc", local) + "Content-Length: 9999999999\r\n\r\n" + call, []int{413}, 1, 0},

		// Headers.
		"header of 40 KiB":                 {request("/mcp/rpc", local, "X-Long: "+strings.Repeat("x", 40<<10)) + length + "\r\n" + call, []int{431}, 0, 0},
		"10 000 headers":                   {request("/mcp/rpc", local, strings.Repeat("X-Many: x\r\n", 10_000)+"X: y") + length + "\r\n" + call, []int{431}, 0, 0},
		"target of 40 KiB":                 {request("/mcp/rpc?"+strings.Repeat("x", 40<<10), local) + length + "\r\n" + call, []int{431}, 0, 0},
		"blank before the colon":           {request("/mcp/rpc", local, "X-Odd : y") + length + "\r\n" + call, []int{400}, 0, 0},
		"folded header":                    {request("/mcp/rpc", local, " folded: y") + length + "\r\n" + call, []int{415}, 1, 0},
		"NUL in a header":                  {request("/mcp/rpc", local, "X-Odd: a\x00b") + length + "\r\n" + call, []int{400}, 0, 0},
		"bare CR in a header":              {request("/mcp/rpc", local, "X-Odd: a\rX-Other: b") + length + "\r\n" + call, []int{400}, 0, 0},
		"no colon":                         {request("/mcp/rpc", local, "nonsense") + length + "\r\n" + call, []int{400}, 0, 0},
		"key with an underscore":           {strings.Replace(good, "X-API-Key", "X_API_Key", 1), []int{401}, 1, 0},
		"two keys":                         {request("/mcp/rpc", local, "X-API-Key: "+botKey) + length + "\r\n" + call, []int{401}, 1, 0},
		"key and another bearer":           {request("/mcp/rpc", local, "Authorization: Bearer "+botKey) + length + "\r\n" + call, []int{401}, 1, 0},
		"key in the query":                 {strings.Replace(strings.Replace(good, "X-API-Key: "+devKey+"\r\n", "", 1), "/mcp/rpc", "/mcp/rpc?api_key="+devKey, 1), []int{401}, 1, 0},
		"upgrade to HTTP/2":                {request("/mcp/rpc", local, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAA") + length + "\r\n" + call, []int{200}, 1, 1},
		"preface of HTTP/2":                {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{403}, 1, 0},
		"HTTP/9.9":                         {strings.Replace(good, "HTTP/1.1", "HTTP/9.9", 1), []int{505}, 0, 0},
		"no version, cut off":              {strings.Replace(good, " HTTP/1.1", "", 1), []int{400}, 0, 0},
		"method in another case":           {strings.Replace(good, "POST", "post", 1), []int{405}, 1, 0},
		"CONNECT":                          {"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", []int{403}, 1, 0},
		"OPTIONS of everything":            {"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n", []int{403}, 1, 0},
		"TLS where there is none, cut off": {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", []int{400}, 0, 0},
	} {
		t.Run(about, func(t *testing.T) {
			trail.more(t)
			seen.Reset()
			cut := strings.HasSuffix(about, "cut off")
			statuses, all := dial(t, p.url).answers(row.text, len(row.status), cut)
			require.Equal(t, row.status, statuses, all)
			require.Len(t, trail.ends(t), row.records)
			require.Len(t, seen.Requests(), row.calls)
			require.NotContains(t, all, "evil")
		})
	}
}

// TestSlowHeaders: who does not get to the end of a request's headers is let
// go of, and holds up nobody meanwhile.
func TestSlowHeaders(t *testing.T) {
	p := startHTTP(t, settings(t, devstacktest.Shared(t)))
	began := time.Now()
	slow := map[string]*wire{}
	for about, text := range map[string]string{
		"nothing": "", "half a line": "POST /mc", "headers without end": "POST /mcp/rpc HTTP/1.1\r\nHost: localhost\r\nX-API-Key: " + devKey + "\r\n",
	} {
		slow[about] = dial(t, p.url)
		_, err := io.WriteString(slow[about], text)
		require.NoError(t, err)
	}
	require.False(t, openRPC(p.url, devKey)(t, "whoami", obj{}).failed)
	for about, w := range slow {
		rest, err := io.ReadAll(w)
		require.NoError(t, err, "%s: still open after %s", about, time.Since(began))
		require.NotContains(t, string(rest), "HTTP/1.1 200", about)
	}
}
