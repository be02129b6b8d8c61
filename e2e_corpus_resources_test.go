package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// readFrame is a resources/read of a URI as it stands in JSON.
func readFrame(uri string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{` + metaHole + `"uri":` + uri + `}}`
}

// listFrame is a resources/list from a cursor on.
func listFrame(cursor string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"resources/list","params":{` + metaHole + `"cursor":` + quote(cursor) + `}}`
}

// hostileURIs are no URIs of resources, or of another's.
func hostileURIs() map[string]string {
	rows := map[string]string{
		"kv://dev-bot/app/config": "forbidden", "kv://dev-bot/": "forbidden", "kv://DEV/x": "forbidden", "kv://mcp/dev/x": "forbidden", "kv://dev%3D/x": "forbidden",
	}
	for _, uri := range []string{
		"vault://secret/agents/a/%2e%2e/b", "vault://user@secret/..", "VAULT://", "VAULT://x", "vault:secret", "file:///etc/passwd", "vault://secret:80/x",
		"http://169.254.169.254/", "kv:any", "kv:dev/x", "kv:/dev/x", "KV://dev/x", "kv://", "kv:///x", "kv://dev", "kv://dev:80/x", "kv://u:p@dev/x", "kv://dev@/../x",
		"kv://dev/../dev-bot/x", "kv://dev/%2e%2e/dev-bot/x", "kv://dev%2f..%2fdev-bot/x", "kv://../x", "kv://./x", "kv://dev/x?version=1&list=true", "kv://dev/x?version=0",
		"kv://dev/x?version=-1", "kv://dev/x?version=1e3", "kv://dev/x?version=+5", "kv://dev/x?version=\u0663", "kv://dev/x#f", "kv://dev/?version=1", "kv://{subject}/{+path}{?version}",
		"kv://dev/app%2Fconfig", " kv://dev/x", "kv://dev/x\n", "kv://d\u0435v/x",
	} {
		rows[uri] = "invalid"
	}
	return rows
}

// TestHostileResources reads every path of the corpus, and every hostile URI, as a
// resource, over every surface: refused before Vault is asked, with one record and
// nothing repeated; or one request below the caller's prefix.
func TestHostileResources(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	trail := readTrail(env)
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			absent := -32002
			if surface == "modern" {
				absent = -32602
			}
			for uri, code := range hostileURIs() {
				seen.Reset()
				answer := call(t, readFrame(quote(uri)))
				requireRefusedURI(t, trail, judge(t, answer), code, uri)
				require.Empty(t, seen.Requests(), "%q reached Vault", uri)
				if uri != "kv://" { // with which the URI that is wanted begins
					requireNotSaid(t, quote(uri), answer)
				}
			}
			for _, row := range hostilePaths() {
				about := short(row.json)
				uri := `"kv://dev/` + row.json[1:]
				seen.Reset()
				got := judge(t, call(t, readFrame(uri)))
				path, versioned := strings.CutSuffix(row.json, `?version=1"`)
				switch {
				case versioned: // in a URI it is no part of the path
					require.Equal(t, []string{"GET /v1/secret/data/mcp/dev/" + path[1:] + "?version=1"}, seen.Requests(), about)
				case row.isolated:
					require.Regexp(t, requestLine(t, asked["kv.read"], row.json), strings.Join(seen.Requests(), "\n"), about)
				case row.folder:
					require.Regexp(t, requestLine(t, asked["kv.list"], row.json), strings.Join(seen.Requests(), "\n"), about)
					require.Equal(t, "ok", got.code, about)
					trail.more(t)
					continue
				default:
					require.Empty(t, seen.Requests(), "%s reached Vault", about)
					requireRefusedURI(t, trail, got, "invalid", about)
					continue
				}
				require.Equal(t, verdict{code: "not_found", rpc: absent, id: got.id}, got, about)
				record := trail.ended(t, got, about)
				require.Equal(t, []string{"kv.read", "dev"}, []string{record.Tool, record.Subject}, about)
			}
		})
	}
}

// requireRefusedURI wants a refusal of a URI with its one record: by the tool, or
// by what stands before it.
func requireRefusedURI(t *testing.T, trail *trailReader, got verdict, code, about string) {
	t.Helper()
	record := trail.ended(t, got, about)
	if got.rpc == mcp.CodeHeaderMismatch || got.rpc == -32700 || record.Kind == audit.Reject {
		require.Equal(t, "invalid", got.code, about)
		require.Equal(t, audit.Reject, record.Kind, about)
		return
	}
	require.Equal(t, code, got.code, about)
	require.Contains(t, []string{"kv.read", "kv.list"}, record.Tool, about)
	if code == "invalid" {
		require.Equal(t, -32602, got.rpc, about)
	}
}

// TestResourcesEndToEnd lists and reads on a real Vault, over every surface.
func TestResourcesEndToEnd(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	env := settings(t, v)
	for _, path := range []string{"app/config", "app/db", "top", "other tenant/x"} {
		require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/"+path, map[string]any{"at": path}))
	}
	require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/top", map[string]any{"at": "second"}))
	require.NoError(t, v.PutSecret(t.Context(), "mcp/dev-bot/crown", map[string]any{"at": "bot"}))
	type result struct {
		Resources []struct{ URI, Name string }
		Next      string `json:"nextCursor"`
		Contents  []struct{ URI, MimeType, Text string }
	}
	read := func(t *testing.T, answer string) (r result) {
		t.Helper()
		var m struct{ Result *result }
		for line := range strings.Lines(answer) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				answer = data
			}
		}
		require.NoError(t, json.Unmarshal([]byte(answer), &m), answer)
		require.NotNil(t, m.Result, answer)
		return *m.Result
	}
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			var uris []string
			for _, r := range read(t, call(t, listFrame(""))).Resources {
				uris = append(uris, r.URI)
				contents := read(t, call(t, readFrame(quote(r.URI)))).Contents
				require.Len(t, contents, 1)
				require.Equal(t, r.URI, contents[0].URI)
				require.Equal(t, "application/json", contents[0].MimeType)
			}
			require.Equal(t, []string{"kv://dev/app/config", "kv://dev/app/db", "kv://dev/top"}, uris)
			require.Contains(t, read(t, call(t, readFrame(`"kv://dev/top"`))).Contents[0].Text, "second")
			require.NotContains(t, read(t, call(t, readFrame(`"kv://dev/top?version=1"`))).Contents[0].Text, "second")
			require.JSONEq(t, `{"keys":["config","db"]}`, read(t, call(t, readFrame(`"kv://dev/app/"`))).Contents[0].Text)
			require.Equal(t, "not_found", judge(t, call(t, readFrame(`"kv://dev/top?version=9"`))).code)
		})
	}
}
