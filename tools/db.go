package tools

import (
	"context"

	"vault-mcp/auth"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// Where leases are renewed and revoked, whatever engine gave them.
const (
	leaseRenew  = "sys/leases/renew"
	leaseRevoke = "sys/leases/revoke"
)

type dbIssueIn struct {
	Role string `json:"role" jsonschema:"minLength=1,maxLength=128,pattern=^[A-Za-z0-9._-]+$" doc:"Name of the database role: 1 to 128 letters, digits, '.', '_' or '-'. whoami shows which the caller may name, under grants.database."`
	WrapTTL
}

type dbIssueOut struct {
	Username string      `json:"username" doc:"User to log in to the database as. It exists as long as the lease."`
	Password secret.Text `json:"password,omitzero" doc:"The user's password. Pass it on to what needs it, and do not repeat it."`
	leaseOfOut
	Wrapped
}

// leaseOfOut is embedded in every result that comes with a lease.
type leaseOfOut struct {
	LeaseID   Lease `json:"lease_id" doc:"Handle of the lease, for db.renew and db.revoke; good for this principal alone."`
	Duration  int   `json:"lease_duration" doc:"Seconds until Vault takes it back, unless it is renewed before."`
	Renewable bool  `json:"renewable" doc:"Whether db.renew can make it last longer."`
}

type dbRenewIn struct {
	LeaseID
	Increment int `json:"increment,omitzero" jsonschema:"minimum=1,maximum=2764800" doc:"Seconds that the lease should last from now on; without it as long as at first. Vault may grant less: lease_duration says what it granted."`
}

type dbRenewOut struct{ leaseOfOut }

type dbRevokeIn struct{ LeaseID }

type dbRevokeOut struct {
	OK bool `json:"ok" doc:"True: the lease is over, and what it stood for is gone. So it is, too, if it was over before."`
}

func dbTools() []*Tool {
	return []*Tool{
		Define(Tool{
			Name: "db.issue_creds", Title: "Get database credentials",
			Doc:   "Have Vault make a new database user with the rights of a role, for a limited time. Each call makes another user, so keep what you got, extend it with db.renew, and give it back with db.revoke when the work is done. With wrap_ttl the password stays out of the answer, which then holds a single-use token for whoever needs it; the lease stays usable.",
			Scope: auth.Write, Effect: Uses,
			Needs: []Need{{Path: "{database}/creds/{role}", Capabilities: []string{"read"}}},
			Route: "POST /db/creds/{role}",
		}, dbIssue),
		Define(Tool{
			Name: "db.renew", Title: "Extend a lease",
			Doc:   "Make credentials that are still in force last longer, up to the maximum that their role has. The lease_duration of the answer says how many seconds they now have. A lease that is over is not found; one-time passwords of ssh.otp cannot be renewed.",
			Scope: auth.Write, Effect: Writes, Additive: true,
			Needs: []Need{{Path: leaseRenew, Capabilities: []string{"update"}, Lease: RenewsLease}},
			Route: "POST /db/renew",
		}, dbRenew),
		Define(Tool{
			Name: "db.revoke", Title: "Give credentials back",
			Doc:   "End a lease of db.issue_creds or ssh.otp at once: the database user is dropped and its login fails, the one-time password is void. Do this as soon as the work is done.",
			Scope: auth.Write, Effect: Destroys, Idempotent: true,
			Needs: []Need{{Path: leaseRevoke, Capabilities: []string{"update"}, Lease: GivesLeaseUp}},
			Route: "POST /db/revoke",
		}, dbRevoke),
	}
}

func dbIssue(ctx context.Context, env *Env, in dbIssueIn) (dbIssueOut, error) {
	creds, err := vaultx.DBIssue(ctx, env.Vault)
	if err != nil {
		env.issued(creds.Lease.ID)
		return dbIssueOut{}, err
	}
	lease, err := env.Lease(creds.Lease, in.Role)
	return dbIssueOut{
		Username: creds.Username, Password: creds.Password,
		leaseOfOut: leaseOfOut{lease, creds.Lease.Duration, creds.Lease.Renewable},
	}, err
}

func dbRenew(ctx context.Context, env *Env, in dbRenewIn) (dbRenewOut, error) {
	renewed, err := vaultx.LeaseRenew(ctx, env.Vault, env.owned.ID, in.Increment)
	if err != nil {
		return dbRenewOut{}, err
	}
	lease, err := env.renewed(renewed)
	return dbRenewOut{leaseOfOut{lease, renewed.Duration, renewed.Renewable}}, err
}

func dbRevoke(ctx context.Context, env *Env, _ dbRevokeIn) (dbRevokeOut, error) {
	err := vaultx.LeaseRevoke(ctx, env.Vault, env.owned.ID)
	if err == nil {
		env.leaseOver()
	}
	return dbRevokeOut{OK: err == nil}, err
}
