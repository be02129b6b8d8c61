package tools_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/tools"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Rules that every tool must keep; a new tool is covered with no new test.
func TestCatalog(t *testing.T) {
	name := regexp.MustCompile(`^([a-z]+\.)?[a-z][a-z0-9_]{1,38}$`)
	verbs := append(auth.AllScopes(), "")
	seen := map[string]bool{}
	for _, tool := range tools.NewCatalog().Tools() {
		t.Run(tool.Name, func(t *testing.T) {
			require.Regexp(t, name, tool.Name)
			require.False(t, seen[tool.Route], "route %s is taken", tool.Route)
			seen[tool.Route] = true
			require.Contains(t, verbs, tool.Scope)
			require.False(t, tool.Scope == "" && len(tool.Needs) > 0, "everybody may call it")
			require.NotEmpty(t, tool.Title)
			require.Greater(t, len(tool.Doc), 40, "a model cannot choose a tool by so few words")
			require.False(t, tool.Retryable && !tool.Idempotent, "what may be retried must be idempotent")
			require.False(t, tool.Retryable && tool.Effect != tools.Reads && tool.Effect != tools.Uses, "changes are not retried")
			if tool.Effect == tools.Reads && tool.Scope != "" {
				require.Contains(t, []auth.Scope{auth.Read, auth.List}, tool.Scope)
			}
			if tool.Effect == tools.Destroys {
				require.NotEqual(t, auth.Read, tool.Scope)
			}
			require.NotPanics(t, tool.MakeRules)
			checkSchema(t, "input", tool.InputSchema)
			checkSchema(t, "output", tool.OutputSchema)
		})
	}
}

// checkSchema holds a schema to what clients' mappers can take: one flat object,
// closed, every member described, no union, no reference.
func checkSchema(t *testing.T, which string, raw json.RawMessage) {
	t.Helper()
	var schema map[string]any
	require.NoError(t, json.Unmarshal(raw, &schema))
	require.Equal(t, "object", schema["type"], which)
	require.Equal(t, false, schema["additionalProperties"], which)
	var walk func(at string, node any)
	walk = func(at string, node any) {
		m, ok := node.(map[string]any)
		if !ok {
			return
		}
		for _, keyword := range []string{"$ref", "$defs", "oneOf", "anyOf", "allOf", "not", "if"} {
			require.NotContains(t, m, keyword, "%s %s", which, at)
		}
		if typ, ok := m["type"]; ok {
			require.IsType(t, "", typ, "%s %s: a union of types", which, at)
		}
		properties, _ := m["properties"].(map[string]any)
		for name, property := range properties {
			p := property.(map[string]any)
			require.NotEmpty(t, p["description"], "%s %s/%s", which, at, name)
			require.NotEmpty(t, p["type"], "%s %s/%s", which, at, name)
			walk(at+"/"+name, p)
		}
		walk(at+"/items", m["items"])
	}
	walk("", schema)
}

// The surface of each tool as clients see it: a change shows in review.
func TestGolden(t *testing.T) {
	for _, tool := range tools.NewCatalog().Tools() {
		t.Run(tool.Name, func(t *testing.T) {
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetIndent("", "  ")
			enc.SetEscapeHTML(false)
			require.NoError(t, enc.Encode(map[string]any{
				"name": tool.Name, "title": tool.Title, "description": tool.Doc,
				"scope": tool.Scope, "effect": tool.Effect, "needs": tool.Needs, "route": tool.Route,
				"retryable": tool.Retryable, "wraps": tool.Wraps,
				"annotations": map[string]bool{
					"readOnlyHint": tool.ReadOnlyHint(), "destructiveHint": tool.DestructiveHint(), "idempotentHint": tool.Idempotent,
				},
				"inputSchema": tool.InputSchema, "outputSchema": tool.OutputSchema,
			}))
			path := filepath.Join("..", "testdata", "golden", "tools", tool.Name+".json")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
				require.NoError(t, os.WriteFile(path, got.Bytes(), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err, "a tool without a golden file: run go test ./tools -update and read what it wrote")
			require.Equal(t, string(want), got.String())
		})
	}
}

func TestGoldenHasNoStrayFiles(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "testdata", "golden", "tools", "*.json"))
	require.NoError(t, err)
	require.Len(t, files, len(tools.NewCatalog().Tools()))
}
