package auth

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vault-mcp/fault"
)

// A rule of PRINCIPALS says what the identities that it matches become. The
// first rule that matches decides, and nothing is taken from a later one. An
// identity that none matches becomes what every home principal is, or nobody if
// it is of a further issuer.
type rule struct {
	number int
	name   string // empty: its number is its name

	// What it matches: each of these that is given has to hold.
	source      Method
	issuer      string // empty: the operator's own identities alone
	subject     *pattern
	claim       *claimRule
	keyID       string   // of an API key
	certificate *pattern // over the names of a certificate

	// What comes of it.
	disabled bool // nobody
	prefix   template
	shared   bool // its principals may share what is below the prefix with others
	ceiling  Scopes
	grants   Grants // with {slug} in them
	limit    *Limit
	tools    ToolFilter
	bind     bool
}

// ToolFilter says which tools a principal may call at most, by names of tools,
// engines and toolsets. The zero ToolFilter leaves them all.
type ToolFilter struct {
	Only   []string // empty: all
	Except []string
}

func (f ToolFilter) equal(g ToolFilter) bool {
	return slices.Equal(f.Only, g.Only) && slices.Equal(f.Except, g.Except)
}

// pattern is a literal, or with open the beginning of a text.
type pattern struct {
	stem string
	open bool
}

func newPattern(text string) *pattern {
	stem, open := strings.CutSuffix(text, "*")
	return &pattern{stem, open}
}

func (p *pattern) matches(text string) bool {
	return text == p.stem || p.open && strings.HasPrefix(text, p.stem)
}

// matches reports whether a rule is about an identity. What a rule wants of an
// API key, a token or a certificate no other kind of credential has, whatever
// stands in its place: the id of a token is its issuer's choice.
func (r *rule) matches(id *Identity, claims *claimSet) bool {
	switch {
	case r.issuer != id.Issuer,
		r.source != "" && r.source != id.Method,
		r.subject != nil && !r.subject.matches(id.Subject),
		r.keyID != "" && (id.Method != MethodAPIKey || r.keyID != id.CredentialID),
		r.claim != nil && (id.Method != MethodJWT || !r.claim.holds(claims)),
		r.certificate != nil && (id.Method != MethodMTLS || !r.named(id.Names)):
		return false
	}
	return true
}

func (r *rule) named(names []string) bool {
	for _, name := range names {
		if r.certificate.matches(name) {
			return true
		}
	}
	return false
}

// label is how records and the doctor name a rule.
func (r *rule) label() string {
	if r.name != "" {
		return r.name
	}
	return strconv.Itoa(r.number)
}

// decide is the rule for an identity with this slug, nil where the home rules
// stand. Who is refused is told to the operator, in the log.
func (h *home) decide(id *Identity, slug string) (*rule, error) {
	claims := &claimSet{raw: id.Claims}
	for _, r := range h.rules {
		switch {
		case !r.matches(id, claims):
		case r.disabled:
			return r, fault.Wrap(fault.Forbidden, "a rule of this server refuses this principal", fmt.Errorf("subject %s, by rule %s", slug, r.label()))
		default:
			return r, nil
		}
	}
	if id.Issuer != "" {
		return nil, fault.Wrap(fault.Forbidden, "this server has no rule for this principal of its issuer", fmt.Errorf("subject %s of %s", slug, issuerName(id.Issuer)))
	}
	return nil, nil //nolint:nilnil // no rule is an answer
}

// principal makes the principal of a verified identity; nothing else makes one.
// One whom a rule refuses, or who is of a further issuer and has no rule, is an
// error of kind Forbidden.
func (h *home) principal(id Identity) (*Principal, error) {
	slug, err := Slug(id.Subject)
	if err != nil {
		return nil, err
	}
	r, err := h.decide(&id, slug)
	if err != nil {
		return nil, err
	}
	p := &Principal{
		Subject: id.Subject, Slug: slug, Method: id.Method, Issuer: id.Issuer, CredentialID: id.CredentialID,
		Ceiling: AllScopes(), ExpiresAt: id.ExpiresAt, BindCiphertexts: id.BindCiphertexts,
		Prefix: h.prefix + "/" + slug, Limit: h.limit, Grants: Grants{},
	}
	if id.Issuer == "" { // the names of objects tell home principals apart, and nobody else
		p.Grants = ownGrants(slug).with(h.grants)
	}
	p.Grants = p.Grants.with(id.Grants)
	if r != nil {
		r.apply(p)
	}
	p.Scopes = id.Scopes.within(p.Ceiling)
	return p, nil
}

// apply gives a principal what its rule says.
func (r *rule) apply(p *Principal) {
	p.Rule, p.Tools = r.label(), r.tools
	if r.prefix != nil {
		p.Prefix = r.prefix.fill(p.Slug)
	}
	if r.ceiling != nil {
		p.Ceiling = r.ceiling
	}
	if r.limit != nil {
		p.Limit = *r.limit
	}
	p.Grants = p.Grants.with(r.grants.of(p.Slug))
	p.BindCiphertexts = p.BindCiphertexts || r.bind
}

// of are the grants of a rule for one principal.
func (g Grants) of(slug string) Grants {
	filled := make(Grants, len(g))
	for engine, patterns := range g {
		for _, pattern := range patterns {
			filled[engine] = append(filled[engine], strings.ReplaceAll(pattern, slugHole, slug))
		}
	}
	return filled
}

// holder is whom a key stands for: a principal, or nobody for a reason that its
// bearer is told.
type holder struct {
	principal *Principal
	refusal   error
}

// holder is principal for what is made before anybody calls: that a rule refuses
// one is no mistake then.
func (h *home) holder(id Identity) (holder, error) {
	p, err := h.principal(id)
	if fault.KindOf(err) == fault.Forbidden {
		return holder{refusal: err}, nil
	}
	return holder{principal: p}, err
}
