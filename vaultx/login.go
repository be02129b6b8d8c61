package vaultx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Login says how the server gets its Vault token. What a method has no use for
// is ignored; the settings tell the operator of it.
type Login struct {
	Method       string      // token, approle, kubernetes, jwt or cert; "": token
	Mount        string      // of the auth method; "": the method's name
	Role         string      // kubernetes, jwt, cert; approle: of a wrapped secret id
	RoleID       secret.Text // approle
	SecretID     secret.Text // approle
	SecretIDFile string      // approle: read at each login, in place of SecretID
	Wrapped      bool        // approle: the secret id is a wrapping token, whatever it looks like
	JWTFile      string      // kubernetes and jwt: read at each login
	TokenFile    string      // token: read again when it changes, in place of Config.Token
}

// Methods of Login.
const (
	LoginToken      = "token"
	LoginAppRole    = "approle"
	LoginKubernetes = "kubernetes"
	LoginJWT        = "jwt"
	LoginCert       = "cert"
)

// What is said of logins that fail. None of it comes from Vault.
const (
	msgLogin     = "the server cannot log in to Vault: what it logs in with is not accepted; an operator must check VAULT_AUTH_METHOD and its credentials"
	msgNoLogin   = "the server cannot log in to Vault: there is no such auth method at VAULT_AUTH_MOUNT"
	msgNoToken   = "the server cannot log in to Vault: Vault gave no token; the login may want a second factor"
	msgUsed      = "the wrapped secret id was unwrapped already, or has expired: if nobody else was meant to, find out who did, and give a new one in VAULT_SECRET_ID"
	msgElsewhere = "the wrapped secret id does not come from the AppRole that VAULT_AUTH_MOUNT and VAULT_AUTH_ROLE name, so it was not unwrapped: somebody may have replaced it"
)

// deniedError marks a login that Vault judged, so that another of the same kind
// would come to the same.
type deniedError struct{ error }

func (d deniedError) Unwrap() error { return d.error }

// grant is a token, as Vault gave or extended it.
type grant struct {
	token     secret.Text
	ttl       time.Duration // 0: does not end
	renewable bool
}

// login makes the requests of one method. One request is made at a time.
type login struct {
	client *Client
	cfg    Login
	op     Operation

	wrapped  secret.Text // the wrapping token that was tried last
	secretID secret.Text // what was under it
	spoilt   error       // why there is nothing
}

var loginPath = MustTemplate("auth/{mount...}/login")

// newLogin holds a login against the rules; the error joins all mistakes. It is
// nil for the method token.
func newLogin(c *Client, cfg Login) (*login, error) {
	var mistakes []error
	needs := func(ok bool, text string) {
		if !ok {
			mistakes = append(mistakes, errors.New(text))
		}
	}
	switch cfg.Method {
	case "", LoginToken:
		return nil, nil
	case LoginAppRole:
		needs(!cfg.RoleID.IsZero(), "VAULT_ROLE_ID: is missing; VAULT_AUTH_METHOD=approle needs it")
		needs(!cfg.SecretID.IsZero() || cfg.SecretIDFile != "", "VAULT_SECRET_ID: is missing; VAULT_AUTH_METHOD=approle needs it")
	case LoginKubernetes:
		needs(cfg.Role != "", "VAULT_AUTH_ROLE: is missing; VAULT_AUTH_METHOD=kubernetes needs it")
		needs(cfg.JWTFile != "", "VAULT_JWT_FILE: is missing; VAULT_AUTH_METHOD=kubernetes needs it")
	case LoginJWT:
		needs(cfg.JWTFile != "", "VAULT_JWT_FILE: is missing; VAULT_AUTH_METHOD=jwt needs it")
	case LoginCert:
		needs(c.cfg.ClientCert != "", "VAULT_CLIENT_CERT: is missing; VAULT_AUTH_METHOD=cert needs it and VAULT_CLIENT_KEY")
		needs(c.base.Scheme == "https", "VAULT_ADDR: VAULT_AUTH_METHOD=cert needs https")
	default:
		return nil, errors.New("VAULT_AUTH_METHOD: want token, approle, kubernetes, jwt or cert")
	}
	if cfg.Mount == "" {
		cfg.Mount = cfg.Method
	}
	mount, err := NormalizeMount(cfg.Mount)
	if err != nil {
		mistakes = append(mistakes, fmt.Errorf("VAULT_AUTH_MOUNT: %s", fault.From(err).Msg))
	}
	cfg.Mount = mount
	if cfg.Role != "" {
		if err := CheckName(cfg.Role); err != nil {
			mistakes = append(mistakes, fmt.Errorf("VAULT_AUTH_ROLE: %s", fault.From(err).Msg))
		}
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	op, err := NewOperation("update", loginPath, map[string]string{"mount": mount})
	if err != nil {
		return nil, fmt.Errorf("VAULT_AUTH_MOUNT: %s", fault.From(err).Msg)
	}
	return &login{client: c, cfg: cfg, op: op}, nil
}

// obtain logs in. An error is a *fault.Error.
func (l *login) obtain(ctx context.Context) (grant, error) {
	body, err := l.credentials(ctx)
	if err != nil {
		return grant{}, err
	}
	resp, err := l.client.askWith(l.op, secret.Text{}).Do(ctx, Request{Body: body})
	if err != nil {
		return grant{}, judged(err, msgLogin)
	}
	return grantOf(resp)
}

// credentials are what the method wants to see.
func (l *login) credentials(ctx context.Context) (any, error) {
	switch l.cfg.Method {
	case LoginAppRole:
		id, err := l.currentSecretID(ctx)
		return struct {
			RoleID   secret.Text `json:"role_id"`
			SecretID secret.Text `json:"secret_id"`
		}{l.cfg.RoleID, id}, err
	case LoginCert: // is in the connection
		return struct {
			Name string `json:"name,omitempty"`
		}{l.cfg.Role}, nil
	}
	token, err := readCredential("VAULT_JWT_FILE", l.cfg.JWTFile)
	return struct {
		Role string      `json:"role,omitempty"`
		JWT  secret.Text `json:"jwt"`
	}{l.cfg.Role, token}, err
}

// askWith is ask with another token than the server's, or with none. What it
// binds is never repeated: a login may use something up.
func (c *Client) askWith(op Operation, token secret.Text) *Bound {
	b := c.ask(op)
	b.tokens, b.opt.Retryable = fixedToken(token), false
	return b
}

// judged is what is said of a login that failed: whether Vault judged it, or
// could not be asked.
func judged(err error, denied string) error {
	f := fault.From(err)
	var status answeredError
	if !errors.As(err, &status) {
		return withoutOutcome(f)
	}
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return fault.Wrap(fault.Unavailable, denied, deniedError{status})
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fault.Wrap(fault.Unavailable, msgNoLogin, deniedError{status})
	case http.StatusTooManyRequests:
		limited := fault.Wrap(fault.Unavailable, f.Msg, deniedError{status})
		limited.RetryAfter = f.RetryAfter
		return limited
	}
	return withoutOutcome(f)
}

// withoutOutcome is a fault of a login as it is told to a caller, whose own
// operation was not begun and has no uncertain outcome.
func withoutOutcome(f *fault.Error) *fault.Error {
	return &fault.Error{Kind: f.Kind, Msg: f.Msg, RetryAfter: f.RetryAfter, Err: f.Err}
}

// grantOf is the token in an answer.
func grantOf(resp *Response) (grant, error) {
	var answer struct {
		Auth struct {
			Token     secret.Text `json:"client_token"`
			TTL       int64       `json:"lease_duration"`
			Renewable bool        `json:"renewable"`
		} `json:"auth"`
	}
	if err := jsonv2.Unmarshal(resp.whole, &answer); err != nil {
		return grant{}, fault.Wrap(fault.Unavailable, msgNoToken, secret.JSONError(err))
	}
	a := answer.Auth
	if a.Token.IsZero() || !secret.IsHeaderText(a.Token.Reveal()) || a.TTL < 0 || a.TTL > int64(longestTTL/time.Second) {
		return grant{}, fault.Wrap(fault.Unavailable, msgNoToken, deniedError{errNoToken})
	}
	return grant{token: a.Token, ttl: time.Duration(a.TTL) * time.Second, renewable: a.Renewable}, nil
}

// longestTTL bounds what is believed of a token's life.
const longestTTL = 100 * 365 * 24 * time.Hour

var errNoToken = errors.New("the answer has no token, or none that can be used")

// maxCredential bounds the file of a token.
const maxCredential = 64 << 10

// readCredential reads a token from a file that somebody else keeps, without the
// line end after it. The error names the setting, not the file.
func readCredential(setting, path string) (secret.Text, error) {
	text, _, err := readTokenFile(path)
	if err != nil {
		return text, fault.Wrap(fault.Unavailable, "the server cannot log in to Vault: "+setting+": "+err.Error(), err)
	}
	return text, nil
}

// readTokenFile reads a file of one token. The error has no name in it.
func readTokenFile(path string) (secret.Text, os.FileInfo, error) {
	f, err := secret.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return secret.Text{}, nil, errors.New("there is no such file")
		}
		return secret.Text{}, nil, errors.New("the file cannot be read")
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return secret.Text{}, nil, errors.New("it is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	switch {
	case err != nil:
		return secret.Text{}, nil, errors.New("the file cannot be read")
	case len(content) > maxCredential:
		return secret.Text{}, nil, errors.New("the file is larger than 64 KiB")
	case text == "":
		return secret.Text{}, nil, errors.New("the file is empty")
	case !secret.IsHeaderText(text):
		return secret.Text{}, nil, errors.New("the file must hold printable ASCII in one line, without blanks")
	}
	return secret.NewText(text), info, nil
}
