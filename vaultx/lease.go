package vaultx

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"vault-mcp/fault"
)

// Lease is what Vault gives for a time and takes back.
type Lease struct {
	ID        string // Vault's own; a caller gets a handle in its place
	Duration  int    // seconds
	Renewable bool
	Accessor  string // of the token of its own on which a new lease hangs; empty: it has none
}

// leaseOf is the lease that came with an answer. The id is a path, by which
// Vault would renew and revoke anything: one that is not just below the path of
// the operation is not passed on.
func (b *Bound) leaseOf(resp *Response) (Lease, error) {
	name, below := strings.CutPrefix(resp.LeaseID, b.op.Path.String()+"/")
	if !below || CheckName(name) != nil || resp.LeaseDuration < 0 {
		b.Discard()
		return Lease{}, b.unlessRetryable(fault.From(unreadable(errors.New("no lease"))))
	}
	lease := Lease{ID: resp.LeaseID, Duration: resp.LeaseDuration, Renewable: resp.Renewable}
	b.keepLease(&lease)
	return lease, nil
}

// LeasePath is where a lease was issued: its id without the last segment.
func LeasePath(id string) string { return id[:max(0, strings.LastIndexByte(id, '/'))] }

// LeaseRenew asks for so many more seconds, 0 for as many as at first; how many
// Vault granted, from now on, is the Duration of the result. A lease that is
// over is NotFound, one that cannot be renewed Invalid.
func LeaseRenew(ctx context.Context, b *Bound, id string, increment int) (Lease, error) {
	resp, err := b.Do(ctx, Request{Body: struct {
		ID        string `json:"lease_id"`
		Increment int    `json:"increment,omitzero"`
	}{id, increment}})
	if errors.Is(err, fault.Invalid) && !errors.Is(err, errNotRenewable) {
		f := fault.From(err)
		return Lease{}, fault.Wrap(fault.NotFound, "the lease is over: it has expired or was revoked", f.Err)
	}
	if err != nil {
		return Lease{}, err
	}
	if resp.LeaseID != id || resp.LeaseDuration < 0 {
		return Lease{}, b.unlessRetryable(fault.From(unreadable(errors.New("another lease"))))
	}
	return Lease{ID: resp.LeaseID, Duration: resp.LeaseDuration, Renewable: resp.Renewable}, nil
}

// errNotRenewable is the cause of a refusal to renew a lease that still is.
var errNotRenewable = errors.New("the lease is not renewable")

// RevokeOperation is what LeaseRevoke needs of Vault.
var RevokeOperation = fixed(http.MethodPost, "sys/leases/revoke")

// LeaseRevoke ends a lease. Vault answers when what it stood for is gone; for one
// that is over already it succeeds.
func LeaseRevoke(ctx context.Context, b *Bound, id string) error {
	_, err := b.Do(ctx, Request{Body: struct {
		ID   string `json:"lease_id"`
		Sync bool   `json:"sync"`
	}{id, true}})
	return err
}
