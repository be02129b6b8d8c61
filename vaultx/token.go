package vaultx

import (
	"context"
	"errors"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// tokens give the token with which a request is made. A Client has one for its
// own; a Bound may be given another.
type tokens interface {
	// token is the one to use now. An error is a *fault.Error.
	token(ctx context.Context) (secret.Text, error)
	// renewed is told that Vault does not know a token that it was given, and
	// reports whether there is another by now: Vault has then done nothing, so
	// that any request may be made again.
	renewed(ctx context.Context, refused secret.Text) bool
}

// fixedToken is a token that was given once and for all.
type fixedToken secret.Text

func (t fixedToken) token(context.Context) (secret.Text, error) { return secret.Text(t), nil }
func (fixedToken) renewed(context.Context, secret.Text) bool    { return false }

// chooseTokens makes the source of the server's own token.
func (c *Client) chooseTokens() error {
	var err error
	if c.login, err = newLogin(c, c.cfg.Login); err != nil {
		return err
	}
	switch {
	case c.login == nil && c.cfg.Login.TokenFile != "":
		c.tokens = newTokenFile(c.cfg.Login.TokenFile, c.cfg.Token, c.cfg.Notice, c.probe.forget)
		return nil
	case c.login == nil && c.cfg.Token.IsZero():
		c.tokens = fixedToken{}
		return nil
	}
	k := newKeeper(c.cfg.Notice, c.probe.forget)
	k.extend, k.look = c.renew, c.lookUp
	if c.login != nil {
		k.obtain = c.login.obtain
	} else {
		k.held = held{token: c.cfg.Token, unknown: true}
	}
	c.keeper, c.tokens = k, k
	return nil
}

// Start begins to keep the server's token alive in the background, until Close:
// it logs in where that is the way, and renews. It waits for nothing. Without it
// the first request logs in.
func (c *Client) Start() {
	if c.keeper != nil {
		c.keeper.start()
	}
}

// LogOut ends the token that this client got by a login, if it did. It is for
// who has issued nothing under it: see Close.
func (c *Client) LogOut(ctx context.Context) error {
	if c.keeper == nil {
		return nil
	}
	token := c.keeper.loggedIn()
	if token.IsZero() {
		return nil
	}
	_, err := c.askWith(revokeSelf, token).Do(ctx, Request{})
	return err
}

// trouble is what threatens the server's token, though Vault takes it.
func (c *Client) trouble() error {
	source, ok := c.tokens.(interface{ trouble() *fault.Error })
	if !ok {
		return nil
	}
	if why := source.trouble(); why != nil {
		return fault.Degraded(why)
	}
	return nil
}

// refusedError marks the fault that Vault does not know the token.
type refusedError struct {
	error
	refused secret.Text
}

func (r refusedError) Unwrap() error { return r.error }

// TokenRefused reports whether an error is that Vault does not know the token.
func TokenRefused(err error) bool {
	var r refusedError
	return errors.As(err, &r)
}
