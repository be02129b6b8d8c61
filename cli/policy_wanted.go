package cli

import (
	"errors"
	"slices"
	"strings"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// namedPolicy is a policy of Vault by its name.
type namedPolicy struct {
	name       string
	of         string            // for people
	principals []*auth.Principal // of one id; none: of the server
	policy     tools.Policy
}

// wanted is what Vault should hold.
type wanted struct {
	on       []*tools.Tool
	policies []namedPolicy
	role     *vaultx.TokenRole // nil: none
}

// wanted makes the policies that were chosen.
func (c *chosen) wanted(cfg *config.Config) (w wanted, err error) {
	if len(c.subjects) == 0 && !c.all && !c.server {
		return w, usage("--subject, --all or --server is needed: whose policy?")
	}
	if len(c.subjects) == 0 && c.by.given() {
		return w, usage("--source, --issuer, --claim and --certificate are about a --subject")
	}
	off, err := theCatalog().Off(offer(cfg))
	if err != nil {
		return w, usageError{err}
	}
	w.on = theCatalog().On(off)
	principals, err := c.principals(cfg)
	if err != nil {
		return w, err
	}
	forVault := w.on
	if !cfg.KMS.Enabled {
		forVault = slices.DeleteFunc(slices.Clone(w.on), (*tools.Tool).UsesKMS)
	}
	for _, ps := range principals {
		of := printable(ps[0].Subject)
		if ps[0].Issuer != "" {
			of += " of " + printable(ps[0].Issuer)
		}
		w.policies = append(w.policies, namedPolicy{
			ps[0].Policy(cfg.Child.PolicyPrefix), of, ps, tools.NewPolicy(forVault, mounts(cfg), ps...),
		})
	}
	if !c.server {
		return w, nil
	}
	var policy tools.Policy
	switch {
	case !cfg.Child.Enabled && len(principals) == 0:
		return w, usage("--server without CHILD_TOKEN_ENABLED wants --subject or --all: the server's token then needs what they need")
	case !cfg.Child.Enabled:
		policy = tools.NewPolicy(forVault, mounts(cfg), slices.Concat(principals...)...)
	case cfg.Child.Role == "":
		return w, usage("--server with CHILD_TOKEN_ENABLED wants CHILD_TOKEN_ROLE, the token role through which child tokens are made")
	default:
		w.role = childRole(cfg)
	}
	role := ""
	if w.role != nil {
		role = w.role.Name
	}
	for _, rule := range vaultx.ServerRules(role, cfg.Child.PolicyPrefix) {
		policy = policy.With(rule, "the server itself")
	}
	if vaultx.CheckPolicyName(c.serverName) != nil || strings.HasPrefix(c.serverName, cfg.Child.PolicyPrefix) {
		return w, usage("--server-policy: want a name of small letters that does not begin with CHILD_TOKEN_POLICY_PREFIX")
	}
	w.policies = append(w.policies, namedPolicy{c.serverName, "the server itself", nil, policy})
	return w, nil
}

// childRole is the token role that the settings want.
func childRole(cfg *config.Config) *vaultx.TokenRole {
	return &vaultx.TokenRole{Name: cfg.Child.Role, Policies: cfg.Child.PolicyPrefix, Longest: tools.LeaseLife}
}

// principals are those that were chosen, together where they are of one id.
func (c *chosen) principals(cfg *config.Config) ([][]*auth.Principal, error) {
	authn, err := openAuth(cfg)
	if err != nil {
		return nil, usageError{err}
	}
	var list [][]*auth.Principal
	take := func(ps []*auth.Principal) {
		i := slices.IndexFunc(list, func(others []*auth.Principal) bool { return others[0].ID() == ps[0].ID() })
		if i < 0 {
			i, list = len(list), append(list, nil)
		}
		list[i] = ps // of a subject that is named there may be more than is known
	}
	if c.all {
		known := authn.Known() // in the order of their ids
		for len(known) > 0 {
			n := 1
			for n < len(known) && known[n].ID() == known[0].ID() {
				n++
			}
			take(known[:n])
			known = known[n:]
		}
	}
	for _, subject := range c.subjects {
		by := c.by
		by.subject = subject
		id, err := by.identity()
		if err != nil {
			return nil, err
		}
		ps, err := authn.PrincipalsOf(id)
		if err != nil {
			var wrongUse usageError
			if errors.As(err, &wrongUse) {
				return nil, err
			}
			return nil, usage("--subject: %s", fault.From(err).Msg)
		}
		take(ps)
	}
	return list, nil
}
