package auth

import (
	"slices"
	"strings"
)

// slugHole stands in prefixes and grants of rules for the slug of the principal.
const slugHole = "{slug}"

// Bounds of a prefix in a rule.
const (
	maxPrefix         = 256 // bytes
	maxPrefixSegments = 16
)

// template is a prefix by segments, of which one may be {slug}.
type template []string

// parseTemplate reads a prefix, and says what is wanted where it is none. The
// slashes around it are tolerated, as they are around DEFAULT_PREFIX.
func parseTemplate(text string) (t template, want string) {
	t = strings.Split(strings.Trim(text, "/"), "/")
	holes := 0
	for _, segment := range t {
		switch {
		case segment == slugHole:
			holes++
		case segment == "", segment == ".", segment == "..", len(segment) > maxSubject, strings.Trim(segment, segmentLetters) != "":
			return nil, "want a path of letters, digits and . _ @ = - with single slashes between, neither . nor .. as a part, and {slug} as a part of its own"
		}
	}
	switch {
	case len(text) > maxPrefix || len(t) > maxPrefixSegments:
		return nil, "too long"
	case holes > 1:
		return nil, "has {slug} more than once"
	case t[0] == slugHole:
		return nil, "begins with {slug}, so that a subject could choose whose prefix it has; want a name before it"
	}
	return t, ""
}

const segmentLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@=-"

// fill is the prefix of one principal.
func (t template) fill(slug string) string {
	filled := slices.Clone(t)
	if i := t.hole(); i >= 0 {
		filled[i] = slug
	}
	return strings.Join(filled, "/")
}

// hole is where {slug} stands, -1 where it does not.
func (t template) hole() int { return slices.Index(t, slugHole) }

// meets reports whether a prefix that t makes could be, contain or lie within one
// that o makes, by whole segments.
func (t template) meets(o template) bool {
	for i := range min(len(t), len(o)) {
		if t[i] != o[i] && t[i] != slugHole && o[i] != slugHole {
			return false
		}
	}
	return true
}

// mixes reports whether t and o could give two subjects of one issuer prefixes
// that meet. Where {slug} stands in the same place, those that meet are of one
// subject; where it does not stand at all, a rule for one subject says so.
func (t template) mixes(o template) bool {
	i, j := t.hole(), o.hole()
	return i >= 0 && j >= 0 && i != j && t.meets(o)
}

// overlap says what is wrong between the prefixes of two rules, of which either
// may be home's own, with the number 0.
func overlap(r, other *rule) (wrong string) {
	whose := "DEFAULT_PREFIX"
	if other.number > 0 {
		whose = "the prefix of rule " + other.label()
	}
	switch shared := r.shared || other.shared; {
	case r.issuer == other.issuer:
		if !shared && r.prefix.mixes(other.prefix) {
			return "overlaps " + whose + " for other subjects; choose another, or say shared = true"
		}
	case !r.prefix.meets(other.prefix):
	case other.number > 0 && (r.issuer == "" && r.shared || other.issuer == "" && other.shared):
		// A hub of the operator's own over an issuer's prefix, said to be one.
	default:
		return "overlaps " + whose + "; a further issuer has a prefix of its own"
	}
	return ""
}
