package vaultx

import (
	"context"
	"errors"

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
