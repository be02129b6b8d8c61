package vaultx

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

var (
	wrapLookup = fixed(http.MethodPost, "sys/wrapping/lookup")
	wrapOpen   = fixed(http.MethodPost, "sys/wrapping/unwrap")
)

// LooksWrapped reports whether a secret id is a wrapping token: one of Vault's
// own kind of token, where a secret id is a UUID or what an operator chose.
func LooksWrapped(id secret.Text) bool { return strings.HasPrefix(id.Reveal(), "hvs.") }

// currentSecretID is the secret id as it stands now, unwrapped if it is wrapped.
func (l *login) currentSecretID(ctx context.Context) (secret.Text, error) {
	id := l.cfg.SecretID
	if l.cfg.SecretIDFile != "" {
		var err error
		if id, err = readCredential("VAULT_SECRET_ID_FILE", l.cfg.SecretIDFile); err != nil {
			return id, err
		}
	}
	if !l.cfg.Wrapped && !LooksWrapped(id) {
		return id, nil
	}
	// A wrapping token is good once: what it held is kept for later logins, and
	// one that was found bad is not asked about again.
	if l.wrapped.Reveal() == id.Reveal() {
		return l.secretID, l.spoilt
	}
	inner, err := l.unwrap(ctx, id)
	if err == nil || errors.As(err, new(deniedError)) {
		l.wrapped, l.secretID, l.spoilt = id, inner, err
	}
	return inner, err
}

// unwrap looks where a wrapping token comes from before it is used up: who can
// replace it by one of another origin would have us log in as somebody else.
func (l *login) unwrap(ctx context.Context, wrapped secret.Text) (secret.Text, error) {
	body := struct {
		Token secret.Text `json:"token"`
	}{wrapped}
	resp, err := l.client.askWith(wrapLookup, secret.Text{}).Do(ctx, Request{Body: body})
	if err != nil {
		return secret.Text{}, judged(err, msgUsed)
	}
	var origin struct {
		Path string `json:"creation_path"`
	}
	if err := decodeData(resp, &origin); err != nil {
		return secret.Text{}, err
	}
	if !l.issues(origin.Path) {
		return secret.Text{}, fault.Wrap(fault.Unavailable, msgElsewhere, deniedError{errElsewhere})
	}
	resp, err = l.client.askWith(wrapOpen, wrapped).Do(ctx, Request{})
	if err != nil {
		return secret.Text{}, judged(err, msgUsed)
	}
	var inner struct {
		SecretID secret.Text `json:"secret_id"`
	}
	if err := decodeData(resp, &inner); err != nil || inner.SecretID.IsZero() {
		return secret.Text{}, fault.Wrap(fault.Unavailable, msgElsewhere, deniedError{errElsewhere})
	}
	return inner.SecretID, nil
}

var errElsewhere = errors.New("the wrapping token is of another origin")

// issues reports whether a path is where secret ids of our role are made. Without
// a role's name it may be any role of the mount: a login with ours then fails.
func (l *login) issues(path string) bool {
	role, ours := strings.CutPrefix(path, "auth/"+l.cfg.Mount+"/role/")
	role, ids := strings.CutSuffix(role, "/secret-id")
	if l.cfg.Role == "" {
		return ours && ids && CheckName(role) == nil
	}
	return ours && ids && role == l.cfg.Role
}
