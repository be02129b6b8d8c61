package vaultx

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"

	"vault-mcp/fault"
)

// Rule is what a policy allows on one path, which may end in a *.
type Rule struct {
	Path         string
	Capabilities []string
	Other        []string // names of attributes besides the capabilities; this program writes none
}

// Bounds of a policy that is read.
const (
	maxPolicy   = 1 << 20 // bytes
	maxBrackets = 20_000
)

// maxPolicyName is the longest name of a policy in bytes: a prefix and a slug.
const maxPolicyName = 256

// CheckPolicyName holds the name of a policy against what Vault keeps as it is:
// it lower-cases names, and a name with a slash is another path.
func CheckPolicyName(name string) error {
	ok := name != "" && len(name) <= maxPolicyName && name != "." && name != ".." && strings.ToLower(name) == name
	for i := 0; ok && i < len(name); i++ {
		ok = segmentByte[name[i]]
	}
	if !ok {
		return fault.Newf(fault.Invalid, "the name of a policy has 1 to %d small letters, digits, '.', '_', '@', '=' or '-'", maxPolicyName)
	}
	return nil
}

// policyAt is an operation on a policy. Its name may be longer than a segment of
// other paths.
func policyAt(method, name string) (Operation, error) {
	if err := CheckPolicyName(name); err != nil {
		return Operation{}, err
	}
	const at = "sys/policies/acl/"
	return Operation{Method: method, Path: Path{decoded: at + name, escaped: at + url.PathEscape(name)}, Template: policyTemplate}, nil
}

var policyTemplate = MustTemplate("sys/policies/acl/{policy}")

// ReadPolicy gives the text of a policy. One that does not exist is NotFound.
func (c *Client) ReadPolicy(ctx context.Context, name string) (string, error) {
	op, err := policyAt(http.MethodGet, name)
	if err != nil {
		return "", err
	}
	resp, err := c.ask(op).Do(ctx, Request{})
	if err != nil {
		return "", err
	}
	var body struct {
		Policy *string `json:"policy"`
	}
	if err := decodeData(resp, &body); err != nil {
		return "", err
	}
	if body.Policy == nil {
		return "", unreadable(errors.New("no policy"))
	}
	return *body.Policy, nil
}

// WritePolicy makes a policy, or replaces it.
func (c *Client) WritePolicy(ctx context.Context, name, text string) error {
	op, err := policyAt(http.MethodPost, name)
	if err != nil {
		return err
	}
	_, err = c.ask(op).Do(ctx, Request{Body: map[string]string{"policy": text}})
	return err
}

// ParsePolicy reads a policy in either of its syntaxes. A path that stands more
// than once is one rule, as Vault takes it. The error holds nothing of the text.
func ParsePolicy(text string) (rules []Rule, err error) {
	// The parser goes down a level for each bracket, and panics at some texts that
	// are not whole; what Vault holds must not end this program.
	if len(text) > maxPolicy || strings.Count(text, "{")+strings.Count(text, "[") > maxBrackets {
		return nil, errNoPolicy
	}
	defer func() {
		if recover() != nil {
			rules, err = nil, errNoPolicy
		}
	}()
	file, err := hcl.Parse(text)
	if err != nil {
		return nil, errNoPolicy
	}
	root, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, errNoPolicy
	}
	for _, item := range root.Items {
		if len(item.Keys) == 0 || keyOf(item, 0) != "path" || len(item.Keys) > 2 {
			return nil, errNoPolicy
		}
		if len(item.Keys) == 2 {
			if rules, err = withBlock(rules, keyOf(item, 1), item.Val); err != nil {
				return nil, err
			}
			continue
		}
		// In JSON all paths may stand in one object.
		object, ok := item.Val.(*ast.ObjectType)
		if !ok {
			return nil, errNoPolicy
		}
		for _, block := range object.List.Items {
			if len(block.Keys) != 1 {
				return nil, errNoPolicy
			}
			if rules, err = withBlock(rules, keyOf(block, 0), block.Val); err != nil {
				return nil, err
			}
		}
	}
	return rules, nil
}

var errNoPolicy = errors.New("it is no policy that this program can read")

func keyOf(item *ast.ObjectItem, i int) string {
	text, ok := item.Keys[i].Token.Value().(string)
	if !ok {
		return ""
	}
	return text
}

// withBlock adds what one block says.
func withBlock(rules []Rule, path string, block ast.Node) ([]Rule, error) {
	object, ok := block.(*ast.ObjectType)
	if !ok {
		return nil, errNoPolicy
	}
	path = strings.TrimPrefix(path, "/")
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Path == path })
	if i < 0 {
		i, rules = len(rules), append(rules, Rule{Path: path})
	}
	for _, item := range object.List.Items {
		if len(item.Keys) != 1 || keyOf(item, 0) != "capabilities" {
			rules[i].Other = append(rules[i].Other, keyOf(item, 0))
			continue
		}
		var capabilities []string
		if err := hcl.DecodeObject(&capabilities, item.Val); err != nil {
			return nil, errNoPolicy
		}
		rules[i].Capabilities = append(rules[i].Capabilities, capabilities...)
	}
	slices.Sort(rules[i].Capabilities)
	rules[i].Capabilities = slices.Compact(rules[i].Capabilities)
	return rules, nil
}

// ComparePolicies says, one line each and sorted by path, in what a policy
// differs from the one that is wanted.
func ComparePolicies(want, have []Rule) []string {
	byPath := func(rules []Rule) map[string]Rule {
		m := make(map[string]Rule, len(rules))
		for _, r := range rules {
			m[r.Path] = r
		}
		return m
	}
	wanted, had := byPath(want), byPath(have)
	var paths []string
	for _, r := range slices.Concat(want, have) {
		paths = append(paths, r.Path)
	}
	slices.Sort(paths)
	var differences []string
	for _, path := range slices.Compact(paths) {
		w, h := wanted[path], had[path]
		for _, capability := range w.Capabilities {
			if !slices.Contains(h.Capabilities, capability) {
				differences = append(differences, fmt.Sprintf("- %s on %s is missing", capability, path))
			}
		}
		for _, capability := range h.Capabilities {
			if !slices.Contains(w.Capabilities, capability) {
				differences = append(differences, fmt.Sprintf("+ %s on %s is not needed", capability, path))
			}
		}
		for _, other := range h.Other {
			differences = append(differences, fmt.Sprintf("+ %s on %s is nothing that is generated", other, path))
		}
	}
	return differences
}
