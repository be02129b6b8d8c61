package vaultx

import (
	"context"
	"time"

	"vault-mcp/secret"
)

// leaseChild is the token of one operation that gives a lease. It is used once
// and then forgotten: nothing but the lease hangs on it, so the lease neither
// ends with the principal's other token nor with this process. Its life is as
// long as a lease's may become by renewing. It is revoked when the lease was
// given back, or nobody got it.
type leaseChild struct {
	set  *children
	spec ChildSpec
	got  *minted
}

// token implements tokens.
func (l *leaseChild) token(ctx context.Context) (secret.Text, error) {
	if l.got != nil {
		return l.got.token, nil
	}
	policy, err := l.set.look(ctx, l.spec.Policy)
	if err == nil {
		l.got, err = l.set.mint(ctx, l.spec, l.set.opt.LeaseTTL, policy)
	}
	if err != nil {
		return secret.Text{}, err
	}
	return l.got.token, nil
}

// renewed implements tokens.
func (l *leaseChild) renewed(ctx context.Context, _ secret.Text) bool {
	l.discard()
	_, err := l.token(ctx)
	return err == nil
}

// keep is told of the lease: from now on the token is the lease's, and no longer
// this process's to revoke. A lease does not last longer than it.
func (l *leaseChild) keep(lease *Lease) {
	if l.got == nil {
		return
	}
	l.set.ledger.remove(l.got.accessor)
	lease.Accessor = l.got.accessor
	lease.Duration = min(lease.Duration, int(time.Until(l.got.until).Seconds()))
}

// discard revokes the token, and with it a lease that nobody knows of.
func (l *leaseChild) discard() {
	if l.got != nil {
		l.set.revoke.now(l.got.accessor, l.got.until)
		l.got = nil
	}
}

// keepLease is told that a lease came.
func (b *Bound) keepLease(lease *Lease) {
	if l, ok := b.tokens.(*leaseChild); ok {
		l.keep(lease)
	}
}

// Discard ends the token on which the lease of this operation hangs, if it had
// one of its own: nobody gets the lease.
func (b *Bound) Discard() {
	if l, ok := b.tokens.(*leaseChild); ok {
		l.discard()
	}
}

// LeaseOver ends the token of an accessor on which a lease hung that is over.
func (c *Client) LeaseOver(accessor string) {
	if c.children != nil && accessor != "" {
		c.children.revoke.now(accessor, time.Now().Add(c.children.opt.LeaseTTL))
	}
}
