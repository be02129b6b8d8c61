package main_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/tools"
)

// canary marks every value that a caller sends and that must come back, if at
// all, only in the result of a call that succeeded.
const canary = "CANARY-d41d8cd98f"

// TestCanary sends marked values through every tool of the catalogue, in calls
// that succeed and calls that fail, and in frames that never become a call, and
// then searches all that the server wrote: errors, logs, trail, state, stderr.
// A new tool is covered without a new line here.
func TestCanary(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	logs := t.TempDir()
	env := settings(t, v, "LOG_DIR="+logs)
	p := startHTTP(t, env)
	session := connect(t, httpTransport(p.url, devKey), "2026-07-28")
	call := callThrough(session)

	good := call(t, "kv.write", obj{"path": "app/db", "data": obj{"password": canary}})
	require.False(t, good.failed, good.body)
	read := call(t, "kv.read", obj{"path": "app/db"})
	require.Equal(t, canary, dig(read.body, "data.password"), "the one place where it may stand")

	var answers []string
	for _, tool := range tools.NewCatalog().Tools() {
		for _, args := range markedArguments(t, tool) {
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool.Name, Arguments: args})
			switch {
			case err != nil: // refused before it became a call
				answers = append(answers, err.Error())
			case res.IsError:
				answers = append(answers, res.Content[0].(*mcp.TextContent).Text)
			}
		}
	}
	answers = append(answers, brokenFrames(t, p.url, rawStdio(t, env, devKey))...)
	for _, answer := range answers {
		require.NotContains(t, answer, canary)
	}
	require.Greater(t, len(answers), 40, "too few calls failed for this test to mean anything")

	p.stop(t)
	require.NotContains(t, p.stderr(), canary)
	require.Contains(t, p.stderr(), `"outcome":"invalid"`, "calls are logged")
	searched := searchFiles(t, logs) + searchFiles(t, setting(env, "STATE_DIR"))
	require.Greater(t, searched, 1, "there is a log and a trail to search")
}

// markedArguments are arguments for a tool, each set with the mark in one place
// where it does not belong: as each argument's value in each JSON type, as an
// unknown argument's name and value, inside lists and objects.
func markedArguments(t *testing.T, tool *tools.Tool) []obj {
	t.Helper()
	var schema struct {
		Properties map[string]struct{ Type string }
	}
	require.NoError(t, json.Unmarshal(tool.InputSchema, &schema))
	base := obj{}
	for name, p := range schema.Properties {
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
	delete(base, "wrap_ttl")
	with := func(name string, value any) obj {
		o := obj{}
		for k, v := range base {
			o[k] = v
		}
		o[name] = value
		return o
	}
	sets := []obj{with(canary, 1), with("unknown", canary), with(canary, canary)}
	for name := range schema.Properties {
		for _, value := range []any{
			canary + "/../x", canary + " ", canary,
			obj{canary: canary},
			[]string{canary},
			obj{"n": json.Number("1e400"), canary: 1},
			obj{canary: json.Number("12345678901234567890")},
		} {
			if value == canary && (name == "path" || name == "prefix") {
				continue // a path that the grammar takes stands in the trail in clear, by design
			}
			sets = append(sets, with(name, value))
		}
	}
	return sets
}

// brokenFrames sends marked frames that never become a call.
func brokenFrames(t *testing.T, url string, stdio rawCall) []string {
	t.Helper()
	frames := []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5,"arguments":{"path":"CANARY"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"CANARY","arguments":{}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":"CANARY"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","name":"CANARY","arguments":{}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"CANARY"}`,
		`{"jsonrpc":"2.0","id":1,"method":"CANARY","params":{}}`,
		`{"jsonrpc":"CANARY","id":1,"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":{"x":"CANARY"},"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","CANARY":1}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"CANARY"}`,
		`[{"jsonrpc":"2.0","id":1,"method":"CANARY"}]`,
		`CANARY`, `{"CANARY`, `"CANARY"`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"kv://CANARY/x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"CANARY"}}`,
	}
	var answers []string
	for _, frame := range frames {
		frame = strings.ReplaceAll(frame, "CANARY", canary)
		answers = append(answers, stdio(t, frame))
		for _, path := range []string{"/mcp", "/mcp/rpc"} {
			_, body := postRaw(t, url+path, devKey, frame, nil)
			answers = append(answers, body)
		}
	}
	_, body := postRaw(t, url+"/mcp", canary, `{}`, nil)
	answers = append(answers, body)
	_, body = postRaw(t, url+"/mcp?token="+canary, "", `{}`, map[string]string{"Authorization": "Bearer " + canary})
	answers = append(answers, body)
	_, body = postRaw(t, url+"/"+canary, devKey, `{}`, nil)
	answers = append(answers, body)
	return answers
}

// searchFiles looks for the mark in every file below a folder and returns how
// many files it searched.
func searchFiles(t *testing.T, root string) int {
	t.Helper()
	n := 0
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		if strings.Contains(string(b), canary) {
			return fmt.Errorf("the mark stands in %s", filepath.Base(path))
		}
		return nil
	}))
	return n
}
