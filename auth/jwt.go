package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"vault-mcp/fault"
)

// jwts verifies JWTs, as RFC 8725 has it: the issuer's settings say which
// algorithms and keys there are, a token only chooses among them.
type jwts struct {
	home   *home
	now    func() time.Time
	byName map[string]*issuer
	all    []*issuer // the home issuer first

	verified verifiedJWTs
}

// issuer is an Issuer at work.
type issuer struct {
	Issuer
	further   bool // with subjects of its own
	methods   map[string]jwt.SigningMethod
	validator *jwt.Validator
	keys      keySource // nil: the secret is the key
}

// keySource is where the public keys of an issuer come from.
type keySource interface {
	current(context.Context) (*jwks, error)      // the keys in force
	newer(context.Context, *jwks) (*jwks, error) // those after the given ones, or the same
	failure(context.Context) error               // what is wrong with them, for readiness
	close()
}

// verify gives the principal of a JWT.
func (j *jwts) verify(ctx context.Context, token string) (*Principal, error) {
	if len(token) > maxCredential {
		return nil, refuse("the JWT is too long")
	}
	digest := sha256.Sum256([]byte(token))
	if known, ok := j.verified.find(digest); ok && known.principal.Valid(j.now()) {
		if set, err := known.issuer.inForce(ctx); err == nil && set == known.set {
			return known.principal, nil
		}
	}
	t, err := parseJWT(token)
	if err != nil {
		return nil, err
	}
	i := j.byName[t.claims.iss]
	if j.all[0].AnyIssuer {
		i = j.all[0]
	}
	if i == nil {
		return nil, refuse("the JWT names no issuer that this server accepts")
	}
	set, err := i.verify(ctx, t)
	if err != nil {
		return nil, err
	}
	p, err := j.principal(i, t)
	if err == nil {
		j.verified.keep(digest, verifiedJWT{p, i, set})
	}
	return p, err
}

// principal makes the principal of a token that was verified.
func (j *jwts) principal(i *issuer, t *parsedJWT) (*Principal, error) {
	scopes, err := t.claims.granted()
	if err != nil {
		return nil, err
	}
	id := Identity{
		Method: MethodJWT, Subject: t.claims.sub, CredentialID: t.claims.credentialID(), Scopes: scopes,
		ExpiresAt: t.claims.exp.Add(leeway), Claims: t.claims.raw,
	}
	if i.further {
		id.Issuer = i.Name
	}
	p, err := j.home.principal(id)
	switch {
	case errors.Is(err, fault.Invalid):
		return nil, refuse("the JWT's subject cannot be used: " + fault.From(err).Msg)
	case err != nil:
		return nil, err
	case !p.Valid(j.now()):
		return nil, refuse("the JWT has expired")
	}
	return p, nil
}

// failure says what is wrong with the keys of the home issuer, and of the further
// ones.
func (j *jwts) failure(ctx context.Context) (home, further error) {
	var wrong []error
	for n, i := range j.all {
		if i.keys == nil {
			continue
		}
		if err := i.keys.failure(ctx); err != nil {
			if !i.further {
				home = fault.Wrap(fault.Unavailable, "the issuer of JWTs: "+fault.From(err).Msg, err)
				continue
			}
			wrong = append(wrong, fault.Wrap(fault.Unavailable, fmt.Sprintf("issuer %d of ISSUERS: %s", n+1-j.homes(), fault.From(err).Msg), err))
		}
	}
	return home, errors.Join(wrong...)
}

// knows reports whether tokens of a further issuer are accepted.
func (j *jwts) knows(name string) bool {
	return j != nil && slices.ContainsFunc(j.all, func(i *issuer) bool { return i.further && i.Name == name })
}

// homes is how many issuers are before the further ones.
func (j *jwts) homes() int {
	if j.all[0].further {
		return 0
	}
	return 1
}

// close ends what the sources of keys have under way.
func (j *jwts) close() {
	if j == nil {
		return
	}
	for _, i := range j.all {
		if i.keys != nil {
			i.keys.close()
		}
	}
}

// inForce is the issuer's key set; an issuer with a secret has none.
func (i *issuer) inForce(ctx context.Context) (*jwks, error) {
	if i.keys == nil {
		return nil, nil
	}
	return i.keys.current(ctx)
}

// verify holds a token against an issuer: first the signature, then what the
// claims say. It returns the key set that verified it.
func (i *issuer) verify(ctx context.Context, t *parsedJWT) (*jwks, error) {
	method := i.methods[t.header.alg]
	switch {
	case t.claims.sub == "":
		return nil, refuse("the JWT has no subject")
	case method == nil:
		return nil, refuse("the JWT is signed with no algorithm that is accepted of its issuer")
	case i.RequireKID && !t.header.hasKID:
		return nil, refuse("the JWT does not name its key, which its issuer's have to")
	}
	set, err := i.verifySignature(ctx, method, t)
	if err != nil {
		return nil, err
	}
	switch err := i.validator.Validate(&t.claims); {
	case err == nil:
		return set, nil
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, refuse("the JWT has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return nil, refuse("the JWT is not valid yet")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return nil, refuse("the JWT is for another audience than this server")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return nil, refuse("the JWT lacks one of the claims iss, aud and exp")
	default:
		return nil, refuse("the JWT's claims are not those of its issuer")
	}
}

// verifySignature tries the keys that the token may be signed with. One that they
// lack may be new.
func (i *issuer) verifySignature(ctx context.Context, method jwt.SigningMethod, t *parsedJWT) (*jwks, error) {
	set, err := i.inForce(ctx)
	if err != nil {
		return nil, err
	}
	if i.keys == nil {
		if method.Verify(t.signed, t.signature, []byte(i.Secret.Reveal())) != nil {
			return nil, refuse("the JWT's signature is not its issuer's")
		}
		return nil, nil
	}
	found, err := i.tryKeys(set, method, t)
	if found || err != nil {
		return set, err
	}
	after, err := i.keys.newer(ctx, set)
	if err != nil {
		return nil, err
	}
	if after != set { // one look for newer keys is enough: they change while we look
		found, err = i.tryKeys(after, method, t)
	}
	if !found && err == nil {
		err = refuse("the JWT is signed with a key that its issuer does not have")
	}
	return after, err
}

// tryKeys looks for the key of a token in a set. The error says that it is there
// and is not the one.
func (i *issuer) tryKeys(set *jwks, method jwt.SigningMethod, t *parsedJWT) (found bool, err error) {
	keys := set.find(t.header.alg, &t.header)
	if len(keys) > maxTrials {
		return false, refuse("the JWT fits too many of its issuer's keys; want it to name one")
	}
	for _, key := range keys {
		if method.Verify(t.signed, t.signature, key) == nil {
			return true, nil
		}
	}
	if t.header.hasKID && len(keys) > 0 {
		return false, refuse("the JWT's signature is not its issuer's")
	}
	return false, nil
}

// fileKeys are the keys of a file.
type fileKeys struct{ file *Watched[*jwks] }

func (f fileKeys) current(context.Context) (*jwks, error) { return f.inForce(f.file.Current()) }

func (f fileKeys) newer(context.Context, *jwks) (*jwks, error) { return f.inForce(f.file.latest()) }

func (f fileKeys) inForce(set *jwks) (*jwks, error) {
	if set == nil {
		return nil, fault.New(fault.Unavailable, "the file of the JWT issuer's keys cannot be used")
	}
	return set, nil
}

func (f fileKeys) failure(context.Context) error {
	if err := f.file.Failure(); err != nil {
		return fault.Wrap(fault.Unavailable, "the file of its keys: "+fault.From(err).Msg, err)
	}
	return nil
}

func (fileKeys) close() {}
