package auth

import (
	"context"
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
	LaunchSubject string           // subject of a stdio process without a key; empty: refused
	MTLS          *MTLSOptions     // nil: certificates do not count
	Now           func() time.Time // default time.Now
}

// Authenticator makes principals from credentials. It is safe for concurrent
// use, needs no goroutine and reads no file but the key file, that at most once
// a second.
type Authenticator struct {
	opt   Options
	keys  map[digest]*Principal // of KeysJSON
	file  *watchedKeys          // nil: no file
	mtls  *mtls                 // nil: certificates do not count
	local *Principal            // of a stdio process without a key
}

// New makes an Authenticator. A key file that is there and not right is an
// error; later, it leaves the keys of before in force (see Check).
func New(opt Options) (*Authenticator, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	h, err := newHome(opt.Prefix, opt.Grants, opt.Limit)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{opt: opt}
	if opt.APIKeys {
		if a.keys, err = parseKeysJSON(opt.KeysJSON, h); err != nil {
			return nil, err
		}
		if opt.KeysFile != "" {
			if a.file, err = watchKeys(opt.KeysFile, h); err != nil {
				return nil, err
			}
		}
	}
	a.opt.KeysJSON = secret.Text{} // its digests are enough
	if opt.MTLS != nil {
		if a.mtls, err = newMTLS(*opt.MTLS, h, opt.Now); err != nil {
			return nil, err
		}
	}
	if opt.LaunchSubject != "" {
		a.local, err = h.principal(Identity{Subject: opt.LaunchSubject, Method: MethodLaunch, Scopes: AllScopes()})
		if err != nil {
			return nil, fault.New(fault.Invalid, "the subject of a stdio server: "+fault.From(err).Msg)
		}
	}
	return a, nil
}

// Authenticate gives the principal of a request. The credential is an API key,
// in X-API-Key or as a bearer token, else a client certificate (see mtls). No
// credential, and one that is there and bad in any way, is an error of kind
// unauthenticated; it never holds a part of the credential.
func (a *Authenticator) Authenticate(_ context.Context, p Presented) (*Principal, error) {
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
	key, err := credential(h)
	if err != nil {
		return nil, err
	}
	return a.verify(key)
}

// Launch gives the principal of a stdio process: that of its key, checked anew
// on each call, else the local one.
func (a *Authenticator) Launch(context.Context) (*Principal, error) {
	if !a.opt.LaunchKey.IsZero() {
		return a.verify(a.opt.LaunchKey.Reveal())
	}
	if a.local == nil {
		return nil, refuse("this process was launched without a credential and without a subject")
	}
	return a.local, nil
}

// Check reports what is wrong with the key file or the files of client
// authorities, for readiness and logs. While it is, what they held before is in
// force, for a minute.
func (a *Authenticator) Check(context.Context) error {
	if err := a.mtls.check(); err != nil {
		return err
	}
	if a.file == nil {
		return nil
	}
	return a.file.failure()
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
	p := a.keys[d]
	if p == nil && a.file != nil {
		p = a.file.current().find(keyID(key), &d)
	}
	switch {
	case p == nil:
		return nil, refuse("there is no such API key")
	case !p.Valid(a.opt.Now()):
		return nil, refuse("the API key has expired")
	}
	return p, nil
}

// credential takes the API key out of the headers.
func credential(h http.Header) (string, error) {
	keys, bearers := h["X-Api-Key"], h["Authorization"]
	switch {
	case len(keys) == 0 && len(bearers) == 0:
		return "", refuse("a credential is needed: an API key in X-API-Key, or as a bearer token in Authorization")
	case len(keys) > 1 || len(bearers) > 1:
		return "", refuse("a credential header stands twice")
	}
	var key, token string
	if len(keys) == 1 {
		key = keys[0]
		switch {
		case key == "":
			return "", refuse("X-API-Key is empty")
		case len(key) > maxCredential:
			return "", refuse("X-API-Key is too long")
		case !secret.IsHeaderText(key):
			return "", refuse("X-API-Key is not one word of printable ASCII")
		}
	}
	if len(bearers) == 1 {
		var err error
		if token, err = bearer(bearers[0]); err != nil {
			return "", err
		}
		if strings.Count(token, ".") == 2 {
			return "", refuse("the bearer token has the three parts of a JWT, which this server does not accept; use an API key")
		}
	}
	switch {
	case key == "":
		return token, nil
	case token != "" && token != key:
		return "", refuse("X-API-Key and Authorization hold different credentials; send one")
	}
	return key, nil
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
