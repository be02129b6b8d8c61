package vaultx_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

func TestParsePolicy(t *testing.T) {
	want := []vaultx.Rule{{Path: "a/b", Capabilities: []string{"list", "read"}}, {Path: "c/*", Capabilities: []string{"update"}}}
	for name, text := range map[string]string{
		"HCL":               `path "a/b" { capabilities = ["read", "list"] } path "c/*" { capabilities = ["update"] }`,
		"with comments":     "# x\npath \"a/b\" {\n  // y\n  capabilities = [\"read\", \"list\"]\n}\n/* z */ path \"c/*\" { capabilities = [\"update\",] }",
		"in several blocks": `path "a/b" { capabilities = ["read"] } path "c/*" { capabilities = ["update"] } path "/a/b" { capabilities = ["list", "read"] }`,
		"JSON":              `{"path": {"a/b": {"capabilities": ["read", "list"]}, "c/*": {"capabilities": ["update"]}}}`,
		"JSON as a list":    `{"path": [{"a/b": {"capabilities": ["list", "read"]}}, {"c/*": {"capabilities": ["update"]}}]}`,
	} {
		have, err := vaultx.ParsePolicy(text)
		require.NoError(t, err, name)
		require.Empty(t, vaultx.ComparePolicies(want, have), name)
		require.Len(t, have, 2, name)
	}
	for _, text := range []string{`path "a" {`, `path "a" = 1`, `name = "x"`, `path "a" "b" { capabilities = [] }`, `{"path": 1}`, `path "a" { capabilities = [{}] }`, `{"\0`, strings.Repeat("a {", 1_000_000), strings.Repeat("[", 20_001)} {
		_, err := vaultx.ParsePolicy(text)
		require.Error(t, err, "%.40s", text)
	}
	rules, err := vaultx.ParsePolicy("# nothing\n")
	require.NoError(t, err)
	require.Empty(t, rules)
}

func TestComparePolicies(t *testing.T) {
	want := []vaultx.Rule{{Path: "b", Capabilities: []string{"read", "list"}}, {Path: "a", Capabilities: []string{"update"}}}
	have := []vaultx.Rule{{Path: "b", Capabilities: []string{"read", "sudo"}, Other: []string{"min_wrapping_ttl"}}, {Path: "*", Capabilities: []string{"deny"}}}
	require.Equal(t, []string{
		"+ deny on * is not needed", "- update on a is missing", "- list on b is missing", "+ sudo on b is not needed",
		"+ min_wrapping_ttl on b is nothing that is generated",
	}, vaultx.ComparePolicies(want, have))
}

// A name reaches Vault as it stands, or not at all.
func TestPolicyNames(t *testing.T) {
	root := realClient(t, devstacktest.Shared(t))
	long := "mcp-agent-" + strings.Repeat("=41", 42)
	for _, name := range []string{"mcp-agent-=41=20b=3d", "mcp-agent-a@b.c_d", long} {
		text := `path "x" { capabilities = ["read"] }` + " # " + name
		require.NoError(t, root.WritePolicy(t.Context(), name, text))
		have, err := root.ReadPolicy(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, text, have)
	}
	_, err := root.ReadPolicy(t.Context(), "mcp-agent-none")
	requireKind(t, fault.NotFound, err)
	for _, name := range []string{"", ".", "..", "a/b", "Upper", "a b", "a%2fb", "a?b", "a#b", strings.Repeat("a", 257)} {
		requireKind(t, fault.Invalid, root.WritePolicy(t.Context(), name, "x"))
		_, err := root.ReadPolicy(t.Context(), name)
		requireKind(t, fault.Invalid, err)
	}
}

// Whatever text Vault holds, reading it ends, and what it gives is in order.
func FuzzParsePolicy(f *testing.F) {
	f.Add(`path "a/b" { capabilities = ["read", "list"] }`)
	f.Add(`{"path": [{"a": {"capabilities": ["x"], "policy": "read"}}]}`)
	f.Add("path <<E\nE\n{}")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := vaultx.ParsePolicy(text)
		if err != nil {
			require.Nil(t, rules)
			return
		}
		for i, r := range rules {
			require.True(t, slices.IsSorted(r.Capabilities))
			require.Equal(t, i, slices.IndexFunc(rules, func(o vaultx.Rule) bool { return o.Path == r.Path }), "a path twice")
		}
		require.Empty(t, slices.DeleteFunc(vaultx.ComparePolicies(rules, rules), func(d string) bool { return strings.HasSuffix(d, "generated") }))
	})
}
