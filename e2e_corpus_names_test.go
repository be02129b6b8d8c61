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

// hostileName is one row of the corpus of tools' names.
type hostileName struct {
	json string
	code string // what the caller is told; empty: the call is made
	rpc  int    // the JSON-RPC error's code; 0: a tool's own error
}

// hostileNames are names of tools: only the two spellings of a name in the
// catalogue are one, byte for byte.
func hostileNames() (rows []hostileName) {
	add := func(code string, rpc int, names ...string) {
		for _, name := range names {
			rows = append(rows, hostileName{quote(name), code, rpc})
		}
	}
	add("", 0, "kv.read", "kv_read")
	rows = append(rows, hostileName{`"kv\u002eread"`, "", 0}) // the same name, spelled otherwise in JSON
	add("forbidden", 0, "kv.destroy", "kv_destroy")           // in TOOLS_EXCLUDE
	add("not_found", -32602,
		// Nearly one.
		"KV.READ", "Kv.Read", "kv.READ", "kv.read ", " kv.read", "kv .read", "kv.read\t", "kv.read\n", "kv.read\u00a0",
		"kv/read", "kv-read", "kv:read", "kv..read", ".kv.read", "kv.read.", "kvread", "kv.", ".", "kv", "kv.*", "*", "read",
		"kv.read/", "/kv.read", "kv.read?x=1", "kv.read#x", "kv.read;x", "kv%2eread", "kv.read\\", "tools/kv.read", "mcp__vault__kv.read",
		"KV.DESTROY", "kv.destroy ", "kv/destroy",
		// None at all.
		"", " ", "nosuch", "sys.mounts", "tools/call", "rpc.discover", "__proto__", "constructor", "null", "undefined", "../kv.read", "{{name}}", "${name}",
		"kv.read, kv.list", `kv.read","arguments":{}`, "<script>", "=cmd|'/C calc'!A0", strings.Repeat("n", 256),
		// Control characters, and an escape of a terminal.
		"kv.read\x00", "\x00kv.read", "kv.\x00read", "kv.read\r\nX-Api-Key: y", "kv\x1b[2Jread", "kv.read\u007f", "kv.read\u0085",
		// Homoglyphs, folding, invisible characters, direction.
		"\u043av.read", "kv\uff0eread", "kv\u2024read", "kv\u00b7read", "\u212av.read", "kv.r\u0435ad", "kv\u200b.read", "\ufeffkv.read",
		"\u202ekv.read", "kv.re\u0301ad", "kv.read\ufffd", "\U0001F916",
		// The escape of a header, as a name.
		"=?base64?a3YucmVhZA==?=")
	add("invalid", -32602, strings.Repeat("n", 257), strings.Repeat("n", 10_000), "kv.read"+strings.Repeat(" ", 10_000))
	for _, name := range []string{`5`, `null`, `true`, `[]`, `["kv.read"]`, `{}`, `{"name":"kv.read"}`, `1e400`} {
		rows = append(rows, hostileName{name, "invalid", -32602})
	}
	for _, name := range []string{"\"kv.read\xff\"", `"kv.read\ud800"`, "\"kv.read\x00\"", `'kv.read'`, `kv.read`} {
		rows = append(rows, hostileName{name, "invalid", -32700})
	}
	return rows
}

// TestHostileNames calls tools by every name of the corpus, over every surface:
// what is no name is refused before Vault is asked, with one record, in which
// it does not stand, as it does not in the answer.
func TestHostileNames(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL, "TOOLS_EXCLUDE=kv.destroy")
	require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/x", map[string]any{"k": "v"}))
	trail := readTrail(env)
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			for _, row := range hostileNames() {
				about := short(row.json)
				seen.Reset()
				answer := call(t, toolCall(row.json, `{"path":"x"}`))
				got := judge(t, answer)
				record := trail.ended(t, got, about)
				if row.code == "" {
					require.Equal(t, "ok", got.code, about)
					require.Equal(t, "kv.read", record.Tool, "the trail has the canonical name")
					require.Equal(t, []string{"GET /v1/secret/data/mcp/dev/x?version=0"}, normalized(seen.Requests()), about)
					continue
				}
				if surface == "modern" && row.code == "not_found" && inBase64(row.json) {
					// The SDK holds the header against the name without decoding it.
					row.code, row.rpc = "invalid", mcp.CodeHeaderMismatch
				}
				require.Equal(t, row.code, got.code, "%s: %s", about, answer)
				require.Equal(t, row.rpc, got.rpc, about)
				require.Empty(t, seen.Requests(), "%s reached Vault", about)
				if row.code == "forbidden" {
					require.Equal(t, audit.Outcome, record.Kind)
					require.Equal(t, "kv.destroy", record.Tool)
					continue
				}
				require.Equal(t, audit.Reject, record.Kind)
				require.Empty(t, record.Tool, "the trail has names of the catalogue only")
				require.Less(t, len(answer), 600, "%s is repeated", about)
				requireNotSaid(t, row.json, answer)
			}
			require.Equal(t, "ok", judge(t, call(t, toolCall(`"kv.read"`, `{"path":"x"}`))).code, "the session goes on")
			trail.more(t)
		})
	}
	_, err := v.GetSecret(t.Context(), "mcp/dev/x")
	require.NoError(t, err, "something was destroyed")
}

// inBase64 reports whether a name, as JSON, needs base64 in a header.
func inBase64(name string) bool {
	var text string
	_ = json.Unmarshal([]byte(name), &text)
	return headerText(text) != text
}

// requireNotSaid asserts that an answer does not repeat a name, unless the name
// is so short that it may stand there by chance.
func requireNotSaid(t *testing.T, name, answer string) {
	t.Helper()
	var text string
	if json.Unmarshal([]byte(name), &text) != nil || len(text) < 5 {
		return
	}
	if strings.TrimSpace(text) == "null" {
		return
	}
	require.NotContains(t, answer, text)
	require.NotContains(t, answer, strings.Trim(quote(text), `"`))
}

// normalized are requests with the default version said.
func normalized(requests []string) []string {
	for i, r := range requests {
		if strings.HasPrefix(r, "GET /v1/secret/data/") && !strings.Contains(r, "?") {
			requests[i] = r + "?version=0"
		}
	}
	return requests
}

// TestOtherMethods sends what asks for something that this server does not
// have, with names from the corpus: refused, with one record, and not
// repeated.
func TestOtherMethods(t *testing.T) {
	v := devstacktest.Shared(t)
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	trail := readTrail(env)
	frames := map[string]string{}
	for _, method := range []string{
		"prompts/create", "completion/list", "sampling/createMessage", "elicitation/create", "TOOLS/CALL", "Tools/Call", "tools/Call", "tools/call/",
		"tools.call", "tools_call", "kv.read", "kv/read", "rpc.discover", "$/cancelRequest", "tools/delete", strings.Repeat("m", 256),
	} {
		frames[method] = `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":{` + metaHole + `"name":"kv.read","arguments":{"path":"x"}}}`
	}
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			for about, frame := range frames {
				answer := call(t, frame)
				got := judge(t, answer)
				require.Equal(t, "not_found", got.code, "%s: %s", short(about), answer)
				require.Equal(t, -32601, got.rpc, short(about))
				require.Equal(t, audit.Reject, trail.ended(t, got, short(about)).Kind)
				requireNotSaid(t, quote(about), answer)
			}
		})
	}
	for _, request := range seen.Requests() {
		require.Equal(t, "GET /v1/auth/token/lookup-self", request, "what the server asks for itself, when it starts")
	}
}
