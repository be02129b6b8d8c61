package auth

import (
	"strings"

	"vault-mcp/fault"
)

// maxSubject is the longest subject and the longest slug in bytes: a slug is
// one segment of a Vault path, and those end there.
const maxSubject = 128

// Slug is a subject as it stands in paths, resource URIs and policy names:
//
//   - a–z 0–9 . _ @ - stand for themselves;
//   - every other byte, a '-' or '.' at either end, and a '-' or '.' that
//     follows another of its kind become '=' and two hexadecimal digits.
//
// So no two subjects share a slug, also where Vault lower-cases and trims the
// name of a policy; a slug is always one valid segment of a path; and none
// contains "--", which separates it from the rest of a name in the default
// grants. A subject is bytes: what is not UTF-8 is escaped like the rest.
//
// An empty subject, one of over 128 bytes, and one whose slug would have over
// 128 bytes are refused.
func Slug(subject string) (string, error) {
	if subject == "" || len(subject) > maxSubject {
		return "", fault.Newf(fault.Invalid, "a subject has 1 to %d bytes", maxSubject)
	}
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := range len(subject) {
		if c := subject[i]; standsForItself(subject, i) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', digits[c>>4], digits[c&15]})
		}
	}
	if b.Len() > maxSubject {
		return "", fault.Newf(fault.Invalid, "the subject has too many characters that must be escaped: "+
			"escaped, which makes three bytes of one, it may have %d bytes", maxSubject)
	}
	return b.String(), nil
}

// standsForItself reports whether the byte at i is its own in the slug.
func standsForItself(s string, i int) bool {
	switch c := s[i]; c {
	case '.', '-':
		return i > 0 && i < len(s)-1 && s[i-1] != c
	case '_', '@':
		return true
	default:
		return 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
	}
}

// home is what the operator's own identities share. API keys, launch
// credentials and every other source make their principals with it.
type home struct {
	prefix string
	grants Grants
	limit  Limit
}

func newHome(prefix string, grants Grants, limit Limit) (*home, error) {
	prefix = strings.Trim(prefix, "/")
	for _, segment := range strings.Split(prefix, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return nil, fault.New(fault.Invalid, "the prefix of all principals is not a canonical path")
		}
	}
	if err := grants.check(); err != nil {
		return nil, err
	}
	if limit != (Limit{}) && !limit.usable() {
		return nil, fault.New(fault.Invalid, "a rate limit has requests and a window, and no negative burst")
	}
	return &home{prefix: prefix, grants: grants, limit: limit}, nil
}

// principal makes the principal of a verified identity; nothing else makes one.
func (h *home) principal(id Identity) (*Principal, error) {
	slug, err := Slug(id.Subject)
	if err != nil {
		return nil, err
	}
	if id.Issuer != "" {
		return nil, fault.New(fault.Forbidden, "no rule says what the subjects of this issuer may do")
	}
	return &Principal{
		Subject: id.Subject, Slug: slug, Method: id.Method, Issuer: id.Issuer, CredentialID: id.CredentialID,
		Scopes: id.Scopes, Ceiling: AllScopes(), ExpiresAt: id.ExpiresAt, BindCiphertexts: id.BindCiphertexts,
		Prefix: h.prefix + "/" + slug,
		Grants: ownGrants(slug).with(h.grants).with(id.Grants),
		Limit:  h.limit,
	}, nil
}
