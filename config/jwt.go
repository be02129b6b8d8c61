package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// areIssuers takes a JSON list of issuers; what their members hold their user
// checks.
func areIssuers(s string) error {
	var list []struct {
		Issuer     jsontext.Value `json:"issuer"`
		Audience   jsontext.Value `json:"audience"`
		Algorithms jsontext.Value `json:"algorithms"`
		Secret     jsontext.Value `json:"hs256_secret"`
		JWKSFile   jsontext.Value `json:"jwks_file"`
		JWKSURL    jsontext.Value `json:"jwks_url"`
		OIDC       jsontext.Value `json:"oidc"`
		RequireKID jsontext.Value `json:"require_kid"`
	}
	if json.Unmarshal([]byte(s), &list, json.RejectUnknownMembers(true)) != nil || list == nil {
		return errors.New("want a JSON list of objects, each with no other members than issuer, audience, algorithms, " +
			"hs256_secret, jwks_file, jwks_url, oidc and require_kid, and none of them twice")
	}
	return nil
}

// Configured reports whether there is an issuer of whom tokens are accepted.
func (j *JWT) Configured() bool {
	return j.Enabled && (j.Issuer != "" || j.OIDC != "" || !j.Secret.IsZero() || j.JWKSFile != "" || j.JWKSURL != "" || !j.Issuers.IsZero())
}

// isKeyURL takes a URL from which keys may come: nobody between here and there
// can put others in their place.
func isKeyURL(s string) error {
	u, ok := httpURL(s)
	if !ok || u.Scheme != "https" && !isLoopback(u.Hostname()) {
		return errors.New("want an https URL (http only on this machine) without user, query and fragment")
	}
	return nil
}

// jwtAlgorithms are those that a token may be signed with.
var jwtAlgorithms = []string{"HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"}

func isJWTAlgorithm(s string) error {
	if !slices.Contains(jwtAlgorithms, s) {
		return errors.New("want algorithms out of " + strings.Join(jwtAlgorithms, ", "))
	}
	return nil
}

// isJWTSecret takes what is as strong as the digest of HS256.
func isJWTSecret(s string) error {
	if len(s) < 32 {
		return errors.New("want at least 32 bytes, made at random")
	}
	return nil
}

// jwtNotices lists what is permitted of JWTs but hardly wanted.
func jwtNotices(c *Config) (out []string) {
	if !c.JWT.Configured() {
		return nil
	}
	if !c.JWT.ValidateIssuer {
		out = append(out, "JWT_VALIDATE_ISSUER is off: every token that is signed with the issuer's keys is accepted, whatever issuer it names")
	}
	switch {
	case c.JWT.ValidateAudience:
	case len(c.JWT.Audience) > 0:
		out = append(out, "JWT_VALIDATE_AUDIENCE is off, so JWT_AUDIENCE has no effect: a token that the issuer made for any other service opens this one too")
	case c.HTTP.PublicURL == "":
		out = append(out, "JWT_VALIDATE_AUDIENCE is off, and there is neither a JWT_AUDIENCE nor a PUBLIC_URL: a token that the issuer made for any other service opens this one too")
	default:
		out = append(out, "JWT_VALIDATE_AUDIENCE is off: a token that the issuer made for any other service opens this one too; on, it would have to be made for PUBLIC_URL")
	}
	return out
}
