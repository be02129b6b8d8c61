package auth

import (
	"cmp"
	"slices"

	"vault-mcp/fault"
)

// identities are those that the settings and the key file tell of: of each API
// key, and of a stdio process without one. They come in one order, whatever that
// of a map is. The error says that the key file is not right; those that it held
// before are in force then.
func (a *Authenticator) identities() ([]Identity, error) {
	all := slices.Clone(a.known)
	if a.opt.LaunchSubject != "" {
		all = append(all, launchIdentity(a.opt.LaunchSubject))
	}
	var err error
	if a.file != nil {
		if set := a.file.latest(); set != nil {
			for _, key := range *set {
				all = append(all, key.identity)
			}
		}
		err = a.file.Failure()
	}
	slices.SortFunc(all, func(x, y Identity) int {
		return cmp.Or(cmp.Compare(x.Subject, y.Subject), cmp.Compare(x.CredentialID, y.CredentialID))
	})
	return all, err
}

// launchIdentity is who a stdio process is that has no credential.
func launchIdentity(subject string) Identity {
	return Identity{Subject: subject, Method: MethodLaunch, Scopes: AllScopes()}
}

// Known are the principals that the settings and the key file tell of, by their
// ids. Of each there is one, whose grants are those of all its credentials, since
// a policy is of a principal; where rules give the credentials other prefixes or
// tools there are more, of which none has what only another's are for. Those of
// other sources are known only once they call.
func (a *Authenticator) Known() []*Principal {
	ids, _ := a.identities() // what is in force counts
	var all []*Principal
	for _, id := range ids {
		if p, err := a.home.principal(id); err == nil { // else a rule refuses it
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(x, y *Principal) int { return cmp.Compare(x.ID(), y.ID()) })
	return merged(all)
}

// merged are principals with the grants of all that are alike but for these.
func merged(all []*Principal) []*Principal {
	var list []*Principal
	for _, p := range all {
		i := slices.IndexFunc(list, func(other *Principal) bool {
			return other.ID() == p.ID() && other.Prefix == p.Prefix && other.Tools.equal(p.Tools)
		})
		if i < 0 {
			one := *p
			list = append(list, &one)
			continue
		}
		list[i].Grants = list[i].Grants.with(p.Grants)
	}
	return list
}

// PrincipalsOf is what an identity is as far as the settings tell: the known
// principals of its id, if it is an API key's or a stdio process's; else, and where
// there is none, the one that such a credential with all scopes would give, beside
// the known ones. One that a rule refuses is an error, unless there are others.
func (a *Authenticator) PrincipalsOf(id Identity) ([]*Principal, error) {
	slug, err := Slug(id.Subject)
	if err != nil {
		return nil, err
	}
	wanted := (&Principal{Issuer: id.Issuer, Slug: slug}).ID()
	list := slices.DeleteFunc(a.Known(), func(p *Principal) bool { return p.ID() != wanted })
	if len(list) > 0 && (id.Method == MethodAPIKey || id.Method == MethodLaunch) {
		return list, nil
	}
	id.Scopes = AllScopes()
	p, err := a.home.principal(id)
	switch {
	case err == nil:
		return merged(append(list, p)), nil
	case fault.KindOf(err) == fault.Forbidden && len(list) > 0:
		return list, nil
	}
	return nil, err
}
