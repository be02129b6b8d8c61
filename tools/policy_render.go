package tools

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/auth"
	"vault-mcp/vaultx"
)

// Policy is a policy of Vault: one block for each path.
type Policy []PolicyBlock

// PolicyBlock is what a policy allows on one path.
type PolicyBlock struct {
	vaultx.Rule
	Why []string // what needs it
}

// NewPolicy is what the needs of tools add up to for one or more principals, and
// no more. The same ones always give the same policy.
func NewPolicy(ts []*Tool, mounts vaultx.Mounts, ps ...*auth.Principal) Policy {
	var policy Policy
	for _, p := range ps {
		for _, need := range Permissions(ts, mounts, p) {
			policy = policy.With(vaultx.Rule{Path: need.Path, Capabilities: need.Capabilities}, need.Tool)
		}
	}
	return policy
}

// With is the policy with one more rule, whose reason is given.
func (p Policy) With(rule vaultx.Rule, why string) Policy {
	i := slices.IndexFunc(p, func(b PolicyBlock) bool { return b.Path == rule.Path })
	if i < 0 {
		i, p = len(p), append(p, PolicyBlock{Rule: vaultx.Rule{Path: rule.Path}})
	}
	p[i].Why = added(p[i].Why, why)
	p[i].Capabilities = added(p[i].Capabilities, rule.Capabilities...)
	slices.Sort(p[i].Capabilities)
	return p
}

// Rules are the policy without its reasons.
func (p Policy) Rules() []vaultx.Rule {
	rules := make([]vaultx.Rule, len(p))
	for i := range p {
		rules[i] = p[i].Rule
	}
	return rules
}

// HCL is the policy as people write it.
func (p Policy) HCL() string {
	var hcl strings.Builder
	for i, b := range p {
		if i > 0 {
			hcl.WriteByte('\n')
		}
		fmt.Fprintf(&hcl, "# %s\npath %q {\n  capabilities = [\"%s\"]\n}\n", strings.Join(b.Why, ", "), b.Path, strings.Join(b.Capabilities, `", "`))
	}
	return hcl.String()
}

// JSON is the policy in the other syntax that Vault takes.
func (p Policy) JSON() (string, error) {
	type block struct {
		Capabilities []string `json:"capabilities"`
	}
	paths := make(map[string]block, len(p))
	for _, b := range p {
		paths[b.Path] = block{b.Capabilities}
	}
	text, err := json.Marshal(map[string]any{"path": paths}, jsontext.WithIndent("  "), sorted)
	return string(text) + "\n", err
}

// PolicyHCL is the policy of one principal for a whole catalogue.
func PolicyHCL(c *Catalog, mounts vaultx.Mounts, p *auth.Principal) string {
	return NewPolicy(c.Tools(), mounts, p).HCL()
}
