package vaultx_test

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// A lease hangs on a token of its own: neither the end of the process nor that
// of the principal's other token ends it. It goes when it is given back.
func TestChildOfALease(t *testing.T) {
	f := newFamily(t, devstacktest.Engines(t), vaultx.ChildOptions{Grace: 10 * time.Millisecond})
	alice := f.stranger("alice")
	f.allow(alice, `path "ssh/creds/demo-otp" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }`)
	plain := f.token(alice)
	leases := alice
	leases.Leases = true
	issue := func(role string) (vaultx.Lease, error) {
		op, err := vaultx.NewOperation("update", vaultx.MustTemplate("{ssh}/creds/{role}"), map[string]string{"ssh": "ssh", "role": role})
		require.NoError(t, err)
		otp, err := vaultx.SSHOTP(t.Context(), f.Bind(op, vaultx.BindOptions{Owner: alice.ID, Child: leases}), netip.MustParseAddr("127.0.0.1"), "")
		return otp.Lease, err
	}
	lease, err := issue(devstack.RoleSSHOTP)
	require.NoError(t, err)
	require.NotEmpty(t, lease.Accessor)
	lives := func(id string) bool {
		return f.v.Request(t.Context(), http.MethodPost, "sys/leases/lookup", map[string]string{"lease_id": id}, nil) == nil
	}
	accessorLives := func(accessor string) bool {
		return f.v.Request(t.Context(), http.MethodPost, "auth/token/lookup-accessor", map[string]string{"accessor": accessor}, nil) == nil
	}
	require.True(t, lives(lease.ID))
	_, err = issue("demo-none") // the policy does not allow it
	requireKind(t, fault.Forbidden, err)

	f.Close()
	require.False(t, f.lives(plain))
	require.True(t, lives(lease.ID), "the lease ended with the process")
	f.Client = f.again(f.v.Addr)
	f.token(alice)
	require.True(t, lives(lease.ID), "the lease ended with the next process's start")
	require.True(t, accessorLives(lease.Accessor))

	revoke := f.Bind(vaultx.RevokeOperation, vaultx.BindOptions{Owner: alice.ID, Child: alice})
	require.NoError(t, vaultx.LeaseRevoke(t.Context(), revoke, lease.ID))
	f.LeaseOver(lease.Accessor)
	require.Eventually(t, func() bool { return !accessorLives(lease.Accessor) }, 5*time.Second, 20*time.Millisecond)

	// One that nobody gets goes with its token.
	op, err := vaultx.NewOperation("update", vaultx.MustTemplate("{ssh}/creds/{role}"), map[string]string{"ssh": "ssh", "role": devstack.RoleSSHOTP})
	require.NoError(t, err)
	b := f.Bind(op, vaultx.BindOptions{Owner: alice.ID, Child: leases})
	otp, err := vaultx.SSHOTP(t.Context(), b, netip.MustParseAddr("127.0.0.1"), "")
	require.NoError(t, err)
	b.Discard()
	require.Eventually(t, func() bool { return !lives(otp.Lease.ID) }, 5*time.Second, 20*time.Millisecond)

	// Nor does the end of the process come before those that wait for it: they
	// would live for as long as a lease may.
	var over []string
	for range 20 {
		lease, err := issue(devstack.RoleSSHOTP)
		require.NoError(t, err)
		over = append(over, lease.Accessor)
	}
	for _, accessor := range over {
		f.LeaseOver(accessor)
	}
	f.Close()
	for _, accessor := range over {
		require.False(t, accessorLives(accessor))
	}
}

// A server whose token is not accepted makes no children, and says whose fault
// it is.
func TestChildOfNoServer(t *testing.T) {
	f := newFamily(t, devstacktest.Shared(t), vaultx.ChildOptions{})
	alice := f.member("alice")
	f.server = secret.NewText("hvs.unknown")
	c := f.again(f.v.Addr)
	require.Contains(t, requireKind(t, fault.Unavailable, f.write(c, alice, alice.ID)).Msg, "the server's own Vault token")
}
