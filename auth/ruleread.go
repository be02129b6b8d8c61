package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
)

// Bounds of PRINCIPALS.
const (
	maxRules     = 1000
	maxRulesText = 1 << 20 // bytes
	maxRuleName  = 64
	maxEntries   = 64  // of one list in a rule
	maxLiteral   = 512 // bytes of what a rule matches
)

// ruleDocument is a rule as it is written. Its members are read one by one, so
// that each mistake is told.
type ruleDocument struct {
	name, source, issuer, subject, keyID, certificate, prefix string

	claim struct {
		Name  string         `json:"name"`
		Value jsontext.Value `json:"value"`
	}
	limit struct {
		Requests int `json:"requests"`
		Seconds  int `json:"window_seconds"`
		Burst    int `json:"burst"`
	}
	scopes, toolsets, tools, exclude []string
	grants                           Grants
	any, disabled, shared, bind      bool
}

// members are where the members of a rule go, by name.
func (d *ruleDocument) members() map[string]any {
	return map[string]any{
		"name": &d.name, "source": &d.source, "issuer": &d.issuer, "subject": &d.subject, "claim": &d.claim, "key_id": &d.keyID,
		"certificate": &d.certificate, "any": &d.any, "disabled": &d.disabled, "prefix": &d.prefix, "shared": &d.shared, "scopes": &d.scopes,
		"grants": &d.grants, "rate_limit": &d.limit, "toolsets": &d.toolsets, "tools": &d.tools, "exclude": &d.exclude, "bind_ciphertexts": &d.bind,
	}
}

// ruleReader reads one rule and collects what is wrong with it.
type ruleReader struct {
	opt    *Options
	rule   *rule
	doc    ruleDocument
	given  map[string]bool
	errors []error
}

// wrong notes a mistake in a member; without one, in the rule as a whole.
func (r *ruleReader) wrong(member, what string) {
	if member != "" {
		what = "/" + member + ": " + what
	}
	r.errors = append(r.errors, fault.Newf(fault.Invalid, "PRINCIPALS: rule %d: %s", r.rule.number, what))
}

// readRules reads PRINCIPALS, a JSON list of rules. The error joins every mistake;
// each names the rule by its number, and the member. None holds a value.
func readRules(text string, h *home, opt *Options) ([]*rule, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxRulesText {
		return nil, fault.Newf(fault.Invalid, "PRINCIPALS has over %d bytes", maxRulesText)
	}
	var list []jsontext.Value
	if err := json.Unmarshal([]byte(text), &list); err != nil || list == nil {
		return nil, fault.New(fault.Invalid, "PRINCIPALS: want a list of tables, no name in one given twice")
	}
	if len(list) > maxRules {
		return nil, fault.Newf(fault.Invalid, "PRINCIPALS has over %d rules", maxRules)
	}
	own := &rule{prefix: append(strings.Split(h.prefix, "/"), slugHole)}
	beside := ruleNeighbours{names: map[string]bool{}, issuers: map[string]string{}, prefixed: []*rule{own}}
	rules, mistakes := make([]*rule, 0, len(list)), []error(nil)
	for i, raw := range list {
		r := &ruleReader{opt: opt, rule: &rule{number: i + 1}, given: map[string]bool{}}
		r.read(raw)
		beside.take(r)
		rules, mistakes = append(rules, r.rule), append(mistakes, r.errors...)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return rules, nil
}

// ruleNeighbours are the rules before one, as far as it may not be like them.
type ruleNeighbours struct {
	names    map[string]bool
	issuers  map[string]string // by short name
	prefixed []*rule           // home's own prefix first
}

// take holds a rule against those before it.
func (n *ruleNeighbours) take(r *ruleReader) {
	if name := r.rule.name; name != "" {
		if n.names[name] {
			r.wrong("name", "another rule has it")
		}
		n.names[name] = true
	}
	if issuer := r.rule.issuer; issuer != "" {
		short := issuerName(issuer)
		if other, known := n.issuers[short]; known && other != issuer {
			r.wrong("issuer", "cannot be told apart from that of another rule")
		}
		n.issuers[short] = issuer
	}
	if r.rule.prefix == nil || r.rule.disabled {
		return
	}
	for _, other := range n.prefixed {
		if what := overlap(r.rule, other); what != "" {
			r.wrong("prefix", what)
			break
		}
	}
	n.prefixed = append(n.prefixed, r.rule)
}

func (r *ruleReader) read(raw jsontext.Value) {
	var object map[string]jsontext.Value
	if json.Unmarshal(raw, &object) != nil || object == nil {
		r.wrong("", "want a table, no name in it given twice")
		return
	}
	into := r.doc.members()
	for _, name := range slices.Sorted(maps.Keys(object)) {
		target, known := into[name]
		if !known {
			r.wrong("", "it has a member"+tellable(name)+" that is none of "+strings.Join(slices.Sorted(maps.Keys(into)), ", "))
			continue
		}
		if err := decodeStrict(object[name], target); err != nil {
			// What is wrong within a member begins with a pointer of its own.
			r.errors = append(r.errors, fault.Newf(fault.Invalid, "PRINCIPALS: rule %d: /%s%s", r.rule.number, name, within(fault.From(err).Msg)))
			continue
		}
		r.given[name] = true
	}
	r.match()
	r.outcome()
}

// tellable is a member's name if it looks like one; what does not may be a value
// in the wrong place.
func tellable(name string) string {
	if len(name) > 20 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return " " + name
}

func within(msg string) string {
	if strings.HasPrefix(msg, "/") {
		return msg
	}
	return ": " + msg
}

// text is a member that is a text and not empty.
func (r *ruleReader) text(member, value string) string {
	switch {
	case !r.given[member]:
		return ""
	case value == "" || len(value) > maxLiteral:
		r.wrong(member, fmt.Sprintf("want a text of 1 to %d bytes", maxLiteral))
		return ""
	}
	return value
}

// pattern is a member that is a literal with at most one * at its end.
func (r *ruleReader) pattern(member, value string) *pattern {
	if value = r.text(member, value); value == "" {
		return nil
	}
	p := newPattern(value)
	if strings.Contains(p.stem, "*") {
		r.wrong(member, "want at most one *, at the end")
	}
	return p
}
