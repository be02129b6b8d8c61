package tools

import (
	"slices"
	"strconv"
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
// for one or more principals. Keys that were granted by alias are told by the
// aliases that they have, since IAM knows keys by their ARN alone; those that were
// granted by id or ARN stand in it themselves. Without a grant, or a tool of AWS
// KMS, there is no statement. The same principals always get the same text.
func PolicyIAM(ts []*Tool, ps ...*auth.Principal) (string, error) {
	type need struct{ actions, grants []string }
	var needs []need
	for _, p := range ps {
		actions := kmsActions(ts, p)
		i := slices.IndexFunc(needs, func(n need) bool { return slices.Equal(n.actions, actions) })
		if i < 0 {
			i, needs = len(needs), append(needs, need{actions: actions})
		}
		needs[i].grants = append(needs[i].grants, p.Grants["kms"]...)
	}
	policy := iamPolicy{Version: "2012-10-17", Statement: []iamStatement{}}
	for i, n := range needs {
		for _, statement := range iamStatements(n.actions, n.grants) {
			if i > 0 {
				statement.Sid += strconv.Itoa(i + 1) // AWS wants them to differ
			}
			policy.Statement = append(policy.Statement, statement)
		}
	}
	text, err := jsonv2.Marshal(policy, jsontext.WithIndent("  "), sorted)
	return string(text) + "\n", err
}

// kmsActions are those of AWS KMS that tools need for a principal, sorted.
func kmsActions(ts []*Tool, p *auth.Principal) []string {
	var actions []string
	for _, t := range ts {
		if !t.within(p.Tools) {
			continue
		}
		for _, need := range t.Needs {
			actions = added(actions, need.KMS...)
		}
	}
	slices.Sort(actions)
	return actions
}

// iamStatements allow actions on the keys that were granted.
func iamStatements(actions, grants []string) []iamStatement {
	var aliases, keys []string
	for _, grant := range grants {
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
	var list []iamStatement
	if len(aliases) > 0 && len(actions) > 0 {
		slices.Sort(aliases)
		list = append(list, iamStatement{
			Sid: "VaultMcpAliases", Effect: "Allow", Action: actions, Resource: []string{"arn:*:kms:*:*:key/*"},
			Condition: map[string]map[string][]string{"ForAnyValue:StringLike": {"kms:ResourceAliases": aliases}},
		})
	}
	if len(keys) > 0 && len(actions) > 0 {
		slices.Sort(keys)
		list = append(list, iamStatement{Sid: "VaultMcpKeys", Effect: "Allow", Action: actions, Resource: keys})
	}
	return list
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
