package vaultx

import (
	"context"
	"errors"
	"net/http"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// DBCredentials are a database user that Vault made for a time.
type DBCredentials struct {
	Username string
	Password secret.Text
	Lease    Lease
}

// DBIssue has Vault make a user with a role's rights. A role that does not exist
// is NotFound. With an error there is a lease if Vault gave one all the same, to
// be given back.
func DBIssue(ctx context.Context, b *Bound) (DBCredentials, error) {
	resp, err := b.Do(ctx, Request{})
	if err != nil {
		return DBCredentials{}, dbFault(err)
	}
	lease, err := b.leaseOf(resp)
	if err != nil {
		return DBCredentials{}, err
	}
	var body struct {
		Username string      `json:"username"`
		Password secret.Text `json:"password"`
	}
	if err := decodeData(resp, &body); err != nil {
		return DBCredentials{Lease: lease}, b.unlessRetryable(fault.From(err))
	}
	if body.Password.IsZero() {
		return DBCredentials{Lease: lease}, b.unlessRetryable(fault.New(fault.Unavailable,
			"this role gives another kind of credential than a password; an operator must change the role"))
	}
	return DBCredentials{body.Username, body.Password, lease}, nil
}

// dbFault tells what this operation's statuses mean: the role's name was checked
// before, so Vault has nothing to refuse but that there is no such role; and when
// it fails, it is the database that it could not reach or that refused.
func dbFault(err error) error {
	f := fault.From(err)
	var answered answeredError
	switch {
	case f.Kind == fault.Invalid:
		return fault.Wrap(fault.NotFound, "there is no such role", f.Err)
	case f.Kind == fault.Unavailable && errors.As(err, &answered) && answered == http.StatusInternalServerError:
		told := *f
		told.Msg = "Vault could not make credentials; the database may be down, or may have refused"
		return &told
	}
	return f
}
