package tools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// realRig is a rig on the shared Vault, as its root.
func realRig(t *testing.T, opt tools.Options) (*rig, *devstack.Vault) {
	t.Helper()
	v := devstacktest.Shared(t)
	return newRig(t, rigOptions{addr: v.Addr, token: v.RootToken, Options: opt}), v
}

// conform runs a tool and holds its result against its own output schema.
func (r *rig) conform(p *auth.Principal, tool, args string) map[string]any {
	r.t.Helper()
	res, f := r.run(p, tool, args)
	if f != nil {
		require.NoError(r.t, f, "%s %s (%v)", tool, args, f.Err)
	}
	require.NoError(r.t, compile(r.t, lookup(r.t, tool).OutputSchema).Validate(parsed(r.t, res.JSON)), "%s", res.JSON)
	var out map[string]any
	require.NoError(r.t, json.Unmarshal(res.JSON, &out))
	return out
}

// The life of a secret on a real Vault: every result has the shape that the
// specification's table gives it, and is valid by the tool's own schema.
func TestResultsHaveTheirShape(t *testing.T) {
	r, v := realRig(t, tools.Options{})
	p := principal("shape")
	keys := func(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

	written := r.conform(p, "kv.write", `{"path":"app/config","data":{"user":"u","n":1.5,"deep":{"a":[null,true]}},"cas":0}`)
	require.Equal(t, []string{"created_time", "version"}, keys(written))
	require.InDelta(t, 1, written["version"], 0)
	patched := r.conform(p, "kv.patch", `{"path":"app/config","data":{"user":null,"x":"y"},"cas":1}`)
	require.Equal(t, []string{"created_time", "version"}, keys(patched))
	require.NoError(t, v.Request(t.Context(), "POST", "secret/metadata/mcp/shape/app/config", map[string]any{"custom_metadata": map[string]string{"owner": "team"}}, nil))

	read := r.conform(p, "kv.read", `{"path":"app/config"}`)
	require.Equal(t, []string{"data", "metadata"}, keys(read))
	require.Equal(t, map[string]any{"x": "y", "n": 1.5, "deep": map[string]any{"a": []any{nil, true}}}, read["data"])
	require.Equal(t, []string{"created_time", "custom_metadata", "destroyed", "version"}, slices.DeleteFunc(keys(read["metadata"].(map[string]any)), func(k string) bool { return k == "deletion_time" }))
	require.Equal(t, map[string]any{"user": "u", "n": 1.5, "deep": map[string]any{"a": []any{nil, true}}}, r.conform(p, "kv.read", `{"path":"app/config","version":1}`)["data"])
	wrapped := r.conform(p, "kv.read", `{"path":"app/config","wrap_ttl":"60"}`)
	require.Equal(t, []string{"metadata", "wrap"}, keys(wrapped))

	require.Equal(t, []any{"app/"}, r.conform(p, "kv.list", `{}`)["keys"])
	require.Equal(t, []any{"config"}, r.conform(p, "kv.list", `{"prefix":"app/"}`)["keys"])
	require.Equal(t, []any{}, r.conform(p, "kv.list", `{"prefix":"nothing"}`)["keys"])

	require.Equal(t, map[string]any{"ok": true}, r.conform(p, "kv.delete", `{"path":"app/config"}`))
	_, gone := r.run(p, "kv.read", `{"path":"app/config"}`)
	require.Equal(t, fault.NotFound, gone.Kind)
	require.Equal(t, "deleted", gone.Details["state"])
	require.Equal(t, map[string]any{"ok": true}, r.conform(p, "kv.undelete", `{"path":"app/config","versions":[2]}`))
	require.Equal(t, map[string]any{"ok": true}, r.conform(p, "kv.delete", `{"path":"app/config","versions":[1]}`))
	require.Equal(t, map[string]any{"ok": true}, r.conform(p, "kv.destroy", `{"path":"app/config","versions":[1]}`))

	about := r.conform(p, "kv.metadata", `{"path":"app/config"}`)
	for _, key := range []string{"versions", "current_version", "oldest_version", "custom_metadata", "max_versions", "cas_required", "created_time", "updated_time"} {
		require.Contains(t, about, key)
	}
	versions := about["versions"].([]any)
	require.Len(t, versions, 2)
	require.Equal(t, true, versions[0].(map[string]any)["destroyed"])
	require.InDelta(t, 2, versions[1].(map[string]any)["version"], 0)

	me := r.conform(with(p, func(p *auth.Principal) { p.ExpiresAt = time.Now().Add(time.Hour) }), "whoami", `{}`)
	require.Equal(t, []string{"auth_method", "expires_at", "grants", "limits", "prefix", "scopes", "subject", "tools"}, keys(me))
	require.Len(t, me["tools"], len(tools.NewCatalog().Tools()))
	bare := r.conform(with(p, func(p *auth.Principal) { p.Scopes, p.Grants = nil, nil }), "whoami", `{}`)
	require.Equal(t, []any{"whoami"}, bare["tools"])
	require.Equal(t, map[string]any{}, bare["grants"])
	require.Equal(t, []any{}, bare["scopes"])
}

// wrap_ttl on the real Vault: the values alone are wrapped, for a bounded time,
// for one who unwraps once.
func TestWrapTTL(t *testing.T) {
	r, v := realRig(t, tools.Options{WrapTTLMax: 90 * time.Second})
	p := principal("wrap")
	require.NoError(t, v.PutSecret(t.Context(), "mcp/wrap/app", map[string]any{"password": canary, "n": 7}))
	for asked, seconds := range map[string]int{
		"1s": 1, "5": 5, "60s": 60, "1m": 60, "2m": 90, "1h": 90, "90": 90, "91": 90, "1000000h": 90, "9999999h": 90, "9999999m": 90,
	} {
		t.Run(asked, func(t *testing.T) {
			out := r.conform(p, "kv.read", `{"path":"app","wrap_ttl":"`+asked+`"}`)
			require.NotContains(t, out, "data")
			require.InDelta(t, 1, out["metadata"].(map[string]any)["version"], 0)
			wrap := out["wrap"].(map[string]any)
			require.InDelta(t, seconds, wrap["ttl"], 0)
			require.Equal(t, "sys/wrapping/wrap", wrap["creation_path"])
			_, err := time.Parse(time.RFC3339Nano, wrap["creation_time"].(string))
			require.NoError(t, err)
			if seconds < 60 {
				return // too short to be sure of what follows
			}
			token := map[string]any{"token": wrap["token"]}
			var about struct {
				Data struct {
					TTL int `json:"creation_ttl"`
				} `json:"data"`
			}
			require.NoError(t, v.Request(t.Context(), "POST", "sys/wrapping/lookup", token, &about))
			require.Equal(t, seconds, about.Data.TTL, "what Vault itself says")
			var inside struct {
				Data map[string]any `json:"data"`
			}
			require.NoError(t, v.Request(t.Context(), "POST", "sys/wrapping/unwrap", token, &inside))
			require.Equal(t, map[string]any{"data": map[string]any{"password": canary, "n": 7.0}}, inside.Data)
			require.Error(t, v.Request(t.Context(), "POST", "sys/wrapping/unwrap", token, &inside), "unwrapped twice")
			require.NotContains(t, r.everywhere(), wrap["token"])
		})
	}
	require.NotContains(t, r.everywhere(), canary)
}

func TestRecordsOfAWrappedRead(t *testing.T) {
	r, v := realRig(t, tools.Options{})
	require.NoError(t, v.PutSecret(t.Context(), "mcp/wraprec/app", map[string]any{"password": canary}))
	res, f := r.run(principal("wraprec"), "kv.read", `{"path":"app","wrap_ttl":"60s"}`)
	require.Nil(t, f)
	records := r.records()
	require.Equal(t, []string{"attempt", "outcome ok"}, kinds(records))
	for _, rec := range records {
		require.Equal(t, []string{"read secret/data/mcp/wraprec/app", "update sys/wrapping/wrap"}, rec.Needs)
	}
	require.Equal(t, hash(t, string(res.JSON)), records[1].Result)
	require.NotEmpty(t, records[1].VaultRequestID)
}

// need is one capability that a tool declares, and a call that takes exactly it.
type need struct {
	tool, capability, template string
	before                     []string // calls by root that set the scene
	args                       string
}

func neededCalls() []need {
	const write = `kv.write {"path":"NAME","data":{"a":1}}`
	return []need{
		{"kv.read", "read", "{kv}/data/{prefix}/{path...}", []string{write}, `{"path":"NAME"}`},
		{"kv.write", "create", "{kv}/data/{prefix}/{path...}", nil, `{"path":"NAME","data":{}}`},
		{"kv.write", "update", "{kv}/data/{prefix}/{path...}", []string{write}, `{"path":"NAME","data":{}}`},
		{"kv.patch", "patch", "{kv}/data/{prefix}/{path...}", []string{write}, `{"path":"NAME","data":{"b":2}}`},
		{"kv.list", "list", "{kv}/metadata/{prefix}/{path...}", []string{write}, `{}`},
		{"kv.list", "list", "{kv}/metadata/{prefix}/{path...}", []string{write}, `{"prefix":"folder"}`},
		{"kv.metadata", "read", "{kv}/metadata/{prefix}/{path...}", []string{write}, `{"path":"NAME"}`},
		{"kv.delete", "delete", "{kv}/data/{prefix}/{path...}", []string{write}, `{"path":"NAME"}`},
		{"kv.delete", "update", "{kv}/delete/{prefix}/{path...}", []string{write}, `{"path":"NAME","versions":[1]}`},
		{"kv.undelete", "update", "{kv}/undelete/{prefix}/{path...}", []string{write}, `{"path":"NAME","versions":[1]}`},
		{"kv.destroy", "update", "{kv}/destroy/{prefix}/{path...}", []string{write}, `{"path":"NAME","versions":[1]}`},
		{"kv.read", "update", "sys/wrapping/wrap", []string{write}, `{"path":"NAME","wrap_ttl":"60s"}`},
	}
}

// declared are the capabilities of all tools, by template.
func declared() map[string][]string {
	of := map[string][]string{}
	add := func(template, capability string) {
		if !slices.Contains(of[template], capability) {
			of[template] = append(of[template], capability)
		}
	}
	for _, tool := range tools.NewCatalog().Tools() {
		for _, n := range tool.Needs {
			for _, capability := range n.Capabilities {
				add(n.Template().String(), capability)
			}
		}
		if tool.Wraps {
			add(vaultx.WrapOperation.Template.String(), "update")
		}
	}
	return of
}

// policy renders needs into HCL, without one of them.
func policy(t *testing.T, prefix string, without need) string {
	t.Helper()
	var hcl strings.Builder
	for template, capabilities := range declared() {
		left := slices.DeleteFunc(slices.Clone(capabilities), func(c string) bool { return template == without.template && c == without.capability })
		if len(left) == 0 {
			continue
		}
		path := vaultx.MustTemplate(template).Render(func(h vaultx.Hole) string {
			return map[string]string{"kv": "secret", "prefix": prefix, "path": "*", "transit": "transit", "key": "needs*"}[h.Name]
		})
		fmt.Fprintf(&hcl, "path %q { capabilities = [%q] }\n", path, strings.Join(left, `","`))
	}
	return strings.ReplaceAll(hcl.String(), `\",\"`, `","`)
}

// With exactly what the tools declare, all of them work; with one capability
// less, the call that takes it is forbidden, and no other.
func TestNeedsAreComplete(t *testing.T) {
	v := devstacktest.Shared(t)
	p := principal("needs")
	root := newRig(t, rigOptions{addr: v.Addr, token: v.RootToken})
	calls := append(neededCalls(), neededTransitCalls(t, v)...)
	covered := map[string][]string{}
	for _, n := range calls {
		if !slices.Contains(covered[n.template], n.capability) {
			covered[n.template] = append(covered[n.template], n.capability)
		}
	}
	for template, capabilities := range declared() {
		require.ElementsMatch(t, capabilities, covered[template], "needs of %s without a call that takes them", template)
	}

	try := func(t *testing.T, r *rig, n need, round int) *fault.Error {
		t.Helper()
		name := fmt.Sprintf("folder/s%d", round)
		for _, before := range n.before {
			tool, args, _ := strings.Cut(before, " ")
			_, f := root.run(p, tool, strings.ReplaceAll(args, "NAME", name))
			require.Nil(t, f)
		}
		_, f := r.run(p, n.tool, strings.ReplaceAll(n.args, "NAME", name))
		return f
	}
	round := 0
	for i, without := range append(calls, need{}) {
		token, err := v.CreateToken(context.Background(), policy(t, p.Prefix, without), devstack.TokenOptions{})
		require.NoError(t, err)
		r := newRig(t, rigOptions{addr: v.Addr, token: token})
		for j, n := range calls {
			round++
			f := try(t, r, n, round)
			if n.template == without.template && n.capability == without.capability || wrapsARead(n, without) {
				require.NotNil(t, f, "%s %s works without %s on %s", n.tool, n.args, without.capability, without.template)
				require.Equal(t, fault.Forbidden, f.Kind, "%d %d", i, j)
				continue
			}
			if f != nil {
				require.NoError(t, f, "%s %s without %s on %s", n.tool, n.args, without.capability, without.template)
			}
		}
	}
}

// wrapsARead: a wrapped read needs both.
func wrapsARead(n, without need) bool {
	return n.template == "sys/wrapping/wrap" && without.tool == "kv.read" && without.capability == "read"
}
