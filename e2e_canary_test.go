package main_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/tools"
)

// TestCanary sends marked values through every tool of the catalogue, over every
// surface, in calls that succeed and calls that fail, in frames that never
// become a call, and in headers; and then searches all that the product wrote:
// errors, heads of answers, logs, trail, state, stderr. A new tool is covered
// without a new line here.
func TestCanary(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	sshRoles(t, v)
	seedTransit(t, v)
	logs := t.TempDir()
	env := settings(t, v, append(kmsOn(t, devstacktest.KMS(t)), "LOG_DIR="+logs)...)
	p := startHTTP(t, env)
	stdio := openRawStdio(t, env, devKey)
	surfaces := rawHTTP(t, p.url, devKey)
	surfaces["stdio"] = stdio.call
	var issued []string // by Vault and KMS: what they made, no mark can stand in

	for surface, call := range surfaces {
		refusals, successes := 0, 0
		for _, tool := range tools.NewCatalog().Tools() {
			for _, args := range markedArguments(t, tool) {
				text, err := json.Marshal(args)
				require.NoError(t, err)
				answer := call(t, toolCall(quote(tool.Name), string(text)))
				if judge(t, answer).code == "ok" {
					successes++ // where a caller may see what it or another has put there
					continue
				}
				refusals++
				requireNoMark(t, answer, surface+" "+tool.Name)
			}
		}
		// The one place where it may stand.
		wrote := judge(t, call(t, toolCall(`"kv.write"`, `{"path":"app/db","data":{"password":"`+canary+`","`+canary+`":"x"}}`)))
		require.Equal(t, "ok", wrote.code)
		requireNoMark(t, string(wrote.content), "the answer to a write")
		require.Contains(t, call(t, toolCall(`"kv.read"`, `{"path":"app/db"}`)), canary)
		require.Contains(t, call(t, readFrame(`"kv://dev/app/db"`)), canary)
		requireNoMark(t, call(t, listFrame("")), "the names of secrets")
		issued = append(issued, issuedByTransit(t, call)...)
		issued = append(issued, issuedBySSH(t, call)...)
		issued = append(issued, issuedByKMS(t, call)...)
		require.Greater(t, refusals, 60, "too few calls failed for this test to mean anything")
		require.Greater(t, successes, 8, "too few calls succeeded")

		for _, frame := range append(markedFrames(), markedPrompts()...) {
			requireNoMark(t, call(t, frame), surface+" "+short(frame))
		}
	}
	markedRequests(t, p.url)

	stdio.stop()
	p.stop(t)
	for _, said := range []string{p.stderr(), stdio.said.String()} {
		require.Contains(t, said, `"outcome":"invalid"`, "calls are logged")
		require.Contains(t, said, `"rejected"`, "and what is no call")
		requireNoMark(t, said, "stderr")
	}
	require.NotZero(t, requireNoMarkBelow(t, logs), "there is no log to search")
	require.NotZero(t, requireNoMarkBelow(t, setting(env, "STATE_DIR")), "there is no trail to search")
	for _, value := range issued {
		require.NotContains(t, p.stderr()+stdio.said.String(), value)
		requireNowhereBelow(t, logs, value)
		requireNowhereBelow(t, setting(env, "STATE_DIR"), value)
	}
}

// markedArguments are arguments for a tool, each set with the mark in one place
// where it does not belong: as each argument's value in each JSON type, as an
// unknown argument's name and value, inside lists and objects.
func markedArguments(t *testing.T, tool *tools.Tool) []obj {
	t.Helper()
	var schema struct {
		Properties map[string]struct {
			Type string
			Enum []string
		}
	}
	require.NoError(t, json.Unmarshal(tool.InputSchema, &schema))
	base := obj{}
	for name, p := range schema.Properties {
		switch {
		case strings.HasPrefix(tool.Name, "kms.") && markedKMS[name] != nil:
			base[name] = markedKMS[name]
		case name == "encoding":
			base[name] = "utf8"
		case len(p.Enum) > 0:
			base[name] = p.Enum[0]
		case name == "key", name == "role":
			base[name] = "dev"
		case name == "ciphertext", name == "signature":
			base[name] = "vault:v1:AAAA"
		case name == "context", name == "associated_data":
			base[name] = "YQ=="
		}
		if base[name] != nil {
			continue
		}
		switch p.Type {
		case "string":
			base[name] = "app/db"
		case "integer":
			base[name] = 1
		case "object":
			base[name] = obj{"k": "v"}
		case "array":
			base[name] = []int{1}
		}
	}
	if base["signing_algorithm"] != nil {
		base["key_id"] = devstack.AliasRSA
	}
	delete(base, "wrap_ttl")
	delete(base, "number_of_bytes") // forbidden beside key_spec
	delete(base, "cas")             // would make every write after the first a conflict
	with := func(name string, value any) obj {
		o := maps.Clone(base)
		o[name] = value
		return o
	}
	sets := []obj{base, with(canary, 1), with("unknown", canary), with(canary, canary)}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		for _, value := range []any{
			canary + "/../x", canary + " ", canary + "\n\"\\\u00e9", canary,
			obj{canary: canary},
			[]string{canary},
			obj{"n": json.Number("1e400"), canary: 1},
			obj{canary: json.Number("12345678901234567890")},
		} {
			if value == canary && slices.Contains([]string{"path", "prefix", "key", "role"}, name) {
				continue // a path or name that the grammar takes stands in the trail in clear, by design
			}
			sets = append(sets, with(name, value))
		}
	}
	return sets
}

// markedFrames are messages that never become a call, with the mark in each
// place where a decoder might pick it up, and each in a form of its own.
func markedFrames() []string {
	call := func(params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{` + metaHole + params + `}}`
	}
	frames := []string{
		call(`"name":5,"arguments":{"path":"CANARY"}`),
		call(`"name":"CANARY","arguments":{}`),
		call(`"name":"kv.read CANARY","arguments":{}`),
		call(`"name":"kv.read\u0000CANARY\u2028","arguments":{}`),
		call(`"name":"` + strings.Repeat("CANARY", 100) + `","arguments":{}`),
		call(`"name":["CANARY"],"arguments":{}`),
		call(`"name":"CANARY\ud800","arguments":{}`),
		call(`"name":"kv.read","arguments":"CANARY"`),
		call(`"name":"kv.read","arguments":{"path":"a","CANARY":1,"CANARY":2}`),
		call(`"name":"kv.read","name":"CANARY","arguments":{}`),
		call(`"name":"kv.read","Name":"CANARY","arguments":{}`),
		call(`"name":"kv.read","arguments":{"path":"CANARY/.."},"task":{"CANARY":1}`),
		call(`"name":"kv.read","arguments":{"path":"../x"},"requestState":["CANARY"]`),
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"CANARY"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"../x"},"_meta":{"progressToken":["CANARY"]}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"../x"},"_meta":["CANARY"]}}`,
		`{"jsonrpc":"2.0","id":1,"method":"CANARY","params":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/CANARY","params":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":["CANARY"]}`,
		`{"jsonrpc":"CANARY","id":1,"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":{"x":"CANARY"},"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","CANARY":1}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"CANARY"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + metaHole + `"cursor":"CANARY"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"CANARY"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":["CANARY"],"clientInfo":{"name":"CANARY"}}}`,
		`[{"jsonrpc":"2.0","id":1,"method":"CANARY"}]`,
		`CANARY`, `{"CANARY`, `"CANARY"`, "{\"CANARY\xff\":1}", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}CANARY`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{` + metaHole + `"uri":"kv://CANARY/x"}}`,
		readFrame(`"kv://dev/CANARY/../x"`), readFrame(`"CANARY"`), readFrame(`"kv://dev/x?version=CANARY"`), listFrame("CANARY"),
		`{"jsonrpc":"2.0","id":1,"method":"resources/templates/list","params":{` + metaHole + `"cursor":"CANARY"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{` + metaHole + `"name":"CANARY"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{` + metaHole + `"ref":{"name":"CANARY"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"prompts/list","params":{` + metaHole + `"cursor":"CANARY"}}`,
		strings.Repeat(`{"CANARY":`, 300) + `1` + strings.Repeat(`}`, 300),
	}
	for i := range frames {
		frames[i] = strings.ReplaceAll(frames[i], "CANARY", canary)
	}
	return frames
}

// markedRequests put the mark into each header that the server or its SDK
// reads, and into targets; nothing of the answer has it.
func markedRequests(t *testing.T, url string) {
	t.Helper()
	list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	named := strings.ReplaceAll(toolCall(`"kv.list"`, `{}`), metaHole, modernMeta)
	modern := func(name, value string) map[string]string {
		header := modernHeaders(named)
		header[name] = value
		return header
	}
	token := "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ" + canary + "In0." + canary
	for _, row := range []struct {
		path, key, body string
		header          map[string]string
	}{
		{"/mcp", canary, list, nil},
		{"/mcp/rpc", "vmcp_0123456789ab_" + canary, list, nil},
		{"/mcp/rpc", strings.Repeat(canary, 20), list, nil},
		{"/mcp", "", list, map[string]string{"Authorization": "Bearer " + canary}},
		{"/mcp/rpc", "", list, map[string]string{"Authorization": "Bearer " + token}},
		{"/mcp/rpc", "", list, map[string]string{"Authorization": "Basic " + canary}},
		{"/mcp/rpc", "", list, map[string]string{"Authorization": canary}},
		{"/mcp/rpc", devKey, list, map[string]string{"Authorization": "Bearer " + canary}},
		{"/mcp?token=" + canary, "", list, nil},
		{"/mcp/rpc?api_key=" + canary, devKey, list, nil},
		{"/" + canary, devKey, list, nil},
		{"/mcp/" + canary + "%0a", devKey, list, nil},
		{"/healthz/" + canary, devKey, list, nil},
		{"/mcp", devKey, list, map[string]string{"Mcp-Session-Id": canary}},
		{"/mcp", devKey, list, map[string]string{"MCP-Protocol-Version": canary}},
		{"/mcp", devKey, list, map[string]string{"MCP-Protocol-Version": "3000-" + canary, "Mcp-Session-Id": canary}},
		{"/mcp", devKey, named, modern("Mcp-Name", canary)},
		{"/mcp", devKey, named, modern("Mcp-Name", headerText(canary+"\n"))},
		{"/mcp", devKey, named, modern("Mcp-Name", "=?base64?"+canary+"!?=")},
		{"/mcp", devKey, named, modern("Mcp-Method", canary)},
		{"/mcp", devKey, named, modern("Mcp-Param-Path", canary)},
		{"/mcp", devKey, named, modern("MCP-Protocol-Version", "2026-07-28-"+canary)},
		{"/mcp", devKey, strings.ReplaceAll(named, "2026-07-28", canary), modern("MCP-Protocol-Version", canary)},
		{"/mcp", devKey, list, map[string]string{"Origin": "https://" + canary + ".example"}},
		{"/mcp", devKey, list, map[string]string{"Origin": canary}},
		{"/mcp", devKey, list, map[string]string{"Host": canary + ".example"}},
		{"/mcp", devKey, list, map[string]string{"Content-Type": "application/" + canary}},
		{"/mcp", devKey, list, map[string]string{"Content-Type": `application/json; charset="` + canary + `"`}},
		{"/mcp", devKey, list, map[string]string{"Content-Encoding": canary}},
		{"/mcp", devKey, list, map[string]string{"Accept": canary + "/x"}},
		{"/mcp/rpc", devKey, list, map[string]string{
			"User-Agent": canary, "Referer": canary, "Cookie": "a=" + canary, "X-Request-Id": canary, "X-Forwarded-For": canary, "Traceparent": canary,
			"Last-Event-Id": canary, "X-Vault-Token": canary, "X-Vault-Namespace": canary, "Sec-Fetch-Site": "none", "Accept-Language": canary,
		}},
	} {
		r := exchange(t, url+row.path, row.key, row.body, row.header)
		requireNoMark(t, r.all(), row.path+" "+row.body[:20]+" "+quote(strings.Join(slices.Collect(maps.Keys(row.header)), " ")))
	}
}

// TestCanarySettings: the product's own secrets, and settings with mistakes in
// them, are not repeated either: not when Vault refuses the token, nor when
// nothing starts.
func TestCanarySettings(t *testing.T) {
	v := devstacktest.Shared(t)
	logs := t.TempDir()
	env := settings(t, v, append(kmsOn(t, devstacktest.KMS(t)), "VAULT_TOKEN="+canary, "LOG_DIR="+logs, `API_KEYS_JSON={"key-`+canary+`":"dev"}`,
		"AWS_ACCESS_KEY_ID="+canary, "AWS_SECRET_ACCESS_KEY="+canary, "AWS_SESSION_TOKEN="+canary)...)
	stdio := openRawStdio(t, env, "key-"+canary)
	for _, tool := range tools.NewCatalog().Tools() {
		requireNoMark(t, stdio.call(t, toolCall(quote(tool.Name), `{"path":"a"}`)), tool.Name)
	}
	require.Equal(t, "ok", judge(t, stdio.call(t, toolCall(`"whoami"`, `{}`))).code)
	require.NotEqual(t, "ok", judge(t, stdio.call(t, toolCall(`"kv.read"`, `{"path":"a"}`))).code, "Vault takes the token")
	sealed := stdio.call(t, toolCall(`"kms.encrypt"`, `{"plaintext":"YQ=="}`))
	require.Equal(t, "ok", judge(t, sealed).code, "the credentials were not used")
	requireNoMark(t, sealed, "the answer to kms.encrypt")
	stdio.stop()
	requireNoMark(t, stdio.said.String(), "stderr")
	require.NotZero(t, requireNoMarkBelow(t, logs))
	require.NotZero(t, requireNoMarkBelow(t, setting(env, "STATE_DIR")))

	for _, command := range [][]string{{"config", "show"}, {"config", "check"}, {"doctor"}, {"doctor", "--json"}} {
		_, out, said := run(t, env, "", command...)
		requireNoMark(t, out+said, strings.Join(command, " "))
	}
	for _, mistake := range []string{
		"VAULT_MCP_API_KEY=" + canary, "VAULT_TOKEN=" + canary + "\n", "API_KEYS_JSON=" + canary, `API_KEYS_JSON={"` + canary + `":5}`,
		`API_KEYS_JSON={"c":"` + canary + `"}`, `API_KEYS_JSON={"` + canary + `":"a","` + canary + `":"b"}`, "AUDIT_HMAC_KEY=" + canary, "SEAL_KEY=" + canary,
		"AWS_SECRET_ACCESS_KEY=" + canary + "\n", "AWS_SESSION_TOKEN=" + canary + "\n", "AWS_KMS_ENDPOINT=https://u:" + canary + "@kms.example",
	} {
		name, _, _ := strings.Cut(mistake, "=")
		ok, out, said := run(t, settings(t, v, mistake), "", "stdio")
		requireNoMark(t, out+said, name)
		require.False(t, ok, "%s: %s", name, said)
	}
}
