package tools

import (
	"slices"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/auth"
	"vault-mcp/kmsx"
)

// iamPolicy is a policy of AWS IAM.
type iamPolicy struct {
	Version   string
	Statement []iamStatement
}

type iamStatement struct {
	Sid, Effect string
	Action      []string
	Resource    []string
	Condition   map[string]map[string][]string `json:",omitempty"`
}

// PolicyIAM is the policy of AWS IAM, as JSON, that the needs of tools add up to
// for a principal. Keys that were granted by alias are told by the aliases
// that they have, since IAM knows keys by their ARN alone; those that were
// granted by id or ARN stand in it themselves. Without a grant, or a tool
// of AWS KMS, there is no statement. The same principal always gets the same text.
func PolicyIAM(ts []*Tool, p *auth.Principal) (string, error) {
	var actions []string
	for _, t := range ts {
		for _, need := range t.Needs {
			actions = added(actions, need.KMS...)
		}
	}
	slices.Sort(actions)
	var aliases, keys []string
	for _, grant := range p.Grants["kms"] {
		switch stem, open := strings.CutSuffix(grant, "*"); {
		case strings.HasPrefix(grant, "alias/") && (open && kmsx.CheckKeyID(stem+"x") == nil || kmsx.CheckKeyID(grant) == nil):
			aliases = added(aliases, grant)
		case strings.HasPrefix(grant, "alias/"), strings.Contains(grant, ":alias/"), grant != "*" && !isKeyStem(stem, open):
			// It grants nothing: no key has such a name.
		case grant == "*", strings.HasPrefix(grant, "arn:"):
			keys = added(keys, grant)
		default:
			keys = added(keys, "arn:*:kms:*:*:key/"+grant)
		}
	}
	policy := iamPolicy{Version: "2012-10-17", Statement: []iamStatement{}}
	if len(aliases) > 0 && len(actions) > 0 {
		slices.Sort(aliases)
		policy.Statement = append(policy.Statement, iamStatement{
			Sid: "VaultMcpAliases", Effect: "Allow", Action: actions, Resource: []string{"arn:*:kms:*:*:key/*"},
			Condition: map[string]map[string][]string{"ForAnyValue:StringLike": {"kms:ResourceAliases": aliases}},
		})
	}
	if len(keys) > 0 && len(actions) > 0 {
		slices.Sort(keys)
		policy.Statement = append(policy.Statement, iamStatement{Sid: "VaultMcpKeys", Effect: "Allow", Action: actions, Resource: keys})
	}
	text, err := jsonv2.Marshal(policy, jsontext.WithIndent("  "), sorted)
	return string(text) + "\n", err
}

// isKeyStem reports whether a text is an id or ARN of a key or, where it is open,
// may be the beginning of one; ids have no other characters than these.
func isKeyStem(text string, open bool) bool {
	if !open {
		return kmsx.CheckKeyID(text) == nil
	}
	id := text
	if rest, isARN := strings.CutPrefix(text, "arn:"); isARN {
		at := strings.Index(rest, ":key/")
		if at < 0 || strings.Trim(rest[:at], "abcdefghijklmnopqrstuvwxyz0123456789-:") != "" || !strings.Contains(rest[:at], ":kms:") {
			return false // one that leaves region or account open would stand for more in IAM than here
		}
		id = rest[at+len(":key/"):]
	}
	return strings.Trim(strings.TrimPrefix(id, "mrk-"), "0123456789abcdef-") == ""
}
