// Package auth answers who calls, what they may do, and how often.
//
// A Principal is made by an Authenticator from verified credentials, or from
// the launch credentials of a stdio process; nothing else makes one. It is
// immutable and is passed to the tool runner with every call.
//
// The file of API keys is looked at again within a second or two of a call. If
// it cannot be read any more or is not right, the keys that it held before are in
// force for a minute, so that a slip of the editor locks nobody out; then none of
// them is, since what cannot be read may be a revocation. Check says so, for
// readiness, from the first moment on. No file at all means no keys, at once.
package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
	"time"
)

// Method says by what kind of credential a principal was verified.
type Method string

// The methods. Launch is the local principal of a stdio process that was given
// no credential of its own.
const (
	MethodAPIKey Method = "api_key"
	MethodJWT    Method = "jwt"
	MethodMTLS   Method = "mtls"
	MethodLaunch Method = "launch"
)

// Principal is a verified caller and its rights.
type Principal struct {
	Subject      string // as the credential says it, unchanged
	Slug         string // the subject as it stands in paths and policy names
	Method       Method // how it was verified
	Issuer       string // of a JWT, as the token says it; empty: the operator's own
	CredentialID string // public name of the credential (an API key's id), for audit
	Scopes       Scopes // the effective scopes: the credential's within the ceiling
	Ceiling      Scopes // what a credential of this principal can have at most
	Prefix       string // canonical KV path prefix, no slash at either end
	Grants       Grants // keys and roles it may name
	Limit        Limit  // its rate limit
	Tools        ToolFilter
	Rule         string    // the rule of PRINCIPALS that it was made by: its name, else its number; empty: none
	ExpiresAt    time.Time // zero: does not expire

	// BindCiphertexts binds what AWS KMS encrypts for it to its ID, so that no
	// other principal with the same grants decrypts it.
	BindCiphertexts bool
}

// Valid reports whether p was properly made and has not expired.
func (p *Principal) Valid(now time.Time) bool {
	return p != nil && p.Slug != "" && p.Prefix != "" &&
		(p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt))
}

// ID names the principal in limits, sessions, seals, policies and whatever else is
// its own: the slug of one of the operator's own subjects, and for one of a
// further issuer the issuer's name, "--" and the slug. Neither holds "--", so no
// two principals share an ID; two credentials of one subject do.
func (p *Principal) ID() string {
	if p.Issuer == "" || p.Slug == "" {
		return p.Slug
	}
	return issuerName(p.Issuer) + "--" + p.Slug
}

// Policy is the name of the principal's Vault policy, given what those of all
// principals begin with: the one name of it, for whatever reads, writes or uses it.
func (p *Principal) Policy(prefix string) string { return prefix + p.ID() }

// maxIssuerHost bounds the host in the name of an issuer, so that a policy can be
// named after each principal: Vault's names of them are bounded, too.
const maxIssuerHost = 40

// issuerName is short for a further issuer: the beginning of its host, for people,
// and 64 bits of a digest. Rules about two issuers with one name are refused.
func issuerName(issuer string) string {
	host := "issuer"
	if u, err := url.Parse(issuer); err == nil {
		if slug, err := Slug(u.Hostname()); err == nil {
			host = strings.TrimRight(slug[:min(len(slug), maxIssuerHost)], "-.")
		}
	}
	sum := sha256.Sum256([]byte(issuer))
	return host + "-" + hex.EncodeToString(sum[:8])
}

// Limit is a token bucket: Requests per Window, with Burst calls at once. A
// Burst of 0 is as many as Requests. The zero Limit does not limit.
type Limit struct {
	Requests int
	Window   time.Duration
	Burst    int
}
