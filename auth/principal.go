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

import "time"

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
	Subject      string    // as the credential says it, unchanged
	Slug         string    // the subject as it stands in paths and policy names
	Method       Method    // how it was verified
	Issuer       string    // of a JWT, as the token says it; empty for other credentials
	CredentialID string    // public name of the credential (an API key's id), for audit
	Scopes       Scopes    // the effective scopes: the credential's within the ceiling
	Ceiling      Scopes    // what a credential of this principal can have at most
	Prefix       string    // canonical KV path prefix, no slash at either end
	Grants       Grants    // keys and roles it may name
	Limit        Limit     // its rate limit
	ExpiresAt    time.Time // zero: does not expire

	// BindCiphertexts binds what AWS KMS encrypts for it to its slug, so that no
	// other principal with the same grants decrypts it.
	BindCiphertexts bool
}

// Valid reports whether p was properly made and has not expired.
func (p *Principal) Valid(now time.Time) bool {
	return p != nil && p.Slug != "" && p.Prefix != "" &&
		(p.ExpiresAt.IsZero() || now.Before(p.ExpiresAt))
}

// ID names the principal in limits, sessions and seals: two credentials of one
// subject share it.
func (p *Principal) ID() string { return p.Prefix }

// Limit is a token bucket: Requests per Window, with Burst calls at once. A
// Burst of 0 is as many as Requests. The zero Limit does not limit.
type Limit struct {
	Requests int
	Window   time.Duration
	Burst    int
}
