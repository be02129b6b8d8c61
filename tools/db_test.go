package tools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
)

// issuedCreds are what db.issue_creds gives.
type issuedCreds struct {
	Username  string `json:"username"`
	Password  string `json:"password"`
	LeaseID   string `json:"lease_id"`
	Duration  int    `json:"lease_duration"`
	Renewable bool   `json:"renewable"`
}

// dbRig is a rig on a Vault with a real database behind it, and what reaches
// that Vault.
func dbRig(t *testing.T) (*rig, *devstack.Vault, *devstacktest.Rec) {
	t.Helper()
	v := devstacktest.Engines(t)
	rec := devstacktest.Recorder(t, v.Addr)
	return newRig(t, rigOptions{addr: rec.URL, token: v.RootToken}), v, rec
}

// granted is a principal who may name these database roles.
func granted(slug string, roles ...string) *auth.Principal {
	return with(principal(slug), func(p *auth.Principal) { p.Grants = auth.Grants{"database": roles} })
}

func (r *rig) issueCreds(t testing.TB, p *auth.Principal, role string) (c issuedCreds) {
	t.Helper()
	require.NoError(t, json.Unmarshal(r.must(t, p, "db.issue_creds", fmt.Sprintf(`{"role":%q}`, role)).JSON, &c))
	return c
}

// login opens a connection as the user of credentials.
func login(t testing.TB, c issuedCreds) (*pgx.Conn, error) {
	t.Helper()
	pg := devstacktest.Postgres(t)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d dbname=%s user=%s password=%s sslmode=disable",
		pg.Host, pg.Port, devstack.DemoDatabase, c.Username, c.Password))
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

// mayDo reports whether a connection may do something, which is then undone.
func mayDo(t testing.TB, conn *pgx.Conn, sql string) bool {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), sql)
	if err != nil {
		require.ErrorContains(t, err, "permission denied")
	}
	require.NoError(t, tx.Rollback(t.Context()))
	return err == nil
}

// The life of credentials: they can do what the role says and no more, last
// longer when renewed, and are gone the moment that they are given back, by
// another server with the same key too.
func TestDatabaseCredentials(t *testing.T) {
	r, v, _ := dbRig(t)
	p := granted("dev", devstack.RoleReadOnly, "read*")
	ro, rw := r.issueCreds(t, p, devstack.RoleReadOnly), r.issueCreds(t, p, devstack.RoleReadWrite)
	require.Equal(t, 300, ro.Duration)
	require.True(t, ro.Renewable)
	require.NotEqual(t, ro.Username, rw.Username)
	reader, err := login(t, ro)
	require.NoError(t, err)
	writer, err := login(t, rw)
	require.NoError(t, err)
	for sql, granted := range map[string][2]bool{ // of the reader, of the writer
		"SELECT * FROM " + devstack.DemoTable:                                   {true, true},
		"INSERT INTO " + devstack.DemoTable + "(item, quantity) VALUES ('x',1)": {false, true},
		"UPDATE " + devstack.DemoTable + " SET quantity = 0":                    {false, true},
		"DELETE FROM " + devstack.DemoTable:                                     {false, true},
		"SELECT * FROM " + devstack.OffLimitsTable:                              {false, false},
		"CREATE TABLE mine (id int)":                                            {false, false},
		"CREATE ROLE mine":                                                      {false, false},
	} {
		require.Equal(t, granted[0], mayDo(t, reader, sql), "the reader: %s", sql)
		require.Equal(t, granted[1], mayDo(t, writer, sql), "the writer: %s", sql)
	}

	var renewed issuedCreds
	for increment, granted := range map[int]int{60: 60, 1800: 1800, 2764800: 3600} {
		out := r.conform(p, "db.renew", fmt.Sprintf(`{"lease_id":%q,"increment":%d}`, ro.LeaseID, increment))
		require.InDelta(t, granted, out["lease_duration"], 20, "asked for %d", increment)
		renewed.LeaseID = out["lease_id"].(string)
	}
	require.InDelta(t, 300, r.conform(p, "db.renew", leaseArgs(renewed.LeaseID))["lease_duration"], 5, "as long as at first")

	replica := newRig(t, rigOptions{addr: v.Addr, token: v.RootToken})
	require.Equal(t, map[string]any{"ok": true}, replica.conform(p, "db.revoke", leaseArgs(renewed.LeaseID)))
	_, err = login(t, ro)
	require.ErrorContains(t, err, "password authentication failed")
	require.Error(t, reader.Ping(t.Context()), "what was open is closed")
	require.NoError(t, writer.Ping(t.Context()), "and nobody else's")
	_, f := r.run(p, "db.renew", leaseArgs(ro.LeaseID))
	require.Equal(t, fault.NotFound, f.Kind)
	r.must(t, p, "db.revoke", leaseArgs(ro.LeaseID))
	r.must(t, p, "db.revoke", leaseArgs(rw.LeaseID))
	_, err = login(t, rw)
	require.Error(t, err)

	records := replica.records()
	require.Equal(t, []string{"update sys/leases/revoke", "lease of database/creds/readonly"}, records[0].Needs[:2])
	require.Regexp(t, `^lease hmac-sha256:[0-9a-f]{64}$`, records[0].Needs[2])
	require.Len(t, records[0].Needs, 3)
	require.NotEmpty(t, r.records()[1].VaultRequestID)
	wrote := r.everywhere() + replica.everywhere()
	for _, hidden := range []string{ro.Password, rw.Password, ro.LeaseID, renewed.LeaseID, ro.Username} {
		require.NotContains(t, wrote, hidden)
	}
}

// Nobody reaches another principal's credentials, and nobody by Vault's own ids:
// Vault is not even asked.
func TestDatabaseLeasesOfOthers(t *testing.T) {
	r, v, rec := dbRig(t)
	p, other := granted("dev", "read*"), granted("dev-bot", "*")
	c := r.issueCreds(t, p, devstack.RoleReadOnly)
	ids := vaultLeases(t, v, "database/creds/readonly")
	require.NotEmpty(t, ids)
	rec.Reset()
	for _, tool := range []string{"db.renew", "db.revoke"} {
		_, f := r.run(other, tool, leaseArgs(c.LeaseID))
		require.Equal(t, fault.Forbidden, f.Kind)
		for _, id := range ids {
			_, f = r.run(p, tool, leaseArgs(id))
			require.Equal(t, fault.Invalid, f.Kind)
		}
	}
	_, f := r.run(p, "db.issue_creds", `{"role":"admin"}`)
	require.Equal(t, fault.Forbidden, f.Kind)
	require.Equal(t, "/role", f.Details["field"])
	require.Empty(t, rec.Requests())
	_, err := login(t, c)
	require.NoError(t, err, "they are as they were")
	r.must(t, p, "db.revoke", leaseArgs(c.LeaseID))
}

// Names that are none are refused as such, before Vault.
func TestDatabaseRoleNames(t *testing.T) {
	vault := newFakeVault(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	r := newRig(t, rigOptions{addr: vault.URL})
	p := granted("dev", "*")
	for _, name := range []string{
		"", ".", "..", "../creds/admin", "ro/../admin", "ro?x", "key/config", "ro ", " ro", "r\no", "ro\x00", "%2e%2e", "ro%2fx", "٣", "ro*", "+", "{{x}}", "roé", "a@b", "a=b", strings.Repeat("a", 129),
	} {
		args, err := json.Marshal(map[string]string{"role": name})
		require.NoError(t, err)
		_, f := r.run(p, "db.issue_creds", string(args))
		require.Equal(t, fault.Invalid, f.Kind, "%q", name)
		require.Equal(t, "/role", f.Details["field"], "%q", name)
	}
	require.Empty(t, vault.seen())
	for _, name := range []string{"RO", "-1", "0", "1e3", "...", "config", strings.Repeat("a", 128)} { // strange, and names
		_, f := r.run(p, "db.issue_creds", fmt.Sprintf(`{"role":%q}`, name))
		require.Equal(t, fault.NotFound, f.Kind, name)
	}
	require.Len(t, vault.seen(), 7)
}

// Wrapped, the password alone leaves the answer; user and lease stay, and the
// lease can be used.
func TestWrappedDatabaseCredentials(t *testing.T) {
	r, v, _ := dbRig(t)
	p := granted("dev", "read*")
	out := r.conform(p, "db.issue_creds", `{"role":"readonly","wrap_ttl":"60s"}`)
	require.Equal(t, []string{"lease_duration", "lease_id", "renewable", "username", "wrap"}, slices.Sorted(maps.Keys(out)))
	var inside struct {
		Data map[string]string `json:"data"`
	}
	token := map[string]any{"token": out["wrap"].(map[string]any)["token"]}
	require.NoError(t, v.Request(t.Context(), "POST", "sys/wrapping/unwrap", token, &inside))
	require.Equal(t, []string{"password"}, slices.Collect(maps.Keys(inside.Data)))
	_, err := login(t, issuedCreds{Username: out["username"].(string), Password: inside.Data["password"]})
	require.NoError(t, err)
	lease := out["lease_id"].(string)
	r.must(t, p, "db.renew", leaseArgs(lease))
	r.must(t, p, "db.revoke", leaseArgs(lease))
	require.NotContains(t, r.everywhere(), inside.Data["password"])
}

// A database that is down is told without its host and user, and holds up
// nobody who wants something else; a lease that could not be ended can be ended
// later.
func TestDatabaseThatIsDown(t *testing.T) {
	r, v, _ := dbRig(t)
	pg := devstacktest.Postgres(t)
	connection := func(port int) {
		t.Helper()
		require.NoError(t, v.Request(t.Context(), "POST", "database/config/shaky", map[string]any{
			"plugin_name": "postgresql-database-plugin", "allowed_roles": "shaky", "verify_connection": false,
			"connection_url": fmt.Sprintf("postgresql://{{username}}:{{password}}@%s:%d/%s?sslmode=disable&connect_timeout=5", pg.Host, port, devstack.DemoDatabase),
			"username":       pg.User, "password": pg.Password.Reveal(),
		}, nil))
	}
	connection(pg.Port)
	require.NoError(t, v.Request(t.Context(), "POST", "database/roles/shaky", map[string]any{
		"db_name": "shaky", "creation_statements": []string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}'`, `GRANT CONNECT ON DATABASE ` + devstack.DemoDatabase + ` TO "{{name}}"`},
		"default_ttl": "5m", "max_ttl": "1h",
		"revocation_statements": []string{`REVOKE ALL ON DATABASE ` + devstack.DemoDatabase + ` FROM "{{name}}"`, `DROP ROLE "{{name}}"`},
	}, nil))
	p := granted("dev", "shaky")
	c := r.issueCreds(t, p, "shaky")
	require.NoError(t, v.PutSecret(t.Context(), "mcp/dev/beside", map[string]any{"a": "b"}))

	connection(1)
	for _, call := range []struct{ tool, args string }{
		{"db.issue_creds", `{"role":"shaky"}`}, {"db.renew", leaseArgs(c.LeaseID)}, {"db.revoke", leaseArgs(c.LeaseID)},
	} {
		for range 6 {
			_, f := r.run(p, call.tool, call.args)
			require.NotNil(t, f, call.tool)
			require.Equal(t, fault.Unavailable, f.Kind, call.tool)
			require.Equal(t, "unknown", f.Details["outcome"])
			started := time.Now()
			r.must(t, p, "kv.read", `{"path":"beside"}`)
			require.Less(t, time.Since(started), 2*time.Second)
			for _, said := range []string{f.Error(), fmt.Sprint(f.Err), r.everywhere()} {
				for _, hidden := range []string{"dial", "connect:", "127.0.0.1:1", pg.User + " ", "user=", "refused: ", c.Username, pg.Password.Reveal()} {
					require.NotContains(t, said, hidden)
				}
			}
		}
	}
	connection(pg.Port)
	_, err := login(t, c)
	require.NoError(t, err, "it was not ended")
	r.must(t, p, "db.revoke", leaseArgs(c.LeaseID))
	_, err = login(t, c)
	require.Error(t, err)
}
