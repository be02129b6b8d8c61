package tools

import (
	"slices"
	"strings"

	"vault-mcp/auth"
	"vault-mcp/vaultx"
)

// Permission is what one tool needs on one path of Vault, for a principal.
type Permission struct {
	Tool         string
	Path         string // as a policy writes it: a * at its end stands for anything
	Capabilities []string
}

// Permissions are what tools need for a principal, in the order of the tools:
// its prefix and its grants stand in the paths. A tool for which the principal
// has no granted name needs nothing. Scopes narrow nothing here: a policy is of
// a subject, whose credentials may differ in scopes.
func Permissions(ts []*Tool, mounts vaultx.Mounts, p *auth.Principal) []Permission {
	var all []Permission
	for _, t := range ts {
		needed := len(all)
		for _, need := range t.Needs {
			for _, path := range policyPaths(need, t.Engine, mounts, p) {
				all = append(all, Permission{t.Name, path, need.Capabilities})
			}
		}
		if t.Wraps && (len(all) > needed || t.UsesKMS() && len(p.Grants["kms"]) > 0) {
			all = append(all, Permission{t.Name, vaultx.WrapOperation.Path.String(), []string{"update"}})
		}
	}
	return all
}

// policyPaths are the paths of a need in a policy: one, or one for each grant.
func policyPaths(need Need, engine string, mounts vaultx.Mounts, p *auth.Principal) []string {
	switch {
	case need.Path == "":
		return nil // it is not Vault's
	case need.Lease != "" && len(grantedNames(p.Grants["database"])) == 0 && len(grantedNames(p.Grants["ssh"])) == 0:
		return nil // it can have no lease
	}
	names := []string{"*"}
	if slices.ContainsFunc(need.filled, func(h vaultx.Hole) bool { return !h.Multi }) {
		names = grantedNames(p.Grants[auth.GrantKind(engine)])
	}
	paths, fixed := make([]string, 0, len(names)), serverHoles(mounts, p)
	for _, name := range names {
		paths = append(paths, need.template.Render(func(h vaultx.Hole) string {
			if value, ok := fixed[h.Name]; ok {
				return value
			}
			return name
		}))
	}
	return paths
}

// grantedNames are the grants that a policy can hold, sorted. One that no name
// fits is left out: it grants nothing, and what it holds might mean something
// to Vault.
func grantedNames(grants []string) []string {
	var names []string
	for _, grant := range grants {
		stem, open := strings.CutSuffix(grant, "*")
		if open && vaultx.CheckName(stem+"x") == nil || vaultx.CheckName(grant) == nil {
			names = append(names, grant)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// added is a list with what it did not have.
func added(list []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
