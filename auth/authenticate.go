package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// maxCredential is the longest credential that is looked at, in bytes.
const maxCredential = 8 << 10

// Options are an Authenticator's settings.
type Options struct {
	Prefix        string           // path below which each principal has its own
	Grants        Grants           // of every principal, besides its own objects
	Limit         Limit            // of every principal
	APIKeys       bool             // accept API keys
	KeysJSON      secret.Text      // keys in the clear, see parseKeysJSON
	KeysFile      string           // file of hashed keys; empty: none
	LaunchKey     secret.Text      // API key as which a stdio process calls
	JWT           JWTOptions       // whose JWTs are accepted
	LaunchSubject string           // subject of a stdio process without a key; empty: refused
	Rules         string           // PRINCIPALS: a JSON list of rules, see rule; empty: none
	HomeIssuer    string           // of the operator's own tokens, which no rule may name; empty: none
	MTLS          *MTLSOptions     // nil: certificates do not count
	Now           func() time.Time // default time.Now

	// Tool and Toolset say whether a rule's entry names a tool or an engine, and
	// whether it names a toolset. Without them, none does.
	Tool, Toolset func(entry string) bool
}

// Authenticator makes principals from credentials. It is safe for concurrent
// use. It reads files of keys at most once a second, and has a goroutine only
// while it fetches the keys of an issuer; Close ends that.
type Authenticator struct {
	opt   Options
	home  *home
	keys  map[digest]holder // of KeysJSON
	known []Identity        // of KeysJSON
	file  *Watched[*keySet] // nil: no file
	jwts  *jwts             // nil: no JWT is accepted
	mtls  *mtls             // nil: certificates do not count
	local holder            // of a stdio process without a key
}

// New makes an Authenticator. It needs no network. A key file that is there and
// not right is an error; later, it leaves the keys of before in force (see
// Check). The error joins what is wrong with each part.
func New(opt Options) (*Authenticator, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	nothing := func(string) bool { return false }
	if opt.Tool == nil {
		opt.Tool = nothing
	}
	if opt.Toolset == nil {
		opt.Toolset = nothing
	}
	h, err := newHome(opt.Prefix, opt.Grants, opt.Limit)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{opt: opt, home: h}
	a.opt.KeysJSON = secret.Text{} // its digests are enough
	if home := opt.JWT.Home; home != nil {
		opt.HomeIssuer = home.Name
	}
	rules, err := readRules(opt.Rules, h, &opt)
	h.rules = rules
	mistakes := []error{err, a.openKeys(opt, h), opt.checkLaunch()}
	if opt.LaunchSubject != "" {
		a.local, err = h.holder(launchIdentity(opt.LaunchSubject))
		if err != nil {
			mistakes = append(mistakes, fault.New(fault.Invalid, "the subject of a stdio server: "+fault.From(err).Msg))
		}
	}
	a.jwts, err = newJWTs(opt.JWT, h, opt.Now)
	mistakes = append(mistakes, err)
	if opt.MTLS != nil {
		a.mtls, err = newMTLS(*opt.MTLS, h, opt.Now)
		mistakes = append(mistakes, err)
	}
	if err := errors.Join(mistakes...); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// openKeys reads the API keys of both sources.
func (a *Authenticator) openKeys(opt Options, h *home) (err error) {
	if !opt.APIKeys {
		return nil
	}
	if a.keys, a.known, err = parseKeysJSON(opt.KeysJSON, h); err == nil && opt.KeysFile != "" {
		a.file, err = watchKeys(opt.KeysFile, h)
	}
	return err
}

// Close ends the fetching of keys.
func (a *Authenticator) Close() { a.jwts.close() }

// Authenticate gives the principal of a request. The credential is an API key, in
// X-API-Key or as a bearer token, a JWT as a bearer token, else a client
// certificate (see mtls). No credential, and one that is there and bad in any way,
// is an error of kind unauthenticated; it never holds a part of the credential. A
// JWT whose issuer's keys cannot be had is an error of kind unavailable.
func (a *Authenticator) Authenticate(ctx context.Context, p Presented) (*Principal, error) {
	h := p.Header
	cert, err := a.mtls.read(p) // a bad one is an error beside a good key, too
	if err != nil {
		return nil, err
	}
	if len(h["X-Api-Key"]) == 0 && len(h["Authorization"]) == 0 {
		switch {
		case cert != nil:
			return a.mtls.principal(cert)
		case a.mtls.pretended(p):
			return nil, refuse("headers about a client certificate count only from TRUSTED_PROXIES, and there is no other credential")
		}
	}
	key, token, err := credential(h)
	switch {
	case err != nil:
		return nil, err
	case token != "":
		return a.verifyJWT(ctx, token)
	}
	return a.verify(key)
}

// verifyJWT gives the principal of a bearer token in the form of a JWT.
func (a *Authenticator) verifyJWT(ctx context.Context, token string) (*Principal, error) {
	if a.jwts == nil {
		return nil, refuse("the bearer token has the three parts of a JWT, which this server does not accept; use an API key")
	}
	return a.jwts.verify(ctx, token)
}

// Launch gives the principal of a stdio process: that of its key or JWT, checked
// anew on each call, else the local one.
func (a *Authenticator) Launch(ctx context.Context) (*Principal, error) {
	switch {
	case !a.opt.LaunchKey.IsZero():
		return a.verify(a.opt.LaunchKey.Reveal())
	case a.opt.JWT.launches():
		token, err := a.opt.JWT.launch()
		if err != nil {
			return nil, err
		}
		return a.verifyJWT(ctx, token)
	}
	if a.local == (holder{}) {
		return nil, refuse("this process was launched without a credential and without a subject")
	}
	return a.local.principal, a.local.refusal
}

// Check reports what is wrong with the files of keys and of client authorities,
// for readiness and logs, and which issuer's keys cannot be had. While a file is
// wrong, the keys that it held before are in force, for a minute; keys from a URL
// are for a day after they were last fetched, and that is no failure yet. A
// further issuer, of which another may be the operator, takes nobody else out of
// service: what is wrong with those alone is degraded.
func (a *Authenticator) Check(ctx context.Context) error {
	wrong := []error{a.mtls.check()}
	if a.file != nil {
		wrong = append(wrong, a.file.Failure())
	}
	var further error
	if a.jwts != nil {
		var home error
		home, further = a.jwts.failure(ctx)
		wrong = append(wrong, home)
	}
	switch own := errors.Join(wrong...); {
	case own != nil:
		return errors.Join(own, further)
	case further != nil:
		return fault.Degraded(fault.Wrap(fault.Unavailable, fault.From(further).Msg, further))
	}
	return nil
}

// Warnings are about rules that can match nobody, one sentence each.
func (a *Authenticator) Warnings() (list []string) {
	for _, r := range a.home.rules {
		if r.issuer != "" && !a.jwts.knows(r.issuer) {
			list = append(list, "PRINCIPALS: rule "+r.label()+" is about an issuer whose tokens are not accepted (ISSUERS), so it matches nobody")
		}
	}
	return list
}

// verify gives the principal of an API key. Keys of the operator's own are
// found by digest, which tells nothing about a key by the time it takes; keys
// of ours by id, and then compared in constant time.
func (a *Authenticator) verify(key string) (*Principal, error) {
	switch {
	case !a.opt.APIKeys:
		return nil, refuse("this server does not accept API keys")
	case len(key) > maxKey:
		return nil, refuse("the API key is too long")
	}
	d := digestOf(key)
	of := a.keys[d]
	if of == (holder{}) && a.file != nil {
		of = a.file.Current().find(keyID(key), &d)
	}
	switch {
	case of == (holder{}):
		return nil, refuse("there is no such API key")
	case of.refusal != nil:
		return nil, of.refusal
	case !of.principal.Valid(a.opt.Now()):
		return nil, refuse("the API key has expired")
	}
	return of.principal, nil
}

// credential takes the API key or the JWT out of the headers; the other one is
// empty.
func credential(h http.Header) (key, token string, err error) {
	keys, bearers := h["X-Api-Key"], h["Authorization"]
	switch {
	case len(keys) == 0 && len(bearers) == 0:
		return "", "", refuse("a credential is needed: an API key in X-API-Key, or an API key or JWT as a bearer token in Authorization")
	case len(keys) > 1 || len(bearers) > 1:
		return "", "", refuse("a credential header stands twice")
	}
	if len(keys) == 1 {
		key = keys[0]
		switch {
		case key == "":
			return "", "", refuse("X-API-Key is empty")
		case len(key) > maxCredential:
			return "", "", refuse("X-API-Key is too long")
		case !secret.IsHeaderText(key):
			return "", "", refuse("X-API-Key is not one word of printable ASCII")
		}
	}
	if len(bearers) == 0 {
		return key, "", nil
	}
	token, err = bearer(bearers[0])
	switch {
	case err != nil:
		return "", "", err
	case key != "" && (token != key || isJWT(token)):
		return "", "", refuse("X-API-Key and Authorization hold different credentials; send one")
	case isJWT(token):
		return "", token, nil
	}
	return token, "", nil
}

// bearer takes the token out of an Authorization header.
func bearer(value string) (string, error) {
	if len(value) > maxCredential {
		return "", refuse("the Authorization header is too long")
	}
	scheme, token, _ := strings.Cut(value, " ")
	token = strings.TrimLeft(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", refuse("the Authorization header has another scheme than Bearer")
	case token == "" || !secret.IsHeaderText(token):
		return "", refuse("the bearer token is empty or not one word of printable ASCII")
	}
	return token, nil
}

func refuse(why string) error { return fault.New(fault.Unauthenticated, why) }
