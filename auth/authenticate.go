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
	LaunchSubject string           // subject of a stdio process without a key; empty: refused
	Rules         string           // PRINCIPALS: a JSON list of rules, see rule; empty: none
	HomeIssuer    string           // of the operator's own tokens, which no rule may name; empty: none
	Now           func() time.Time // default time.Now

	// Tool and Toolset say whether a rule's entry names a tool or an engine, and
	// whether it names a toolset. Without them, none does.
	Tool, Toolset func(entry string) bool
}

// Authenticator makes principals from credentials. It is safe for concurrent
// use, needs no goroutine and reads no file but the key file, that at most once
// a second.
type Authenticator struct {
	opt   Options
	home  *home
	keys  map[digest]holder // of KeysJSON
	known []Identity        // of KeysJSON, for Explain
	file  *watchedKeys      // nil: no file
	local holder            // of a stdio process without a key
}

// New makes an Authenticator. A key file that is there and not right is an
// error; later, it leaves the keys of before in force (see Check).
func New(opt Options) (a *Authenticator, err error) {
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
	// What is wrong with the rules is told together with what is wrong with keys,
	// which are looked at without rules then.
	rules, wrong := readRules(opt.Rules, h, &opt)
	defer func() {
		if wrong != nil {
			a, err = nil, errors.Join(wrong, err)
		}
	}()
	h.rules = rules
	a = &Authenticator{opt: opt, home: h}
	if opt.APIKeys {
		if a.keys, a.known, err = parseKeysJSON(opt.KeysJSON, h); err != nil {
			return nil, err
		}
		if opt.KeysFile != "" {
			if a.file, err = watchKeys(opt.KeysFile, h); err != nil {
				return nil, err
			}
		}
	}
	a.opt.KeysJSON = secret.Text{} // its digests are enough
	if opt.LaunchSubject != "" {
		a.local, err = h.holder(Identity{Subject: opt.LaunchSubject, Method: MethodLaunch, Scopes: AllScopes()})
		if err != nil {
			return nil, fault.New(fault.Invalid, "the subject of a stdio server: "+fault.From(err).Msg)
		}
	}
	return a, nil
}

// Authenticate gives the principal of a request's headers. The credential is an
// API key, in X-API-Key or as a bearer token. No credential, and one that is
// there and bad in any way, is an error of kind unauthenticated; it never holds
// a part of the credential.
func (a *Authenticator) Authenticate(_ context.Context, h http.Header) (*Principal, error) {
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
	if a.local == (holder{}) {
		return nil, refuse("this process was launched without a credential and without a subject")
	}
	return a.local.principal, a.local.refusal
}

// Check reports what is wrong with the key file, for readiness and logs. While
// it is, the keys that it held before are in force, for a minute.
func (a *Authenticator) Check(context.Context) error {
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
	of := a.keys[d]
	if of == (holder{}) && a.file != nil {
		of = a.file.current().find(keyID(key), &d)
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
