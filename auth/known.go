package auth

import (
	"slices"
	"strings"
)

// Known are the principals that the settings and the key file tell of, by their
// ids: one for each, whose grants are those of all its credentials, since a
// policy is of a subject. Those of other sources are known only once they call.
func (a *Authenticator) Known() []*Principal {
	var all []*Principal
	for _, key := range a.keys {
		all = append(all, key.principal)
	}
	if a.file != nil {
		if set := a.file.Current(); set != nil {
			for _, key := range *set {
				all = append(all, key.holder.principal)
			}
		}
	}
	all = append(all, a.local.principal)
	all = slices.DeleteFunc(all, func(p *Principal) bool { return p == nil }) // refused by a rule
	// Grants are added in one order, whatever that of a map is.
	slices.SortFunc(all, func(x, y *Principal) int {
		return strings.Compare(x.ID()+"\x00"+x.CredentialID, y.ID()+"\x00"+y.CredentialID)
	})
	var known []*Principal
	for _, p := range all {
		last := len(known) - 1
		if last < 0 || known[last].ID() != p.ID() {
			one := *p
			known = append(known, &one)
			continue
		}
		known[last].Grants = known[last].Grants.with(p.Grants)
	}
	return known
}

// PrincipalOf is the principal that a subject of the operator's own has: a known
// one, or the one that a credential without a record would give.
func (a *Authenticator) PrincipalOf(subject string) (*Principal, error) {
	p, err := a.home.principal(Identity{Subject: subject, Method: MethodLaunch, Scopes: AllScopes()})
	if err != nil {
		return nil, err
	}
	for _, known := range a.Known() {
		if known.ID() == p.ID() {
			return known, nil
		}
	}
	return p, nil
}
