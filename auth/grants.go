package auth

import (
	"maps"
	"slices"
	"strings"

	"vault-mcp/fault"
)

// Grants say which named objects (transit keys, database and SSH roles, KMS
// keys) a principal may use, by engine ("transit", "database", "ssh", "kms").
// Each entry is a literal, or a literal with one trailing "*".
type Grants map[string][]string

// grantEngines are the engines whose objects have names.
var grantEngines = []string{"transit", "database", "ssh", "kms"}

// GrantKind is the key in Grants for the engine in a tool's name: Vault's own
// word, where the tool's is shorter.
func GrantKind(engine string) string {
	if engine == "db" {
		return "database"
	}
	return engine
}

// Allow reports whether an entry for the engine matches the name.
func (g Grants) Allow(engine, name string) bool {
	if name == "" {
		return false
	}
	for _, pattern := range g[engine] {
		if pattern == name {
			return true
		}
		if stem, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, stem) {
			return true
		}
	}
	return false
}

// ownGrants are what every principal may use: the objects that bear its slug,
// or begin with it and "--". No other slug begins so, see Slug.
func ownGrants(slug string) Grants {
	g := make(Grants, len(grantEngines))
	for _, engine := range grantEngines {
		name := slug
		if engine == "kms" {
			name = "alias/" + slug
		}
		g[engine] = []string{name, name + "--*"}
	}
	return g
}

// with is a new set with the entries of both.
func (g Grants) with(more Grants) Grants {
	sum := make(Grants, len(g)+len(more))
	for _, from := range []Grants{g, more} {
		for _, engine := range slices.Sorted(maps.Keys(from)) {
			for _, pattern := range from[engine] {
				if !slices.Contains(sum[engine], pattern) {
					sum[engine] = append(sum[engine], pattern)
				}
			}
		}
	}
	return sum
}

// check holds the grants against their grammar.
func (g Grants) check() error {
	for engine, patterns := range g {
		if !slices.Contains(grantEngines, engine) {
			return fault.New(fault.Invalid, "grants are for the engines "+strings.Join(grantEngines, ", "))
		}
		for _, pattern := range patterns {
			if pattern == "" || len(pattern) > 512 || strings.Contains(strings.TrimSuffix(pattern, "*"), "*") {
				return fault.New(fault.Invalid, "a grant is a name, with at most one * and that at its end")
			}
		}
	}
	return nil
}
