package main_test

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// hostilePath is one row of the corpus of paths: its group there, how it stands
// in JSON, and whether the grammar refuses it or takes it as an ordinary name
// that stays below the caller's own prefix.
type hostilePath struct {
	group    int
	json     string // with its quotes
	isolated bool   // taken as a secret's path
	folder   bool   // taken as a folder only: empty, or with a slash at its end
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

func folders(paths ...string) (rows []hostilePath) {
	for _, p := range paths {
		rows = append(rows, hostilePath{json: quote(p), folder: true})
	}
	return rows
}

// hostilePaths are the paths of the project's bad-input corpus, group by group.
// Paths are relative to the caller's prefix, so what the corpus calls agents/a/x
// is an ordinary name here, and the way out of the prefix begins with dots.
func hostilePaths() (rows []hostilePath) {
	long := strings.Repeat("s", 128)
	full := strings.Repeat(long[:127]+"/", 3) + long // 512 bytes
	for _, g := range []struct {
		group int
		rows  [][]hostilePath
	}{
		{1, [][]hostilePath{ // dot segments, which the stock Vault client resolves by itself
			refused("../dev-bot/app", "a/../../dev-bot/app", "agents/a/../b/x", "agents/a/..", "a/..", "..", ".", "a/./x", "agents/./a/x"),
			isolated("...", "..a", "a..b/.x"), // names with dots, and nothing else
		}},
		{2, [][]hostilePath{ // out of the mount and of the API
			refused("../../../sys/mounts", "a/../../../metadata/mcp/dev-bot/app", "a/../../../../auth/token/create", "agents/a/../../../metadata/b"),
			isolated("sys/mounts", "auth/token/create"),
		}},
		{3, [][]hostilePath{ // encodings, double and overlong: as text in JSON they hold a percent sign
			refused("%2e%2e", "%2e%2e/x", "%2E%2e", "..%2f", "..%2fdev-bot", "%2e%2e%2f", "%2e%2e%2fdev-bot", "%252e%252e", "..%252f",
				"%c0%ae%c0%ae", "%u002e", "a%2fb", "a+b"),
		}},
		{4, [][]hostilePath{ // empty segments and slashes at the ends
			refused("a//x", "//a/x", "/a/x", "/", "//", "a//", "/mcp/dev-bot/app"),
			folders("", "a/", "a/x/"),
		}},
		{5, [][]hostilePath{ // neighbours by name: below the own prefix they are ordinary
			isolated("dev-bot/app/config", "dev-bot", "mcp/dev-bot/app/config", "-evil/x", "A/x", "agents/ab/x", "agents/a", "agents/a-evil/x", "agents/A/x"),
		}},
		{6, [][]hostilePath{ // control characters and header injection
			refused("agents/a/x\x00", "x\u0000", "x%00", "x\n", "x\r\nX-Vault-Token: y", "x\t", "x\u007f", "x\u0085", "x\u001b[2J"),
		}},
		{7, [][]hostilePath{ // backslashes and matrix parameters
			refused(`a\..\b`, `agents\a\..\b`, "a;/../b", "agents/a/..;/b", "a/..;/b", "a;x=1"),
		}},
		{8, [][]hostilePath{ // queries and fragments
			refused("x?version=1", "agents/a/x?version=1", "x?list=true", "x#f", "x&help=1", "x?"),
		}},
		{9, [][]hostilePath{ // confusables, folding, invisible characters
			refused("a/\uff0e\uff0e/b", "a\u2215b", "a\u2044b", "\u2024\u2024/x", "\u0430/x", "\u00e9", "e\u0301", "\u202ex", "\u200bx", "\ufeffx",
				"\u00df", "\u1e9e", "\u212a", "\u017f", "\u0130"),
		}},
		{10, [][]hostilePath{ // not text at all: invalid UTF-8 and lone surrogates
			{{json: "\"\xff\xfe\""}, {json: `"\ud800"`}, {json: `"\udc00\ud800"`}, {json: `"\ufffd"`}},
		}},
		{11, [][]hostilePath{ // white space
			refused(" agents/a/x", " a/x", "a/x ", "a/ x", "a /x", "a\u00a0/x", " "),
		}},
		{12, [][]hostilePath{ // names that Vault's API has: ordinary below the own prefix
			isolated("data/a/x", "metadata/a/x", "data/agents/a/x", "metadata/agents/a/x", "delete", "destroy/x", "config"),
			refused("a/data/../../metadata/x"),
		}},
		{13, [][]hostilePath{ // wildcards and templates
			refused("a/*", "a/+/x", "a/**", "{{identity.entity.id}}", "{path}", "*", "$x"),
		}},
		{14, [][]hostilePath{ // sizes
			refused(strings.Repeat("s", 129), strings.Repeat("s", 4096), strings.Repeat("s", 64<<10), strings.Repeat("a/", 9_999)+"a",
				strings.Repeat("a/", 1000), strings.Repeat("a/", 1000)+"a", strings.Repeat("a/", 32)+"a", full+"s", full[1:]+"/x"),
			folders(full + "/"),
			isolated(long, strings.Repeat("a/", 31)+"a", full),
		}},
	} {
		for _, of := range g.rows {
			for _, row := range of {
				row.group = g.group
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// asked is the one request that a tool makes of Vault, before the path.
var asked = map[string]string{
	"kv.read": "GET data", "kv.metadata": "GET metadata", "kv.delete": "DELETE data", "kv.write": "POST data", "kv.patch": "PATCH data",
	"kv.undelete": "POST undelete", "kv.destroy": "POST destroy", "kv.list": "LIST metadata",
}

// pathArguments are a tool's arguments with a path in them.
func pathArguments(tool, path string) string {
	switch tool {
	case "kv.list":
		return `{"prefix":` + path + `}`
	case "kv.write", "kv.patch":
		return `{"path":` + path + `,"data":{"a":"b"}}`
	case "kv.undelete", "kv.destroy":
		return `{"path":` + path + `,"versions":[1]}`
	}
	return `{"path":` + path + `}`
}

// TestHostilePaths sends every path of the corpus to every tool that takes a
// path, over every surface. What the grammar refuses never reaches Vault; what
// it takes reaches Vault as one request below the caller's prefix, byte for
// byte; each call leaves one record that ends it.
func TestHostilePaths(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	trail := readTrail(env)
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			for _, row := range hostilePaths() {
				for tool, request := range asked {
					about := tool + " " + short(row.json)
					seen.Reset()
					got := judge(t, call(t, toolCall(quote(tool), pathArguments(tool, row.json))))
					record := trail.ended(t, got, about)
					if !row.isolated && (!row.folder || tool != "kv.list") {
						require.Equal(t, "invalid", got.code, about)
						require.Empty(t, seen.Requests(), "%s reached Vault", about)
						continue
					}
					require.Regexp(t, requestLine(t, request, row.json), strings.Join(seen.Requests(), "\n"), about)
					require.Equal(t, "dev", record.Subject)
					require.Contains(t, []string{"ok", "not_found"}, got.code, about)
				}
			}
		})
	}
}

// requestLine is what must reach Vault for a path that is taken: every byte of
// the grammar stands for itself in a URL.
func requestLine(t *testing.T, request, path string) string {
	t.Helper()
	var text string
	require.NoError(t, json.Unmarshal([]byte(path), &text))
	method, kind, _ := strings.Cut(request, " ")
	below := strings.TrimSuffix("mcp/dev/"+text, "/")
	return "^" + method + " /v1/secret/" + kind + "/" + regexp.QuoteMeta(below) + `(\?version=0)?$`
}

// TestTwoTenants lets each of two tenants, one of whose names begins with the
// other's, try the whole corpus against the other, on a Vault whose own policy
// check has a known hole (CVE-2026-3605), and looks at the victim afterwards.
func TestTwoTenants(t *testing.T) {
	const mark, leaf = "TENANT-CANARY-77f1", "crown-77f1"
	for attacker, names := range map[string][]string{devKey: {"dev", "dev-bot"}, botKey: {"dev-bot", "dev"}} {
		v := devstacktest.Fresh(t, devstacktest.Options{})
		victim := names[1]
		require.NoError(t, v.PutSecret(t.Context(), "mcp/"+victim+"/app/"+leaf, map[string]any{"mark": mark}))
		env := settings(t, v)
		at := victim + "/app/" + leaf
		targets := append(hostilePaths(), refused("../"+at, "x/../../"+at, "x/../../../mcp/"+at, "%2e%2e/"+at, "%2e%2e%2f"+at,
			"..%2f"+strings.ReplaceAll(at, "/", "%2f"), "x/..//../"+at, "../"+victim, "../"+victim+"/app", "./../"+at)...)
		targets = append(targets, isolated(at, "mcp/"+at, "data/mcp/"+at)...)
		targets = append(targets, folders("../"+victim+"/app/", victim+"/")...) // refused, and the own folder of that name
		for surface, call := range rawSurfaces(t, env, attacker) {
			for _, row := range targets {
				for tool := range asked {
					about := surface + " " + tool + " " + short(row.json)
					answer := call(t, toolCall(quote(tool), pathArguments(tool, row.json)))
					require.NotContains(t, answer, mark, about)
					require.NotContains(t, answer, leaf, about)
				}
			}
		}
		unharmed(t, v, victim, leaf, mark)
		require.ElementsMatch(t, []string{"dev/", "dev-bot/"}, children(t, v, "mcp"), "the attacker wrote beside its prefix")
		require.Equal(t, []string{"mcp/"}, children(t, v, ""))
	}
}

// unharmed looks at a victim's one secret past the server: as it was written,
// once, and nothing beside it.
func unharmed(t *testing.T, v *devstack.Vault, victim, leaf, mark string) {
	t.Helper()
	kept, err := v.GetSecret(t.Context(), "mcp/"+victim+"/app/"+leaf)
	require.NoError(t, err, "the victim's secret is gone")
	require.Equal(t, map[string]any{"mark": mark}, kept)
	var meta struct {
		Data struct {
			CurrentVersion int `json:"current_version"`
			Versions       map[string]any
		}
	}
	require.NoError(t, v.Request(t.Context(), "GET", "secret/metadata/mcp/"+victim+"/app/"+leaf, nil, &meta))
	require.Equal(t, 1, meta.Data.CurrentVersion)
	require.Len(t, meta.Data.Versions, 1)
	require.Equal(t, []string{"app/"}, children(t, v, "mcp/"+victim))
	require.Equal(t, []string{leaf}, children(t, v, "mcp/"+victim+"/app"))
}

// children lists a folder of the KV engine past the server.
func children(t *testing.T, v *devstack.Vault, folder string) []string {
	t.Helper()
	var list struct{ Data struct{ Keys []string } }
	require.NoError(t, v.Request(context.Background(), "LIST", "secret/metadata/"+folder, nil, &list))
	slices.Sort(list.Data.Keys)
	return list.Data.Keys
}
