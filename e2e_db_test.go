package main_test

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
)

// dbSettings let everybody name the role readonly and one that is not there,
// and give all servers of a test the same key.
var dbSettings = []string{
	`GRANTS={"database":["` + devstack.RoleReadOnly + `","nobody"]}`, "SEAL_KEY=" + strings.Repeat("5e", 32),
}

// dbStory is what a user does with database credentials, through every surface.
// $LEASE is the last lease that was given, $ID Vault's own name of one.
var dbStory = []step{
	{about: "a role of others", tool: "db.issue_creds", args: obj{"role": "readwrite"}, code: "forbidden", want: has("details.field", "/role")},
	{about: "a role that is a path", tool: "db.issue_creds", args: obj{"role": "../creds/readonly"}, code: "invalid", want: has("details.field", "/role")},
	{about: "a role that is not there", tool: "db.issue_creds", args: obj{"role": "nobody"}, code: "not_found"},
	{about: "no role", tool: "db.issue_creds", args: obj{}, code: "invalid", want: has("details.field", "/role")},
	{about: "wrapped, in the other spelling", tool: "db_issue_creds", args: obj{"role": "readonly", "wrap_ttl": "30s"}, want: wrappedCreds},
	{about: "give the wrapped back", tool: "db.revoke", args: obj{"lease_id": "$LEASE"}, want: has("ok", true)},
	{about: "issue", tool: "db.issue_creds", args: obj{"role": "readonly"}, want: has("lease_duration", 300, "renewable", true)},
	{about: "renew", tool: "db.renew", args: obj{"lease_id": "$LEASE", "increment": 600}, want: has("lease_duration", 600, "renewable", true)},
	{about: "renew for too long", tool: "db.renew", args: obj{"lease_id": "$LEASE", "increment": 2764801}, code: "invalid", want: has("details.field", "/increment")},
	{about: "renew for no time", tool: "db.renew", args: obj{"lease_id": "$LEASE", "increment": 0}, code: "invalid", want: has("details.field", "/increment")},
	{about: "renew by Vault's id", tool: "db.renew", args: obj{"lease_id": "$ID"}, code: "invalid", want: has("details.field", "/lease_id")},
	{about: "revoke by Vault's id", tool: "db.revoke", args: obj{"lease_id": "$ID"}, code: "invalid", want: has("details.field", "/lease_id")},
	{about: "revoke all", tool: "db.revoke", args: obj{"lease_id": "database/creds/readonly"}, code: "invalid", want: has("details.field", "/lease_id")},
	{about: "revoke nothing", tool: "db.revoke", args: obj{"lease_id": ""}, code: "invalid", want: has("details.field", "/lease_id")},
	{about: "no lease", tool: "db.revoke", args: obj{}, code: "invalid", want: has("details.field", "/lease_id")},
	{about: "a lease of the wrong type", tool: "db.renew", args: obj{"lease_id": []string{"$LEASE"}}, code: "invalid", want: has("details.field", "/lease_id")},
}

func wrappedCreds(t *testing.T, got obj) {
	t.Helper()
	require.NotContains(t, got, "password")
	require.NotEmpty(t, got["username"])
	require.NotEmpty(t, dig(got, "wrap.token"))
}

// login opens a connection to the demo database as the user of credentials.
func login(t *testing.T, creds obj) (*pgx.Conn, error) {
	t.Helper()
	return loginAt(t, devstacktest.Postgres(t), creds)
}

// loginAt is login at a database of the test's own.
func loginAt(t *testing.T, pg *devstack.Postgres, creds obj) (*pgx.Conn, error) {
	t.Helper()
	user, _ := creds["username"].(string)
	password, _ := creds["password"].(string)
	conn, err := pgx.Connect(t.Context(), pg.DSN(user, secret.NewText(password)).Reveal())
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

// succeed makes a call that is answered.
func (c caller) succeed(t *testing.T, tool string, args obj) obj {
	t.Helper()
	got := c(t, tool, args)
	require.False(t, got.failed, "%s: %v", tool, got.body)
	return got.body
}

// aLease is Vault's own name of a lease that the role has given.
func aLease(t *testing.T, v *devstack.Vault) string {
	t.Helper()
	var list struct {
		Data struct{ Keys []string }
	}
	require.NoError(t, v.Request(t.Context(), "LIST", "sys/leases/lookup/database/creds/readonly", nil, &list))
	require.NotEmpty(t, list.Data.Keys)
	return "database/creds/readonly/" + list.Data.Keys[0]
}

func TestDBStory(t *testing.T) {
	v := devstacktest.Engines(t)
	for _, s := range surfaces() {
		t.Run(s.name, func(t *testing.T) {
			dev, bot := s.open(t, v, devKey, dbSettings...), s.open(t, v, botKey, dbSettings...)
			lease, id := "", ""
			for _, step := range dbStory {
				args := maps.Clone(step.args)
				switch args["lease_id"] {
				case "$LEASE":
					args["lease_id"] = lease
				case "$ID":
					args["lease_id"] = id
				}
				got := dev(t, step.tool, args)
				require.Equal(t, step.code, got.code(), "%s: %v", step.about, got.body)
				if step.want != nil {
					step.want(t, got.body)
				}
				if given, ok := got.body["lease_id"].(string); ok {
					require.Regexp(t, `^lease_`, given)
					lease, id = given, aLease(t, v)
				}
			}
			for _, tool := range []string{"db.renew", "db.revoke"} {
				require.Equal(t, "forbidden", bot(t, tool, obj{"lease_id": lease}).code(), "another principal's")
			}

			creds := dev.succeed(t, "db.issue_creds", obj{"role": "readonly"})
			conn, err := login(t, creds)
			require.NoError(t, err)
			var rows int
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+devstack.DemoTable).Scan(&rows))
			require.Equal(t, 3, rows)
			for range 2 {
				require.Equal(t, obj{"ok": true}, dev.succeed(t, "db.revoke", obj{"lease_id": creds["lease_id"]}))
			}
			_, err = login(t, creds)
			require.ErrorContains(t, err, "password authentication failed")
			require.Equal(t, "not_found", dev(t, "db.renew", obj{"lease_id": creds["lease_id"]}).code())
			require.Equal(t, obj{"ok": true}, dev.succeed(t, "db.revoke", obj{"lease_id": lease}))
		})
	}
}

// A lease stays its principal's after a restart and on a second server with the
// same key, and is nobody's on one with another key. What is secret about it
// stands in no log and in no file of the servers.
func TestLeasesOutliveTheServer(t *testing.T) {
	v := devstacktest.Engines(t)
	logs := t.TempDir()
	env := settings(t, v, dbSettings[0], "LOG_DIR="+logs) // the key is made in STATE_DIR
	first := startHTTP(t, env)
	creds := openRPC(first.url, devKey).succeed(t, "db.issue_creds", obj{"role": "readonly"})
	first.stop(t)

	again := startHTTP(t, env)
	renewed := openRPC(again.url, devKey).succeed(t, "db.renew", obj{"lease_id": creds["lease_id"], "increment": 1200})
	has("lease_duration", 1200)(t, renewed)
	require.Equal(t, "forbidden", openRPC(again.url, botKey)(t, "db.revoke", obj{"lease_id": creds["lease_id"]}).code())

	stranger := startHTTP(t, settings(t, v, dbSettings[0]))
	require.Equal(t, "forbidden", openRPC(stranger.url, devKey)(t, "db.revoke", obj{"lease_id": creds["lease_id"]}).code())
	_, err := login(t, creds)
	require.NoError(t, err)

	key, err := os.ReadFile(filepath.Join(setting(env, "STATE_DIR"), "seal.key"))
	require.NoError(t, err)
	replica := startHTTP(t, settings(t, v, dbSettings[0], "SEAL_KEY="+strings.TrimSpace(string(key))))
	id := aLease(t, v)
	openRPC(replica.url, devKey).succeed(t, "db.revoke", obj{"lease_id": renewed["lease_id"]})
	_, err = login(t, creds)
	require.Error(t, err)

	for _, p := range []*process{again, stranger, replica} {
		p.stop(t)
	}
	said := first.stderr() + again.stderr() + stranger.stderr() + replica.stderr() +
		everythingBelow(t, logs) + everythingBelow(t, setting(env, "STATE_DIR")) + everythingBelow(t, setting(replica.env, "STATE_DIR"))
	require.Contains(t, said, "lease of database/creds/readonly")
	for _, hidden := range []any{creds["password"], creds["username"], creds["lease_id"], renewed["lease_id"], id} {
		require.NotContains(t, said, hidden)
	}
}

// everythingBelow is the text of all files in a folder.
func everythingBelow(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}))
	require.NotEmpty(t, all.String())
	return all.String()
}
