package auth

import (
	"slices"
	"strings"

	"vault-mcp/fault"
)

// Scope is one right: a verb, or a verb narrowed to an engine ("kv:read").
type Scope string

// The four verbs.
const (
	Read   Scope = "read"
	Write  Scope = "write"
	Delete Scope = "delete"
	List   Scope = "list"
)

// scopeEngines are what a scope can be narrowed to: the engines as they stand
// in the names of tools.
var scopeEngines = []string{"kv", "transit", "db", "ssh", "kms"}

// AllScopes are the four verbs, what an API key without a record has.
func AllScopes() Scopes { return Scopes{Read, Write, Delete, List} }

// Scopes is a set of rights.
type Scopes []Scope

// Allow reports whether the set gives a verb on an engine: by the verb itself
// or by the verb narrowed to that engine.
func (s Scopes) Allow(engine string, verb Scope) bool {
	return slices.Contains(s, verb) || slices.Contains(s, Scope(engine)+":"+verb)
}

// within is what of the set a ceiling leaves: an engine and a verb are allowed if
// both allow them. What a verb loses by a ceiling that has it for some engines is
// the others.
func (s Scopes) within(ceiling Scopes) Scopes {
	left := make(Scopes, 0, len(s))
	add := func(scope Scope) {
		if !slices.Contains(left, scope) {
			left = append(left, scope)
		}
	}
	for _, scope := range s {
		engine, verb, narrowed := strings.Cut(string(scope), ":")
		switch {
		case slices.Contains(ceiling, scope), narrowed && ceiling.Allow(engine, Scope(verb)):
			add(scope)
		case !narrowed:
			for _, engine := range scopeEngines {
				if ceiling.Allow(engine, scope) {
					add(Scope(engine) + ":" + scope)
				}
			}
		}
	}
	return left
}
func (s Scopes) has(one Scope) bool { return slices.Contains(s, one) }

// ParseScopes reads a list of scopes, each once whatever it was given. An empty
// list is the empty set, which allows nothing. The error names the entry by its
// number.
func ParseScopes(list []string) (Scopes, error) {
	set := make(Scopes, 0, len(list))
	for i, text := range list {
		engine, verb, narrowed := strings.Cut(text, ":")
		if !narrowed {
			verb = text
		}
		if !slices.Contains(AllScopes(), Scope(verb)) || narrowed && !slices.Contains(scopeEngines, engine) {
			return nil, fault.Newf(fault.Invalid, "scope %d is none of read, write, delete, list, "+
				"nor one of them after an engine and a colon (%s)", i+1, strings.Join(scopeEngines, ", "))
		}
		if !slices.Contains(set, Scope(text)) {
			set = append(set, Scope(text))
		}
	}
	return set, nil
}
