package auth

import "strings"

// Grants say which named objects (transit keys, database and SSH roles, KMS
// keys) a principal may use, by engine ("transit", "database", "ssh", "kms").
// Each entry is a literal, or a literal with one trailing "*".
type Grants map[string][]string

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
