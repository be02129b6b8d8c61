package auth

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// members are the names that may be told in an error about JSON. Any other name
// is somebody's slip, and may well be a key in the wrong place.
var members = map[string]bool{
	"version": true, "name": true, "keys": true, "id": true, "subject": true, "sha256": true, "scopes": true, "grants": true,
	"note": true, "created_at": true, "rotated_at": true, "expires_at": true, "previous": true, "until": true,
	"bind_ciphertexts": true, "transit": true, "database": true, "ssh": true, "kms": true,
	"value": true, "requests": true, "window_seconds": true, "burst": true,
	"issuers": true, "issuer": true, "audience": true, "algorithms": true, "hs256_secret": true, "jwks_file": true,
	"jwks_url": true, "oidc": true, "require_kid": true,
}

// describe says what is wrong with JSON, without a value from it.
func describe(err error) string {
	var syntax *jsontext.SyntacticError
	var meaning *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON, or a name given twice, at byte %d", syntax.ByteOffset)
	case !errors.As(err, &meaning):
		return "not usable"
	case errors.Is(meaning.Err, json.ErrUnknownName):
		return at(meaning.JSONPointer) + "unknown member"
	default:
		return at(meaning.JSONPointer) + "not of the kind that belongs here"
	}
}

// at is a JSON pointer as the beginning of a message, as far as it consists of
// numbers and our own names.
func at(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		index := len(token) <= 5 && strings.Trim(token, "0123456789") == ""
		if !members[token] && !index {
			b.WriteString("/...")
			break
		}
		b.WriteString("/" + token)
	}
	if b.Len() == 0 {
		return ""
	}
	return b.String() + ": "
}
