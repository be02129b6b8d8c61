package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// hearing connects a client of the Go SDK that subscribes to URIs, and gives what it
// hears.
func hearing(t testing.TB, transport mcp.Transport, version string, uris ...string) (<-chan string, caller) {
	t.Helper()
	heard := make(chan string, 1000)
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, &mcp.ClientOptions{
		ResourceUpdatedHandler: func(_ context.Context, req *mcp.ResourceUpdatedNotificationRequest) { heard <- req.Params.URI },
	})
	session, err := client.Connect(context.Background(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })
	for _, uri := range uris {
		require.NoError(t, session.Subscribe(context.Background(), &mcp.SubscribeParams{URI: uri}))
	}
	return heard, callThrough(session)
}

func hears(t testing.TB, heard <-chan string) string {
	t.Helper()
	select {
	case uri := <-heard:
		return uri
	case <-time.After(30 * time.Second):
		t.Fatal("nothing is heard")
		return ""
	}
}

// One agent rotates a secret; another of the same principal hears of it whatever its
// protocol revision, reads again and has the new version. An agent of another tenant
// hears nothing, whatever it subscribes to.
func TestAgentsNotice(t *testing.T) {
	v := devstacktest.Shared(t)
	p := startHTTP(t, settings(t, v))
	rotate := openRPC(p.url, devKey)
	eavesdroppers := []<-chan string{}
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		other, _ := hearing(t, httpTransport(p.url, botKey), version, "kv://dev-bot/", "kv://dev-bot/mcp/dev/")
		eavesdroppers = append(eavesdroppers, other)
	}
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			heard, call := hearing(t, httpTransport(p.url, devKey), version, "kv://dev/notice", "kv://dev/team/")
			for _, path := range []string{"notice", "team/deep/er"} {
				wrote := rotate(t, "kv.write", obj{"path": path, "data": obj{"k": version}})
				require.False(t, wrote.failed, wrote.body)
				require.Equal(t, "kv://dev/"+path, hears(t, heard))
				read := call(t, "kv.read", obj{"path": path})
				require.Equal(t, obj{"k": version}, read.body["data"])
			}
			for _, step := range []struct {
				tool string
				args obj
			}{
				{"kv.patch", obj{"path": "notice", "data": obj{"more": "x"}}},
				{"kv.delete", obj{"path": "notice"}},
				{"kv.undelete", obj{"path": "notice", "versions": []int{1}}},
				{"kv.destroy", obj{"path": "notice", "versions": []int{1}}},
			} {
				require.False(t, rotate(t, step.tool, step.args).failed, step.tool)
				require.Equal(t, "kv://dev/notice", hears(t, heard), step.tool)
			}
			require.True(t, rotate(t, "kv.write", obj{"path": "notice", "data": obj{}, "cas": 1}).failed)
			require.False(t, rotate(t, "kv.read", obj{"path": "team/deep/er"}).failed)
			require.False(t, rotate(t, "kv.write", obj{"path": "team/last", "data": obj{}}).failed)
			require.Equal(t, "kv://dev/team/last", hears(t, heard), "what failed and what only reads changes nothing")
		})
	}
	bot := openRPC(p.url, botKey)
	require.False(t, bot(t, "kv.write", obj{"path": "notice", "data": obj{}}).failed)
	for _, other := range eavesdroppers {
		require.Equal(t, "kv://dev-bot/notice", hears(t, other), "the first thing that it hears")
		require.Empty(t, other)
	}
}

// An agent on stdio hears of what it changes itself.
func TestStdioAgentsNotice(t *testing.T) {
	v := devstacktest.Shared(t)
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			cmd := exec.Command(binary, "stdio")
			cmd.Env = settings(t, v, "VAULT_MCP_API_KEY="+devKey)
			heard, call := hearing(t, &mcp.CommandTransport{Command: cmd}, version, "kv://dev/stdio/", "kv://dev/own")
			for _, path := range []string{"own", "stdio/x"} {
				require.False(t, call(t, "kv.write", obj{"path": path, "data": obj{"k": "v"}}).failed)
				require.Equal(t, "kv://dev/"+path, hears(t, heard))
			}
		})
	}
}

// The TypeScript SDK subscribes, is notified and reads again, with both of its major
// versions.
func TestTypeScriptSDKSubscribes(t *testing.T) {
	v := devstacktest.Shared(t)
	p := startHTTP(t, settings(t, v))
	for _, mode := range []string{"http", "modern-http", "stdio", "modern-stdio"} {
		t.Run(mode, func(t *testing.T) {
			target, env := p.url+"/mcp", []string{"VAULT_MCP_API_KEY=" + devKey}
			if mode == "stdio" || mode == "modern-stdio" {
				target, env = binary, settings(t, v, env...)
			}
			cmd := script(t, env, "subscribe.mjs", mode, target, "kv://dev/ts/a", "kv://dev/ts/f/")
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(out)
			next := func(into any) {
				t.Helper()
				require.True(t, lines.Scan(), "the client ended")
				require.NoError(t, json.Unmarshal(lines.Bytes(), into))
			}
			var hello struct{ Subscribed []string }
			next(&hello)
			require.ElementsMatch(t, []string{"kv://dev/ts/a", "kv://dev/ts/f/"}, hello.Subscribed)
			for _, path := range []string{"ts/a", "ts/f/x"} {
				value := mode + " " + path
				line, err := json.Marshal(obj{"tool": "kv.write", "args": obj{"path": path, "data": obj{"k": value}}})
				require.NoError(t, err)
				_, err = in.Write(append(line, '\n'))
				require.NoError(t, err)
				var change struct {
					URI  string
					Body obj
				}
				next(&change)
				require.Equal(t, "kv://dev/"+path, change.URI)
				require.Equal(t, obj{"k": value}, change.Body["data"])
			}
			require.NoError(t, in.Close())
			require.NoError(t, cmd.Wait())
		})
	}
}

// When a key is revoked, what was heard with it is not heard any more, within the 5 s
// that are promised, in both eras.
func TestRevokedKeyHearsNothing(t *testing.T) {
	v := devstacktest.Shared(t)
	file := filepath.Join(t.TempDir(), "keys.json")
	env := settings(t, v, "API_KEYS_FILE="+file)
	ok, key, said := run(t, env, "", "key", "create", "--subject", "dev")
	require.True(t, ok, said)
	key = strings.TrimSpace(key)
	p := startHTTP(t, env)
	dev := openRPC(p.url, devKey)

	// post sends one message; its answer is left open.
	post := func(header http.Header, body string) *http.Response {
		t.Helper()
		method := http.MethodPost
		if body == "" {
			method = http.MethodGet
		}
		req, err := http.NewRequest(method, p.url+"/mcp", strings.NewReader(body))
		require.NoError(t, err)
		req.Header = header.Clone()
		req.Header.Set("X-API-Key", key)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		require.Less(t, resp.StatusCode, 300, body)
		return resp
	}
	init := post(http.Header{}, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`)
	session := http.Header{"Mcp-Session-Id": init.Header["Mcp-Session-Id"], "Mcp-Protocol-Version": {"2025-11-25"}}
	post(session, `{"jsonrpc":"2.0","id":2,"method":"resources/subscribe","params":{"uri":"kv://dev/revoked"}}`)
	streams := map[string]*http.Response{
		"2025-11-25": post(session, ""),
		"2026-07-28": post(http.Header{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"subscriptions/listen"}},
			`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["kv://dev/revoked"]},"_meta":{`+
				`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"}}}}`),
	}
	heard, ended := make(chan string, 100), make(chan string, 2)
	for era, resp := range streams {
		go func() {
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				if strings.Contains(lines.Text(), "kv://dev/revoked") && strings.Contains(lines.Text(), "resources/updated") {
					heard <- era
				}
			}
			ended <- era
		}()
	}
	require.False(t, dev(t, "kv.write", obj{"path": "revoked", "data": obj{}}).failed)
	require.ElementsMatch(t, []string{"2025-11-25", "2026-07-28"}, []string{hears(t, heard), hears(t, heard)})

	ok, _, said = run(t, env, "", "key", "revoke", strings.Split(key, "_")[1])
	require.True(t, ok, said)
	revoked := time.Now()
	hears(t, ended)
	hears(t, ended)
	require.Less(t, time.Since(revoked), 5*time.Second)
	require.False(t, dev(t, "kv.write", obj{"path": "revoked", "data": obj{}}).failed)
	require.Empty(t, heard)
}
