package auth

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
)

// Explanation is what becomes of one identity, and by which rule.
type Explanation struct {
	Identity  Identity
	Supposed  bool       // there is no such credential here: one with all scopes is supposed
	Rule      string     // the name or number of the rule that decides; empty: none
	Principal *Principal // nil where it is refused
	Refusal   error      // nil where it is not
}

// Explain says what the identities of a subject become: for API keys, of each key
// of the subject's that there is; otherwise, and where there is no key, of one
// credential with all scopes. It is for operators: the principals are those that
// a verified credential would have, and nobody calls as them.
func (a *Authenticator) Explain(id Identity) ([]Explanation, error) {
	if _, err := Slug(id.Subject); err != nil {
		return nil, err
	}
	known, err := a.identities()
	if err != nil {
		return nil, err
	}
	var all []Explanation
	for _, key := range known {
		if key.Subject == id.Subject && key.Method == id.Method && key.Issuer == id.Issuer {
			all = append(all, a.home.explain(key))
		}
	}
	if len(all) == 0 {
		id.Scopes = AllScopes()
		supposed := a.home.explain(id)
		supposed.Supposed = id.Method != MethodLaunch
		all = append(all, supposed)
	}
	return all, nil
}

func (h *home) explain(id Identity) Explanation {
	e := Explanation{Identity: id}
	if r, _ := h.decide(&id, ""); r != nil { // what it says is in Refusal
		e.Rule = r.label()
	}
	e.Principal, e.Refusal = h.principal(id)
	return e
}

// ClaimsOf makes the claims of a token from names and values, for Explain. A name
// that begins with a slash is a JSON pointer. A name that is given twice has a
// list of its values.
func ClaimsOf(pairs [][2]string) (jsontext.Value, error) {
	claims := map[string]any{}
	for _, pair := range pairs {
		path, ok := claimPath(pair[0])
		if !ok {
			return nil, fault.New(fault.Invalid, "want the name of a claim, or a JSON pointer to it")
		}
		at := claims
		for _, name := range path[:len(path)-1] {
			below, isObject := at[name].(map[string]any)
			if !isObject {
				below = map[string]any{}
				at[name] = below
			}
			at = below
		}
		last := path[len(path)-1]
		value := any(pair[1])
		if pair[1] == "true" || pair[1] == "false" {
			value = pair[1] == "true"
		}
		switch before := at[last].(type) {
		case nil:
			at[last] = value
		case []any:
			at[last] = append(before, value)
		default:
			at[last] = []any{before, value}
		}
	}
	return json.Marshal(claims, json.Deterministic(true))
}
