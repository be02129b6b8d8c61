package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"vault-mcp/secret"
)

// parsedJWT is a token taken apart: what it says, none of which is true before
// its signature is verified. Header and claims are decoded once, here, so that
// nobody can read them in another way than what was checked.
type parsedJWT struct {
	signed    string // what the signature is over
	signature []byte
	header    jwtHeader
	claims    jwtClaims
}

// jwtHeader is what we heed of a header. What could bring a key along, or say
// where to fetch one (jwk, jku, x5c, x5u), is not among it.
type jwtHeader struct {
	alg    string
	kid    string
	hasKID bool
}

// jwtClaims are the claims that we heed. They are golang-jwt's Claims, so that
// its validator compares them with what the issuer's settings want.
type jwtClaims struct {
	raw           jsontext.Value // all of them
	iss, sub, jti string
	aud           jwt.ClaimStrings
	exp, nbf, iat *jwt.NumericDate
	scope, scopes []string // of the claim of that name; nil: not there
}

// jwtEncoding refuses padding, line breaks, the standard alphabet, and bits that
// mean nothing: one token has one spelling.
var jwtEncoding = base64.RawURLEncoding.Strict()

// isJWT reports whether a bearer token is to be a JWT: three parts. A JWE has
// five.
func isJWT(token string) bool { return strings.Count(token, ".") == 2 }

// parseJWT takes a token apart. Its length is bounded by then.
func parseJWT(token string) (*parsedJWT, error) {
	if !isJWT(token) || !secret.IsHeaderText(token) {
		return nil, refuse("the JWT has not the form of one: three parts of base64url with points between")
	}
	head, rest, _ := strings.Cut(token, ".")
	body, signature, _ := strings.Cut(rest, ".")
	header, err1 := jwtEncoding.DecodeString(head)
	claims, err2 := jwtEncoding.DecodeString(body)
	sig, err3 := jwtEncoding.DecodeString(signature)
	if errors.Join(err1, err2, err3) != nil {
		return nil, refuse("a part of the JWT is not base64url without padding")
	}
	t := &parsedJWT{signed: token[:len(head)+1+len(body)], signature: sig}
	if err := eachMember(header, headerMembers, t.header.take); err != nil {
		return nil, refuse("the JWT's header: " + err.Error())
	}
	t.claims.raw = claims
	if err := eachMember(claims, claimMembers, t.claims.take); err != nil {
		return nil, refuse("the JWT's claims: " + err.Error())
	}
	return t, nil
}

// The names that we heed, and those whose presence we refuse.
var (
	headerMembers = []string{"alg", "kid", "typ", "crit", "b64", "zip", "enc"}
	claimMembers  = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "scopes"}
)

// eachMember hands over the members of a JSON object in strict JSON. A name
// given twice is an error, at any depth; and so is one that differs from a name
// that counts by case only, with which another reader could take it for that.
func eachMember(object []byte, names []string, take func(name string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewReader(object))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return errors.New("want a JSON object")
	}
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return errors.New("not JSON, or a name given twice")
		}
		name := token.String()
		for _, known := range names {
			if name != known && strings.EqualFold(name, known) {
				return errors.New(known + " in another case")
			}
		}
		value, err := dec.ReadValue()
		if err != nil {
			return errors.New("not JSON, or a name given twice")
		}
		if err := take(name, value); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return errors.New("the object does not end")
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return nil
}

func (h *jwtHeader) take(name string, value jsontext.Value) (err error) {
	switch name {
	case "alg":
		h.alg, err = memberText(name, value)
	case "kid":
		h.kid, err = memberText(name, value)
		h.hasKID = true
	case "typ":
		var typ string
		typ, err = memberText(name, value)
		typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
		if err == nil && typ != "jwt" && typ != "at+jwt" {
			err = errors.New("typ is neither JWT nor at+jwt")
		}
	case "crit", "b64", "zip", "enc":
		err = errors.New(name + " asks for what this server does not do")
	}
	return err
}

func (c *jwtClaims) take(name string, value jsontext.Value) (err error) {
	switch name {
	case "iss":
		c.iss, err = memberText(name, value)
	case "sub":
		c.sub, err = memberText(name, value)
	case "jti":
		c.jti, err = memberText(name, value)
	case "aud":
		c.aud, err = memberTexts(name, value)
	case "exp":
		c.exp, err = memberTime(name, value)
	case "nbf":
		c.nbf, err = memberTime(name, value)
	case "iat":
		c.iat, err = memberTime(name, value)
	case "scope":
		c.scope, err = memberWords(name, value)
	case "scopes":
		c.scopes, err = memberWords(name, value)
	}
	return err
}

// memberText takes a text that is not empty.
func memberText(name string, value jsontext.Value) (string, error) {
	if value.Kind() == '"' {
		text, err := jsontext.AppendUnquote(nil, value)
		if err == nil && len(text) > 0 {
			return string(text), nil
		}
	}
	return "", errors.New(name + " is not a text, or an empty one")
}

// memberTexts takes a text or a list of texts.
func memberTexts(name string, value jsontext.Value) ([]string, error) {
	if value.Kind() != '[' {
		text, err := memberText(name, value)
		return []string{text}, err
	}
	list := []string{}
	dec := jsontext.NewDecoder(bytes.NewReader(value))
	_, _ = dec.ReadToken() // the bracket
	for dec.PeekKind() != ']' {
		item, err := dec.ReadValue()
		if err != nil {
			return nil, errors.New(name + " is not a list of texts")
		}
		text, err := memberText(name, item)
		if err != nil {
			return nil, errors.New(name + " is not a list of texts, none of them empty")
		}
		list = append(list, text)
	}
	return list, nil
}

// memberWords takes a list of texts, or a text of words with blanks between,
// which may be empty.
func memberWords(name string, value jsontext.Value) ([]string, error) {
	if value.Kind() == '[' {
		return memberTexts(name, value)
	}
	if string(value) == `""` {
		return []string{}, nil
	}
	text, err := memberText(name, value)
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }), err
}

// lastTime is the end of the year 9999, in seconds: what is later is in another
// unit, or no time.
const lastTime = 253402300799

// memberTime takes a NumericDate: seconds since 1970, which may have a fraction.
func memberTime(name string, value jsontext.Value) (*jwt.NumericDate, error) {
	if value.Kind() == '0' {
		seconds, err := strconv.ParseFloat(string(value), 64)
		if err == nil && seconds >= 0 && seconds <= lastTime {
			whole, part := math.Modf(seconds)
			return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(part*1e9))}, nil
		}
	}
	return nil, errors.New(name + " is not a time in seconds since 1970")
}

// granted are the scopes that a token gives. A token may carry scopes of other
// services and of its protocol (openid), so an unknown one gives nothing and is
// no mistake; but two claims that differ are one.
func (c *jwtClaims) granted() (Scopes, error) {
	list := c.scope
	if list == nil {
		list = c.scopes
	}
	set := knownScopes(list)
	if c.scope != nil && c.scopes != nil {
		other := knownScopes(c.scopes)
		for _, s := range append(set, other...) {
			if !set.has(s) || !other.has(s) {
				return nil, refuse("the JWT's claims scope and scopes say different things; want one of them")
			}
		}
	}
	return set, nil
}

func knownScopes(list []string) Scopes {
	set := Scopes{}
	for _, text := range list {
		if s, err := ParseScopes([]string{text}); err == nil && !set.has(s[0]) {
			set = append(set, s[0])
		}
	}
	return set
}

// maxCredentialID bounds the name of a credential, which stands in every record.
const maxCredentialID = 64

// credentialID is the token's own id, where it is fit to stand in records.
func (c *jwtClaims) credentialID() string {
	odd := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }
	if len(c.jti) > maxCredentialID || strings.ContainsFunc(c.jti, odd) {
		return ""
	}
	return c.jti
}

// The interface that golang-jwt's validator wants.

func (c *jwtClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *jwtClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat, nil }
func (c *jwtClaims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *jwtClaims) GetIssuer() (string, error)                   { return c.iss, nil }
func (c *jwtClaims) GetSubject() (string, error)                  { return c.sub, nil }
func (c *jwtClaims) GetAudience() (jwt.ClaimStrings, error)       { return c.aud, nil }
