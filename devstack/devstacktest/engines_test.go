package devstacktest_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
)

// credentials are what the database engine gives out.
type credentials struct {
	LeaseID string `json:"lease_id"`
	Data    struct {
		Username string      `json:"username"`
		Password secret.Text `json:"password"`
	} `json:"data"`
}

func issue(t *testing.T, v *devstack.Vault, role string) credentials {
	t.Helper()
	var c credentials
	require.NoError(t, v.Request(t.Context(), http.MethodGet, devstack.DatabaseMount+"/creds/"+role, nil, &c))
	return c
}

func connect(t *testing.T, dsn secret.Text) (*pgx.Conn, error) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn.Reveal())
	if err == nil {
		t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

// sqlState is PostgreSQL's code of an error.
func sqlState(t *testing.T, err error) string {
	t.Helper()
	var failed *pgconn.PgError
	require.ErrorAs(t, err, &failed)
	return failed.Code
}

const (
	insufficientPrivilege = "42501"
	noSuchLogin           = "28P01"
)

func TestDatabaseRoles(t *testing.T) {
	v, p := devstacktest.Engines(t), devstacktest.Postgres(t)
	require.Same(t, v, devstacktest.Engines(t))
	for role, mayWrite := range map[string]bool{devstack.RoleReadOnly: false, devstack.RoleReadWrite: true} {
		t.Run(role, func(t *testing.T) {
			issued := issue(t, v, role)
			c, err := connect(t, p.DSN(issued.Data.Username, issued.Data.Password))
			require.NoError(t, err)
			var n int
			require.NoError(t, c.QueryRow(t.Context(), "SELECT count(*) FROM "+devstack.DemoTable+" WHERE id <= 3").Scan(&n))
			require.Equal(t, 3, n)
			for _, sql := range []string{
				"SELECT * FROM " + devstack.OffLimitsTable, "DROP TABLE " + devstack.DemoTable,
				"TRUNCATE " + devstack.DemoTable, "CREATE TABLE mine (id int)", "CREATE ROLE other",
			} {
				_, err := c.Exec(t.Context(), sql)
				require.Equal(t, insufficientPrivilege, sqlState(t, err), sql)
			}
			for _, sql := range []string{
				"INSERT INTO " + devstack.DemoTable + " (item, quantity) VALUES ('pin', 1)",
				"UPDATE " + devstack.DemoTable + " SET quantity = 2 WHERE item = 'pin'",
				"DELETE FROM " + devstack.DemoTable + " WHERE item = 'pin'",
			} {
				_, err := c.Exec(t.Context(), sql)
				if mayWrite {
					require.NoError(t, err, sql)
				} else {
					require.Equal(t, insufficientPrivilege, sqlState(t, err), sql)
				}
			}

			body := map[string]any{"lease_id": issued.LeaseID, "increment": 600}
			require.NoError(t, v.Request(t.Context(), http.MethodPut, "sys/leases/renew", body, nil))
			body = map[string]any{"lease_id": issued.LeaseID, "sync": true}
			require.NoError(t, v.Request(t.Context(), http.MethodPut, "sys/leases/revoke", body, nil))
			_, err = connect(t, p.DSN(issued.Data.Username, issued.Data.Password))
			require.Equal(t, noSuchLogin, sqlState(t, err))
			_, err = c.Exec(t.Context(), "SELECT 1")
			require.Error(t, err, "the session outlived its role")
			left, err := p.Exec(t.Context(), "SELECT count(*) FROM pg_roles WHERE rolname = '"+issued.Data.Username+"'")
			require.NoError(t, err)
			require.Equal(t, "0", left)
		})
	}
}

// A role of the demo database can connect to no other.
func TestDatabaseRolesStayInTheirDatabase(t *testing.T) {
	v, p := devstacktest.Engines(t), devstacktest.Postgres(t)
	issued := issue(t, v, devstack.RoleReadWrite)
	for _, other := range []string{"postgres", "template1"} {
		config, err := pgx.ParseConfig(p.DSN(issued.Data.Username, issued.Data.Password).Reveal())
		require.NoError(t, err)
		config.Database = other
		_, err = pgx.ConnectConfig(t.Context(), config)
		require.Equal(t, insufficientPrivilege, sqlState(t, err), other)
	}
}

func TestTransitKeys(t *testing.T) {
	v := devstacktest.Engines(t)
	want := map[string][3]any{ // type, derived, convergent
		devstack.KeyAES: {"aes256-gcm96", false, false}, devstack.KeyChaCha: {"chacha20-poly1305", false, false},
		devstack.KeyEd25519: {"ed25519", false, false}, devstack.KeyECDSA: {"ecdsa-p256", false, false},
		devstack.KeyRSA: {"rsa-2048", false, false}, devstack.KeyDerived: {"aes256-gcm96", true, false},
		devstack.KeyConvergent: {"aes256-gcm96", true, true},
	}
	require.Len(t, want, len(devstack.TransitKeys()))
	for _, name := range devstack.TransitKeys() {
		var key struct {
			Data struct {
				Type       string `json:"type"`
				Derived    bool   `json:"derived"`
				Convergent bool   `json:"convergent_encryption"`
			} `json:"data"`
		}
		require.NoError(t, v.Request(t.Context(), http.MethodGet, devstack.TransitMount+"/keys/"+name, nil, &key), name)
		got := [3]any{key.Data.Type, key.Data.Derived, key.Data.Convergent}
		require.Equal(t, want[name], got, name)
	}
}

func TestSSHRoles(t *testing.T) {
	v := devstacktest.Engines(t)
	var otp struct {
		LeaseDuration int `json:"lease_duration"`
		Data          struct {
			Key      secret.Text `json:"key"`
			Username string      `json:"username"`
		} `json:"data"`
	}
	creds := devstack.SSHMount + "/creds/" + devstack.RoleSSHOTP
	require.NoError(t, v.Request(t.Context(), http.MethodPost, creds, map[string]any{"ip": "10.1.2.3"}, &otp))
	require.Equal(t, devstack.SSHUser, otp.Data.Username)
	require.False(t, otp.Data.Key.IsZero())
	require.LessOrEqual(t, otp.LeaseDuration, 3600)
	err := v.Request(t.Context(), http.MethodPost, creds, map[string]any{"ip": "192.168.0.1"}, nil)
	require.ErrorContains(t, err, "status 400")

	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFY5JNCwmoP0RHVHaA8BGp5bxGDLUBDaNQJbYGbEWYXj"
	sign := func(principals string) error {
		body := map[string]any{"public_key": key, "valid_principals": principals}
		return v.Request(t.Context(), http.MethodPost, devstack.SSHMount+"/sign/"+devstack.RoleSSHCA, body, nil)
	}
	require.NoError(t, sign(devstack.SSHPrincipals))
	require.ErrorContains(t, sign("root"), "status 400")
}

// What is seeded once may be seeded again, into a Vault with storage too.
func TestSeedingAgain(t *testing.T) {
	p := devstacktest.Postgres(t)
	plugin, err := devstack.FindPostgresPlugin(t.Context(), nil)
	require.NoError(t, err)
	v := devstacktest.Fresh(t, devstacktest.Options{File: true, PostgresPlugin: plugin})
	ca := func() (key string) {
		var answer struct {
			Data struct {
				PublicKey string `json:"public_key"`
			} `json:"data"`
		}
		require.NoError(t, v.Request(t.Context(), http.MethodGet, devstack.SSHMount+"/config/ca", nil, &answer))
		return answer.Data.PublicKey
	}
	seed := func() {
		require.NoError(t, v.SeedTransit(t.Context()))
		require.NoError(t, v.SeedSSH(t.Context()))
		require.NoError(t, v.SeedDatabase(t.Context(), p))
	}
	seed()
	first := ca()
	seed()
	require.Equal(t, first, ca())
	require.NoError(t, v.Restart(t.Context()))
	issued := issue(t, v, devstack.RoleReadOnly)
	_, err = connect(t, p.DSN(issued.Data.Username, issued.Data.Password))
	require.NoError(t, err)
}
