package tools_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// twins are two principals who each have objects of their own of every engine,
// and the calls that each makes.
func twins(t *testing.T, v *devstack.Vault) (a, b *auth.Principal, calls map[*auth.Principal][]need) {
	t.Helper()
	a = with(principal("twin-a"), func(p *auth.Principal) { p.Grants = grantOf })
	b = with(principal("twin-b"), func(p *auth.Principal) {
		p.Grants = auth.Grants{"transit": {"bee-rsa"}, "database": {devstack.RoleReadWrite}, "ssh": {"bee-*"}}
	})
	require.NoError(t, v.Request(t.Context(), http.MethodPost, "transit/keys/bee-rsa", map[string]any{"type": "rsa-2048"}, nil))
	for _, role := range []string{"otp", "ca"} {
		var answer struct {
			Data map[string]any `json:"data"`
		}
		require.NoError(t, v.Request(t.Context(), http.MethodGet, "ssh/roles/demo-"+role, nil, &answer))
		require.NoError(t, v.Request(t.Context(), http.MethodPost, "ssh/roles/bee-"+role, answer.Data, nil))
	}
	other := strings.NewReplacer("demo-", "bee-", `"readonly"`, `"readwrite"`)
	calls = map[*auth.Principal][]need{a: neededCalls()}
	for _, n := range neededCalls() {
		n.args = other.Replace(n.args)
		n.before = append([]string(nil), n.before...)
		for i := range n.before {
			n.before[i] = other.Replace(n.before[i])
		}
		calls[b] = append(calls[b], n)
	}
	return a, b, calls
}

// ofAll reports whether a capability is at a path without anything of a
// principal in it.
func (n need) ofAll() bool {
	return strings.HasPrefix(n.template, "sys/") || n.template == "{transit}/random"
}

// With the policy that is generated for one principal, every call of its own
// works, and none of another's that is not about something that all share.
func TestPolicyIsOfOnePrincipal(t *testing.T) {
	v := devstacktest.Engines(t)
	a, b, calls := twins(t, v)
	root := newRig(t, rigOptions{addr: v.Addr, token: v.RootToken})
	round := 1000
	for _, whose := range []*auth.Principal{a, b} {
		text, err := tools.NewPolicy(tools.NewCatalog().Tools(), rigMounts, whose).JSON()
		require.NoError(t, err)
		require.Equal(t, policyOf(t, tools.PolicyHCL(tools.NewCatalog(), rigMounts, whose)), policyOf(t, text))
		token, err := v.CreateToken(t.Context(), tools.PolicyHCL(tools.NewCatalog(), rigMounts, whose))
		require.NoError(t, err)
		r := newRig(t, rigOptions{addr: v.Addr, token: token})
		for _, who := range []*auth.Principal{a, b} {
			for _, n := range calls[who] {
				round++
				f := n.try(t, root, r, who, round)
				if who == whose || n.ofAll() && !strings.Contains(n.args, "wrap_ttl") && n.tool != "db.issue_creds" {
					if f != nil {
						require.NoError(t, f, "%s %s of %s: %v", n.tool, n.args, who.Slug, f.Err)
					}
					continue
				}
				require.NotNil(t, f, "%s %s of %s works with the policy of %s", n.tool, n.args, who.Slug, whose.Slug)
				require.Equal(t, fault.Forbidden, f.Kind)
			}
		}
	}
}

func policyOf(t *testing.T, text string) map[string][]string {
	t.Helper()
	rules, err := vaultx.ParsePolicy(text)
	require.NoError(t, err)
	paths := map[string][]string{}
	for _, r := range rules {
		require.Empty(t, r.Other)
		paths[r.Path] = r.Capabilities
	}
	return paths
}

// childRig is a rig whose principals have tokens of their own; its server's
// token can do nothing of theirs.
func childRig(t *testing.T, v *devstack.Vault, folder string, ps ...*auth.Principal) *rig {
	t.Helper()
	root, err := vaultx.New(vaultx.Config{Address: v.Addr, Token: v.RootToken, Mounts: rigMounts})
	require.NoError(t, err)
	t.Cleanup(root.Close)
	role := vaultx.TokenRole{Name: "tools-children", Policies: "tools-agent-", Longest: tools.LeaseLife}
	require.NoError(t, root.WriteTokenRole(t.Context(), role))
	for _, p := range ps {
		require.NoError(t, root.WritePolicy(t.Context(), p.Policy(role.Policies), tools.PolicyHCL(tools.NewCatalog(), rigMounts, p)))
	}
	var policy tools.Policy
	for _, rule := range vaultx.ServerRules(role.Name, role.Policies) {
		policy = policy.With(rule, "the server itself")
	}
	token, err := v.CreateToken(t.Context(), policy.HCL())
	require.NoError(t, err)
	return newRig(t, rigOptions{
		addr: v.Addr, token: token, Options: tools.Options{ChildPolicy: role.Policies},
		children: vaultx.ChildOptions{TTL: time.Minute, LeaseTTL: tools.LeaseLife, Role: role.Name, Folder: folder, Key: bytes.Repeat([]byte{3}, secret.KeySize)},
	})
}

// Every tool works with child tokens, and Vault's own audit device shows that
// each request of a principal was made with its policy alone.
func TestToolsWithChildTokens(t *testing.T) {
	v := devstacktest.Engines(t)
	a, b, calls := twins(t, v)
	trail := filepath.Join(t.TempDir(), "vault-audit.log")
	require.NoError(t, v.Request(t.Context(), http.MethodPost, "sys/audit/children", map[string]any{
		"type": "file", "options": map[string]string{"file_path": trail, "log_raw": "false"},
	}, nil))
	r := childRig(t, v, filepath.Join(t.TempDir(), "children"), a, b)
	round := 2000
	for i := range calls[a] {
		for _, p := range []*auth.Principal{a, b} {
			round++
			n := calls[p][i]
			if f := n.try(t, r, r, p, round); f != nil {
				require.NoError(t, f, "%s %s: %v", n.tool, n.args, f.Err)
			}
		}
	}
	require.NoError(t, v.Request(t.Context(), http.MethodDelete, "sys/audit/children", nil, nil))
	seen := map[string]int{}
	for _, entry := range vaultTrail(t, trail) {
		if entry.Type != "response" || slices.Contains(entry.Auth.Policies, "root") {
			continue
		}
		path, _, _ := strings.Cut(entry.Request.Path, "?")
		switch own := strings.TrimPrefix(entry.Auth.DisplayName, "token-"); own {
		case a.Slug, b.Slug:
			require.Equal(t, []string{"tools-agent-" + own}, entry.Auth.Policies)
			require.Equal(t, own, entry.Auth.Metadata["subject"])
			for _, other := range []*auth.Principal{a, b} {
				if other.Slug != own {
					require.NotContains(t, path, other.Slug)
				}
			}
			seen[own]++
		default: // the server's
			require.Regexp(t, `^(auth/token/(create/tools-children|revoke-accessor|lookup-self)|sys/policies/acl/tools-agent-.*)$`, path)
			seen["server"]++
		}
	}
	require.GreaterOrEqual(t, seen[a.Slug], len(calls[a]))
	require.GreaterOrEqual(t, seen[b.Slug], len(calls[b]))
	require.Positive(t, seen["server"])
}

// vaultEntry is an entry of Vault's audit device.
type vaultEntry struct {
	Type string `json:"type"`
	Auth struct {
		DisplayName string            `json:"display_name"`
		Policies    []string          `json:"policies"`
		Metadata    map[string]string `json:"metadata"`
	} `json:"auth"`
	Request struct {
		Path string `json:"path"`
	} `json:"request"`
}

func vaultTrail(t *testing.T, path string) (entries []vaultEntry) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry vaultEntry
		require.NoError(t, json.Unmarshal(lines.Bytes(), &entry))
		entries = append(entries, entry)
	}
	require.NoError(t, lines.Err())
	return entries
}

// A database user outlives the server that got it, and the next one renews it and
// gives it back, with which nothing of it is left in Vault.
func TestLeaseOutlivesChildTokens(t *testing.T) {
	v := devstacktest.Engines(t)
	p := with(principal("lessee"), func(p *auth.Principal) { p.Grants = grantOf })
	folder := filepath.Join(t.TempDir(), "children")
	first := childRig(t, v, folder, p)
	var creds struct {
		LeaseID  string `json:"lease_id"`
		Username string `json:"username"`
		Duration int    `json:"lease_duration"`
	}
	require.NoError(t, json.Unmarshal(first.must(t, p, "db.issue_creds", `{"role":"readonly"}`).JSON, &creds))
	require.Equal(t, 300, creds.Duration)
	require.Contains(t, creds.Username, "v-token-le-", "Vault names the user after the principal's token")
	first.vault.Close()

	second := childRig(t, v, folder, p)
	var renewed struct {
		LeaseID  string `json:"lease_id"`
		Duration int    `json:"lease_duration"`
	}
	require.NoError(t, json.Unmarshal(second.must(t, p, "db.renew", fmt.Sprintf(`{"lease_id":%q,"increment":600}`, creds.LeaseID)).JSON, &renewed))
	require.Greater(t, renewed.Duration, 500)
	var accessors struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	ofLessee := func() (n int) {
		require.NoError(t, v.Request(t.Context(), "LIST", "auth/token/accessors", nil, &accessors))
		for _, accessor := range accessors.Data.Keys {
			var info struct {
				Data struct {
					Meta map[string]string `json:"meta"`
				} `json:"data"`
			}
			if v.Request(t.Context(), http.MethodPost, "auth/token/lookup-accessor", map[string]string{"accessor": accessor}, &info) == nil && info.Data.Meta["subject"] == p.Slug {
				n++
			}
		}
		return n
	}
	require.Equal(t, 2, ofLessee(), "the lease's, and the principal's")
	second.must(t, p, "db.revoke", fmt.Sprintf(`{"lease_id":%q}`, renewed.LeaseID))
	require.Eventually(t, func() bool { return ofLessee() == 1 }, 5*time.Second, 50*time.Millisecond)
	second.vault.Close()
	require.Zero(t, ofLessee())
}
