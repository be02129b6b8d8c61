package auth

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Identity is what a verified credential says of its holder: what a principal is
// made from.
type Identity struct {
	Method       Method
	Issuer       string // of a JWT; empty: the operator's own
	Subject      string
	CredentialID string    // see Principal
	Scopes       Scopes    // of the credential
	Grants       Grants    // of its record, besides those of every principal
	ExpiresAt    time.Time // zero: does not expire

	Claims jsontext.Value // of a JWT: the object of its claims
	Names  []string       // of a certificate: its URIs, DNS names and CN, each with "uri:", "dns:" or "cn:" before it

	BindCiphertexts bool // see Principal
}
