package auth

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// claimRule is what a rule wants of the claims of a token: that the one of this
// name is the value, or is a list with it.
type claimRule struct {
	path  []string // names of members, from the outside in
	value any      // a text or a bool
}

// claimPath reads the name of a claim: a JSON pointer if it begins with a slash,
// else the name of a member, which may well be a URL. ok is false for neither.
func claimPath(name string) (path []string, ok bool) {
	if !strings.HasPrefix(name, "/") {
		return []string{name}, name != ""
	}
	pointer := jsontext.Pointer(name)
	if !pointer.IsValid() {
		return nil, false
	}
	for token := range pointer.Tokens() {
		path = append(path, token)
	}
	return path, true
}

// claimSet are the claims of one identity, read when a rule first asks for one.
type claimSet struct {
	raw    jsontext.Value
	read   bool
	object any
}

// holds reports whether the claims have what the rule wants. Claims that cannot
// be read have nothing.
func (c *claimRule) holds(claims *claimSet) bool {
	if !claims.read && len(claims.raw) > 0 {
		if json.Unmarshal(claims.raw, &claims.object) != nil {
			claims.object = nil
		}
	}
	claims.read = true
	at := claims.object
	for _, name := range c.path {
		object, _ := at.(map[string]any)
		var there bool
		if at, there = object[name]; !there {
			return false
		}
	}
	list, _ := at.([]any)
	return at == c.value || slices.Contains(list, c.value)
}
