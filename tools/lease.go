package tools

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"time"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// LeaseUse says what a need does with the lease that the caller names by its
// handle, in the argument of an embedded LeaseID. The pipeline opens the handle,
// so that no lease reaches Vault that was not issued to this principal.
type LeaseUse string

// The uses of a lease.
const (
	RenewsLease  LeaseUse = "renew" // wants the grant of the role that gave it
	GivesLeaseUp LeaseUse = "give up"

	leaseArgument = "lease_id"
)

// LeaseID is embedded in the input of a tool that is about a lease.
type LeaseID struct {
	Handle string `json:"lease_id" jsonschema:"minLength=1,maxLength=1456" doc:"The lease_id of db.issue_creds, db.renew or ssh.otp, exactly as it was given: a sealed handle beginning with lease_. Only the principal that it was given to can use it; Vault's own lease ids are refused."`
}

// Lease is the lease of a result, as its caller gets to know it: a handle that
// this principal alone can use. Only Env.Lease makes one, so that a tool cannot
// give out an id of Vault by mistake.
type Lease struct{ handle auth.Handle }

// MarshalText writes the handle. There is no result with a lease that is none.
func (l Lease) MarshalText() ([]byte, error) {
	if l.handle.IsZero() {
		return nil, errors.New("tools: a lease that no handle was made for")
	}
	return []byte(l.handle.String()), nil
}

// LeaseLife is how long a handle is good for at least: Vault does not say how
// long a lease can become by renewing, and 768 h is the longest life that it
// gives by default.
const LeaseLife = 768 * time.Hour

// ownedLease is what a handle holds.
type ownedLease struct {
	Engine    string `json:"engine"` // kind of grant
	Role      string `json:"role"`
	ID        string `json:"id"` // Vault's
	Renewable bool   `json:"renewable"`
	Accessor  string `json:"accessor,omitzero"` // of the token that was made for it alone
}

// Lease seals a lease that Vault gave for this call, of a role of the tool's
// engine.
func (e *Env) Lease(l vaultx.Lease, role string) (Lease, error) {
	return e.seal(l, ownedLease{Engine: auth.GrantKind(e.engine), Role: role, Accessor: l.Accessor})
}

// renewed seals a lease anew, for what it lasts now.
func (e *Env) renewed(l vaultx.Lease) (Lease, error) { return e.seal(l, e.owned) }

func (e *Env) seal(l vaultx.Lease, owned ownedLease) (Lease, error) {
	owned.ID, owned.Renewable = l.ID, l.Renewable
	content, err := json.Marshal(owned)
	if err != nil || owned.ID == "" || owned.Role == "" || owned.Engine == "" {
		return Lease{}, unsealed(errors.New("tools: a lease without an id or a role"))
	}
	life := max(LeaseLife, time.Duration(min(l.Duration, math.MaxInt32))*time.Second)
	e.issued(owned.ID)
	handle, err := e.runner.sealer.Seal(auth.LeaseHandle, e.Principal, e.runner.opt.Now().Add(life), content)
	if err != nil {
		return Lease{}, unsealed(err)
	}
	return Lease{handle}, nil
}

// leaseOver is told that the lease was given back.
func (e *Env) leaseOver() { e.runner.vault.LeaseOver(e.owned.Accessor) }

// unsealed is the error for a lease of which the caller gets no handle, though
// Vault gave it.
func unsealed(cause error) error {
	return fault.Wrap(fault.Internal, fault.MsgInternal, cause).With("outcome", outcomeUnknown)
}

// openLease opens the handle that a call names, and checks what its use wants.
func (r *run) openLease(use LeaseUse, in reflect.Value) error {
	arg := r.tool.input.holes[leaseArgument]
	p := r.call.Principal
	content, err := r.sealer.Open(auth.LeaseHandle, p, r.start, in.FieldByIndex(arg.index).String())
	if err != nil {
		f := fault.From(err)
		if f.Kind == fault.Invalid {
			return fault.Field(arg.pointer, f.Msg)
		}
		return f.With("field", arg.pointer)
	}
	if err := json.Unmarshal(content, &r.owned); err != nil { // sealed by another version of this program
		return fault.Wrap(fault.Internal, fault.MsgInternal, err)
	}
	r.ops = append(r.ops, "lease of "+vaultx.LeasePath(r.owned.ID), r.leaseMark(r.owned.ID))
	if use != RenewsLease {
		return nil // who may no longer have it may give it back
	}
	if !p.Grants.Allow(r.owned.Engine, r.owned.Role) {
		return fault.New(fault.Forbidden, "the principal has no grant for the role of this lease").With("field", arg.pointer)
	}
	if !r.owned.Renewable {
		return fault.Field(arg.pointer, "is of a lease that cannot be renewed; get a new one instead")
	}
	return nil
}

// leaseMark is a lease in the trail: the same in the records of the calls that
// issued, renewed and revoked it.
func (r *run) leaseMark(id string) string { return "lease " + r.trail.HMAC([]byte(id)) }

// issuedLease is told of a lease that Vault gave for this call; an empty id is
// none.
func (r *run) issuedLease(id string) {
	if id != "" && r.owned.ID != id { // else it was there before
		r.minted = id
		r.ops = append(r.ops, r.leaseMark(id))
	}
}

// giveBackPatience is how long the end of a lease that nobody got may take.
const giveBackPatience = 5 * time.Second

// giveBack revokes a lease of which the caller never gets to know, so that what
// it stands for does not live on without an owner. If that fails, Vault takes it
// back at its end; the trail says so.
func (r *run) giveBack(ctx context.Context) {
	if r.minted == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackPatience)
	defer cancel()
	revoke := r.vault.Bind(vaultx.RevokeOperation, vaultx.BindOptions{Owner: r.call.Principal.ID(), Child: r.child(false)})
	word := "revoked, since it was not delivered"
	if err := vaultx.LeaseRevoke(ctx, revoke, r.minted); err != nil {
		word = "not delivered, and not revoked"
	}
	r.vaults.Discard()
	r.ops = append(r.ops, r.leaseMark(r.minted)+" "+word)
	r.gaveBack = revoke
}
