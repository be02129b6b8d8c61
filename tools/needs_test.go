package tools_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// need is one capability that a tool declares, and a call that takes exactly it.
type need struct {
	tool, capability, template string
	before                     []string // calls by root that set the scene
	args                       string
}

// grantOf is the one object of each engine that the principal of these tests may
// name: the policy has its very name.
var grantOf = auth.Grants{
	"transit": {devstack.KeyRSA}, "database": {devstack.RoleReadOnly}, "ssh": {"demo-*"},
}

func neededCalls() []need {
	const (
		write = `kv.write {"path":"NAME","data":{"a":1}}`
		issue = `db.issue_creds {"role":"readonly"}`

		encrypt = `transit.encrypt {"key":"demo-rsa","plaintext":""}`
		sign    = `transit.sign {"key":"demo-rsa","input":""}`
	)
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

		{"transit.encrypt", "update", "{transit}/encrypt/{key}", nil, `{"key":"demo-rsa","plaintext":""}`},
		{"transit.decrypt", "update", "{transit}/decrypt/{key}", []string{encrypt}, `{"key":"demo-rsa","ciphertext":"CIPHERTEXT"}`},
		{"transit.rewrap", "update", "{transit}/rewrap/{key}", []string{encrypt}, `{"key":"demo-rsa","ciphertext":"CIPHERTEXT"}`},
		{"transit.sign", "update", "{transit}/sign/{key}", nil, `{"key":"demo-rsa","input":""}`},
		{"transit.verify", "update", "{transit}/verify/{key}", []string{sign}, `{"key":"demo-rsa","input":"","signature":"SIGNATURE"}`},
		{"transit.random", "update", "{transit}/random", nil, `{}`},
		{"transit.decrypt", "update", "sys/wrapping/wrap", []string{encrypt}, `{"key":"demo-rsa","ciphertext":"CIPHERTEXT","wrap_ttl":"60s"}`},

		{"ssh.otp", "update", "{ssh}/creds/{role}", nil, `{"role":"demo-otp","ip":"127.0.0.1"}`},
		{"ssh.otp", "update", "sys/wrapping/wrap", nil, `{"role":"demo-otp","ip":"127.0.0.1","wrap_ttl":"60s"}`},
		{"ssh.sign", "update", "{ssh}/sign/{role}", nil, `{"role":"demo-ca","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJeyVxIXw4GdVnVsKUvLjAGT1W9kJrPSfMUSwRtyD4tB","valid_principals":"ubuntu"}`},

		{"db.issue_creds", "read", "{database}/creds/{role}", nil, `{"role":"readonly"}`},
		{"db.issue_creds", "update", "sys/wrapping/wrap", nil, `{"role":"readonly","wrap_ttl":"60s"}`},
		{"db.renew", "update", "sys/leases/renew", []string{issue}, `{"lease_id":"LEASE"}`},
		{"db.revoke", "update", "sys/leases/revoke", []string{issue}, `{"lease_id":"LEASE"}`},
	}
}

// path is that of the need's block in the policy of a principal.
func (n need) path(p *auth.Principal) string {
	engine, _, _ := strings.Cut(n.tool, ".")
	return vaultx.MustTemplate(n.template).Render(func(h vaultx.Hole) string {
		values := map[string]string{
			"kv": rigMounts.KV, "transit": rigMounts.Transit, "database": rigMounts.Database, "ssh": rigMounts.SSH,
			"prefix": p.Prefix, "path": "*",
		}
		if value, ok := values[h.Name]; ok {
			return value
		}
		return p.Grants[auth.GrantKind(engine)][0]
	})
}

// takes reports whether a call takes a capability besides its own: what is
// wrapped is first had.
func (n need) takes(missing need, p *auth.Principal) bool {
	if n.path(p) == missing.path(p) {
		return n.capability == missing.capability
	}
	return n.template == "sys/wrapping/wrap" && n.tool == missing.tool
}

// declared are the capabilities of all tools that Vault is asked for.
func declared(p *auth.Principal) map[string][]string {
	of := map[string][]string{}
	for _, permission := range tools.Permissions(tools.NewCatalog().Tools(), rigMounts, p) {
		of[permission.Path] = append(of[permission.Path], permission.Capabilities...)
	}
	for path := range of {
		slices.Sort(of[path])
		of[path] = slices.Compact(of[path])
	}
	return of
}

// policyWithout is the principal's policy without one capability of one path,
// and without the path if that was its last.
func policyWithout(t *testing.T, p *auth.Principal, path, capability string) string {
	t.Helper()
	blocks := policyBlocks(t, tools.PolicyHCL(tools.NewCatalog(), rigMounts, p))
	if path != "" {
		require.Contains(t, blocks, path)
		less := strings.NewReplacer(fmt.Sprintf("%q, ", capability), "", fmt.Sprintf(", %q", capability), "", fmt.Sprintf("[%q]", capability), "[]").Replace(blocks[path])
		require.NotEqual(t, blocks[path], less)
		if blocks[path] = less; strings.Contains(less, "[]") {
			delete(blocks, path)
		}
	}
	var hcl strings.Builder
	for _, block := range blocks {
		hcl.WriteString(block + "\n")
	}
	return hcl.String()
}

// try makes the calls that set the scene with one rig, and the one in question
// with another.
func (n need) try(t *testing.T, scene, r *rig, p *auth.Principal, round int) *fault.Error {
	t.Helper()
	fill := strings.NewReplacer("NAME", fmt.Sprintf("folder/s%d", round))
	for _, before := range n.before {
		tool, args, _ := strings.Cut(before, " ")
		var made struct {
			LeaseID    string `json:"lease_id"`
			Ciphertext string `json:"ciphertext"`
			Signature  string `json:"signature"`
		}
		require.NoError(t, json.Unmarshal(scene.must(t, p, tool, fill.Replace(args)).JSON, &made))
		fill = strings.NewReplacer("NAME", fmt.Sprintf("folder/s%d", round), "LEASE", made.LeaseID,
			"CIPHERTEXT", made.Ciphertext, "SIGNATURE", made.Signature)
	}
	_, f := r.run(p, n.tool, fill.Replace(n.args))
	return f
}

// With exactly the policy that is generated, and no other (Vault's default one
// would let any token renew leases), every tool works; with one capability less,
// the calls that take it are forbidden, and no others.
func TestNeedsAreComplete(t *testing.T) {
	v := devstacktest.Engines(t)
	p := with(principal("needs"), func(p *auth.Principal) { p.Grants = grantOf })
	root := newRig(t, rigOptions{addr: v.Addr, token: v.RootToken})
	calls := neededCalls()
	covered, tested := map[string][]string{}, map[string]bool{"whoami": true}
	for _, n := range calls {
		tested[n.tool] = true
		if !slices.Contains(covered[n.path(p)], n.capability) {
			covered[n.path(p)] = append(covered[n.path(p)], n.capability)
		}
	}
	for path, capabilities := range declared(p) {
		require.ElementsMatch(t, capabilities, covered[path], "needs of %s without a call that takes them", path)
	}
	for _, tool := range tools.NewCatalog().Tools() {
		require.True(t, tested[tool.Name] || tool.UsesKMS(), "%s is not called", tool.Name)
	}

	round := 0
	for _, without := range append(calls, need{}) {
		missing := ""
		if without.tool != "" {
			missing = without.path(p)
		}
		token, err := v.CreateToken(t.Context(), policyWithout(t, p, missing, without.capability))
		require.NoError(t, err)
		r := newRig(t, rigOptions{addr: v.Addr, token: token})
		for _, n := range calls {
			round++
			f := n.try(t, root, r, p, round)
			if missing != "" && n.takes(without, p) {
				require.NotNil(t, f, "%s %s works without %s on %s", n.tool, n.args, without.capability, missing)
				require.Equal(t, fault.Forbidden, f.Kind, "%s %s", n.tool, n.args)
				continue
			}
			if f != nil {
				require.NoError(t, f, "%s %s without %s on %s: %v", n.tool, n.args, without.capability, missing, f.Err)
			}
		}
	}
}
