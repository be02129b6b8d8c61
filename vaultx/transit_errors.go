package vaultx

import (
	"errors"
	"fmt"
	"net/http"

	"vault-mcp/fault"
)

// errMalformed is the cause of a refusal that is certain to be about the form
// of a signature.
var errMalformed = errors.New("vaultx: what was to be verified is no signature")

func isMalformed(err error) bool { return errors.Is(err, errMalformed) }

// transitRefusal is what a refusal of the transit engine means, known by some
// fixed words of Vault's text; OpenBao's has them too.
type transitRefusal struct {
	words string
	field string // the argument that it is about; empty: no single one
	kind  fault.Kind
	msg   string
}

// transitRefusals are those of every operation. Vault answers 400 to some and
// 500 to others that are as much the caller's.
var transitRefusals = []transitRefusal{
	{"key not found", "/key", fault.NotFound, "there is no such key; an operator must make it"},
	{"unknown key type", "/key", fault.NotFound, "there is no such key; an operator must make it"},
	{"error deriving key", "/key", fault.Invalid, "is a derived key, which cannot sign or verify here, since that would need a context"},
	{"missing 'context' for key derivation", "/context", fault.Invalid, "is required for this key, which is a derived one"},
	{"associated_data' provided for non-AEAD", "/associated_data", fault.Invalid, "is not possible with this key's type"},
	{"does not support signing", "/key", fault.Invalid, "cannot sign or verify: it is of a type for encryption only"},
	{"encryption not supported for key type", "/key", fault.Invalid, "cannot encrypt: it is of a type for signatures only"},
	{"decryption not supported for key type", "/key", fault.Invalid, "cannot decrypt: it is of a type for signatures only"},
	{"is higher than the latest key version", "/key_version", fault.Invalid, "is higher than the key's newest version"},
	{"is less than the minimum encryption key version", "/key_version", fault.Invalid, "is lower than the oldest version that may encrypt or sign"},
	{"only Pure Ed25519 signatures supported", "", fault.Invalid, "an ed25519 key hashes in its own way: leave out hash_algorithm and prehashed"},
	{"failed to RSA encrypt", "/plaintext", fault.Invalid, "is longer than an RSA key of this size encrypts"},
	{"failed to RSA decrypt", "/ciphertext", fault.Invalid, "was not made by this key"},
	{"message too long for RSA key size", "/input", fault.Invalid, "is longer than an RSA key of this size signs"},
	{"message authentication failed", "/ciphertext", fault.Invalid, "does not decrypt: it was altered, or made by another key, or with another context or associated_data"},
	{"invalid ciphertext: version is too new", "/ciphertext", fault.Invalid, "is of a version that the key does not have"},
	{"disallowed by policy (too old)", "", fault.Invalid, "it was made by a version of the key that is not accepted any more"},
	{"invalid ciphertext", "/ciphertext", fault.Invalid, "is not one of this key"},
}

// malformedSignature are the whole texts with which Vault refuses a signature
// for its form. It never answers so to one that it has made itself.
var malformedSignature = []string{
	"invalid signature: no prefix",
	"invalid signature: wrong number of fields",
	"invalid signature: version number could not be decoded",
	"invalid signature: version is too new",
	"invalid base64 signature value",
	"supplied signature is invalid",
	"supplied signature contains extra data",
}

// transitRefused classifies a refusal of the transit engine. It is nil for one
// that has none of the words, and for other engines.
func transitRefused(op Operation, o outcome, cause error) *fault.Error {
	if o.status != http.StatusBadRequest && o.status != http.StatusInternalServerError || !op.Template.at("transit") {
		return nil
	}
	if o.status == http.StatusBadRequest && op.Template.names("verify") {
		for _, text := range malformedSignature {
			if o.says(`["` + text + `"]`) {
				f := fault.Field("/signature", "is not a signature of this engine")
				f.Err = fmt.Errorf("%w: %w", errMalformed, cause)
				return f
			}
		}
	}
	for _, r := range transitRefusals {
		if !o.says(r.words) {
			continue
		}
		f := fault.Wrap(r.kind, r.msg, cause)
		if r.field != "" {
			f = f.With("field", r.field)
		}
		if r.field != "" && r.kind == fault.Invalid {
			f.Msg = r.field + ": " + r.msg
		}
		return f
	}
	return nil
}

// refusedMessage is what is said of a refusal whose words are not known.
func refusedMessage(op Operation) string {
	if !op.Template.at("transit") {
		return msgRefused
	}
	switch {
	case op.Template.names("decrypt"), op.Template.names("rewrap"):
		return "Vault refused to decrypt this with this key"
	case op.Template.names("encrypt"):
		return "Vault refused to encrypt this with this key"
	case op.Template.names("sign"), op.Template.names("verify"):
		return "Vault refused to sign or verify this with this key in this way"
	}
	return msgRefused
}
