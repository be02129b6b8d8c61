package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// hostilePath is one row of the corpus of paths: how it stands in JSON, and
// whether the grammar refuses it or takes it as an ordinary name that stays
// below the caller's own prefix.
type hostilePath struct {
	json     string // with its quotes
	isolated bool
}

func refused(paths ...string) (rows []hostilePath) {
	for _, p := range paths {
		rows = append(rows, hostilePath{json: quote(p)})
	}
	return rows
}

func isolated(paths ...string) (rows []hostilePath) {
	for _, p := range paths {
		rows = append(rows, hostilePath{json: quote(p), isolated: true})
	}
	return rows
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// hostilePaths are the paths of the project's bad-input corpus, row by row.
func hostilePaths() []hostilePath {
	groups := [][]hostilePath{
		// Dot segments: the stock Vault client resolves them by itself.
		refused("../dev-bot/app", "a/../../dev-bot/app", "a/..", "..", ".", "a/./x", "../../../sys/mounts",
			"a/../../../metadata/mcp/dev-bot/app", "a/../../../../auth/token/create"),
		// Encodings, double and overlong. As text in JSON they hold a percent sign.
		refused("%2e%2e/x", "%2E%2e", "..%2fdev-bot", "%2e%2e%2fdev-bot", "%252e%252e", "..%252f", "%c0%ae%c0%ae", "%u002e"),
		// Empty segments and slashes at the ends.
		refused("a//x", "//a/x", "/a/x", "a/x/", "a/", "/"),
		// Neighbours by name: below the own prefix they are ordinary.
		isolated("dev-bot/app/config", "dev-bot", "mcp/dev-bot/app/config", "-evil/x", "A/x"),
		// Control characters and header injection.
		refused("x\u0000", "x%00", "x\n", "x\r\nX-Vault-Token: y", "x\t", "x\u007f", "x\u0085"),
		// Backslashes and matrix parameters.
		refused(`a\..\b`, "a;/../b", "a/..;/b"),
		// Queries and fragments.
		refused("x?version=1", "x?list=true", "x#f", "x&help=1"),
		// Confusables, folding, invisible characters.
		refused("a/\uff0e\uff0e/b", "a\u2215b", "a\u2044b", "\u2024\u2024/x", "\u0430/x", "\u00e9", "e\u0301", "\u202ex", "\u200bx", "\ufeffx",
			"\u00df", "\u1e9e", "\u212a", "\u017f", "\u0130"),
		// Not text at all: invalid UTF-8 and lone surrogates.
		{{json: "\"\xff\xfe\""}, {json: `"\ud800"`}, {json: `"\ufffd"`}},
		// White space.
		refused(" a/x", "a/x ", "a/ x", "a /x", "a\u00a0/x"),
		// Names that Vault's API has: ordinary below the own prefix.
		isolated("data/a/x", "metadata/a/x", "sys/mounts", "delete", "destroy/x", "config"),
		refused("a/data/../../metadata/x"),
		// Wildcards and templates.
		refused("a/*", "a/+/x", "a/**", "{{identity.entity.id}}", "{path}"),
		// Sizes.
		refused(strings.Repeat("s", 129), strings.Repeat("s", 4096), strings.Repeat("a/", 1000)+"a", strings.Repeat("a/", 32)+"a",
			strings.Repeat(strings.Repeat("s", 100)+"/", 6)+"x"),
		isolated(strings.Repeat("s", 128), strings.Repeat("a/", 31)+"a"),
	}
	var rows []hostilePath
	for _, g := range groups {
		rows = append(rows, g...)
	}
	return rows
}

// rawCall sends one tools/call whose params are given as bytes, and returns all
// that came back.
type rawCall func(t *testing.T, frame string) string

// rawSurfaces are the ways in on which a test can send any bytes.
func rawSurfaces(t *testing.T, env []string, key string) map[string]rawCall {
	t.Helper()
	p := startHTTP(t, env)
	post := func(path string, header map[string]string) rawCall {
		return func(t *testing.T, frame string) string {
			t.Helper()
			_, body := postRaw(t, p.url+path, key, frame, header)
			return body
		}
	}
	session := legacySession(t, p.url, key)
	return map[string]rawCall{
		"rpc":    post("/mcp/rpc", nil),
		"legacy": post("/mcp", map[string]string{"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-06-18"}),
		"modern": func(t *testing.T, frame string) string {
			t.Helper()
			name := "x"
			var parsed struct{ Params struct{ Name string } }
			if json.Unmarshal([]byte(frame), &parsed) == nil && parsed.Params.Name != "" {
				name = parsed.Params.Name
			}
			const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}},"name"`
			frame = strings.Replace(frame, `"name"`, meta, 1)
			_, body := postRaw(t, p.url+"/mcp", key, frame, map[string]string{
				"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": name,
			})
			return body
		},
		"stdio": rawStdio(t, env, key),
	}
}

func postRaw(t *testing.T, url, key, body string, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for name, value := range header {
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(answer)
}

func legacySession(t *testing.T, url, key string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/mcp", strings.NewReader(
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`))
	require.NoError(t, err)
	req.Header.Set("X-API-Key", key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	session := resp.Header.Get("Mcp-Session-Id")
	require.NotEmpty(t, session)
	_, _ = postRaw(t, url+"/mcp", key, `{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		map[string]string{"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-06-18"})
	return session
}

// rawStdio speaks lines with a stdio process of its own.
func rawStdio(t *testing.T, env []string, key string) rawCall {
	t.Helper()
	cmd := exec.Command(binary, "stdio")
	cmd.Env = append(env, "VAULT_MCP_API_KEY="+key)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		buf := make([]byte, 0, 1<<16)
		chunk := make([]byte, 1<<16)
		for {
			n, err := out.Read(chunk)
			buf = append(buf, chunk[:n]...)
			for {
				i := bytes.IndexByte(buf, '\n')
				if i < 0 {
					break
				}
				lines <- string(buf[:i])
				buf = buf[i+1:]
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	call := func(t *testing.T, frame string) string {
		t.Helper()
		_, err := io.WriteString(in, frame+"\n")
		require.NoError(t, err)
		select {
		case line, ok := <-lines:
			require.True(t, ok, "the session ended")
			return line
		case <-time.After(20 * time.Second):
			t.Fatal("no answer")
			return ""
		}
	}
	call(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"raw","version":"1"}}}`)
	_, err = io.WriteString(in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	require.NoError(t, err)
	return call
}

// trailReader reads what all chains of a state folder have grown by.
type trailReader struct {
	dir  string
	read map[string]int64
}

func readTrail(env []string) *trailReader {
	return &trailReader{filepath.Join(setting(env, "STATE_DIR"), "audit"), map[string]int64{}}
}

// more returns the records since the last time.
func (r *trailReader) more(t testing.TB) (records []audit.Record) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "*.jsonl"))
	require.NoError(t, err)
	for _, name := range files {
		f, err := os.Open(name)
		require.NoError(t, err)
		_, err = f.Seek(r.read[name], io.SeekStart)
		require.NoError(t, err)
		grown, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		whole := grown[:bytes.LastIndexByte(grown, '\n')+1]
		r.read[name] += int64(len(whole))
		for line := range bytes.Lines(whole) {
			rec, err := audit.Parse(line)
			require.NoError(t, err)
			records = append(records, rec)
		}
	}
	return records
}

// ends returns the records since the last time that end a request: the outcome
// of a call, or a rejection.
func (r *trailReader) ends(t testing.TB) (records []audit.Record) {
	t.Helper()
	for _, rec := range r.more(t) {
		if rec.Kind == audit.Outcome || rec.Kind == audit.Reject {
			records = append(records, rec)
		}
	}
	return records
}

func setting(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// TestHostilePaths sends every path of the corpus to every tool that takes a
// path, over every surface. What the grammar refuses never reaches Vault; what
// it takes reaches Vault below the caller's prefix only; each call leaves one
// record that ends it.
func TestHostilePaths(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	takers := map[string]string{
		"kv.read": "", "kv.metadata": "", "kv.delete": "", "kv.write": `,"data":{"a":"b"}`, "kv.patch": `,"data":{"a":"b"}`,
		"kv.undelete": `,"versions":[1]`, "kv.destroy": `,"versions":[1]`,
	}
	trail := readTrail(env)
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			for _, row := range hostilePaths() {
				for tool, more := range takers {
					seen.Reset()
					answer := call(t, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"path":`+row.json+more+`}}}`)
					require.Len(t, trail.ends(t), 1, "%s %s: records", tool, row.json)
					if row.isolated {
						for _, request := range seen.Requests() {
							require.Regexp(t, `^[A-Z]+ /v1/secret/(data|metadata|delete|undelete|destroy)/mcp/dev/`, request, row.json)
						}
						require.NotEmpty(t, seen.Requests(), "%s %s was refused: %s", tool, row.json, answer)
						continue
					}
					require.Empty(t, seen.Requests(), "%s %s reached Vault", tool, row.json)
					require.NotContains(t, answer, `"structuredContent"`, "%s %s", tool, row.json)
				}
			}
		})
	}
}

// TestTwoTenants lets each of two tenants, one of whose names begins with the
// other's, try the whole corpus against the other, on a Vault whose own policy
// check has a known hole (CVE-2026-3605), and looks at the victim afterwards.
func TestTwoTenants(t *testing.T) {
	const mark = "TENANT-CANARY-77f1"
	for attacker, victim := range map[string]string{devKey: "dev-bot", botKey: "dev"} {
		v := devstacktest.Fresh(t, devstacktest.Options{})
		ctx := context.Background()
		require.NoError(t, v.PutSecret(ctx, "mcp/"+victim+"/app/config", map[string]any{"mark": mark}))
		env := settings(t, v)
		targets := append(hostilePaths(), refused("../"+victim+"/app/config", "x/../../"+victim+"/app/config",
			"%2e%2e/"+victim+"/app/config", "..%2f"+victim+"%2fapp%2fconfig", "x/..//../"+victim+"/app/config")...)
		targets = append(targets, isolated(victim+"/app/config")...)
		for surface, call := range rawSurfaces(t, env, attacker) {
			for _, row := range targets {
				for tool, more := range map[string]string{
					"kv.read": "", "kv.metadata": "", "kv.delete": "", "kv.write": `,"data":{"mark":"taken"}`,
					"kv.destroy": `,"versions":[1]`,
				} {
					answer := call(t, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"path":`+row.json+more+`}}}`)
					require.NotContains(t, answer, mark, "%s %s %s", surface, tool, row.json)
				}
				answer := call(t, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv.list","arguments":{"prefix":`+row.json+`}}}`)
				require.NotContains(t, answer, `"config"`, "%s kv.list %s", surface, row.json)
			}
		}
		kept, err := v.GetSecret(ctx, "mcp/"+victim+"/app/config")
		require.NoError(t, err)
		require.Equal(t, mark, kept["mark"], "the victim's secret was changed")
	}
}
