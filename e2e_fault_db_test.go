package main_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// ownDatabase is a PostgreSQL that a test may stop, and a Vault that gives out
// its credentials.
func ownDatabase(t *testing.T) (*devstack.Vault, *devstack.Postgres) {
	t.Helper()
	plugin, err := devstack.FindPostgresPlugin(t.Context(), nil)
	if errors.Is(err, devstack.ErrNoPostgresPlugin) {
		devstacktest.Cannot(t, "%v", err)
	}
	require.NoError(t, err)
	pg, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{})
	if errors.Is(err, devstack.ErrNoPostgres) {
		devstacktest.Cannot(t, "%v", err)
	}
	require.NoError(t, err)
	t.Cleanup(pg.Stop)
	v := devstacktest.Fresh(t, devstacktest.Options{PostgresPlugin: plugin})
	require.NoError(t, v.SeedDatabase(t.Context(), pg))
	return v, pg
}

// A database that stops takes only the tools with it that need it. Nobody is
// told where it is or as whom Vault logs in to it, in no answer, log or trail;
// and when it is back, so are they, without a restart.
func TestDatabaseStopped(t *testing.T) {
	v, pg := ownDatabase(t)
	envs := [][]string{settings(t, v, dbSettings...), settings(t, v, dbSettings...)}
	p := startHTTP(t, envs[0])
	overStdio, stdio, _ := startStdio(t, envs[1], devKey)
	sessions := []*mcp.ClientSession{connect(t, httpTransport(p.url, devKey), "2026-07-28"), overStdio}
	issue := obj{"role": devstack.RoleReadOnly}
	creds := make([]obj, len(sessions))
	for i, session := range sessions {
		creds[i] = callThrough(session).succeed(t, "db.issue_creds", issue)
		_, err := loginAt(t, pg, creds[i])
		require.NoError(t, err)
	}

	pg.Kill()
	var said strings.Builder
	failed := 0
	for i, session := range sessions {
		call := callThrough(session)
		path := fmt.Sprint("beside/", i)
		for range 6 { // more than it takes to give up on a Vault that is down
			for tool, args := range map[string]obj{"db.issue_creds": issue, "db.revoke": {"lease_id": creds[i]["lease_id"]}} {
				got := call(t, tool, args)
				require.Equal(t, "unavailable", got.code(), "%s: %v", tool, got.body)
				has("outcome", "unknown")(t, got.body["details"].(obj))
				fmt.Fprintln(&said, got.body)
				failed++
			}
			call.succeed(t, "kv.write", obj{"path": path, "data": obj{"a": "b"}})
			call.succeed(t, "kv.patch", obj{"path": path, "data": obj{"c": "d"}})
			has("data", obj{"a": "b", "c": "d"})(t, call.succeed(t, "kv.read", obj{"path": path}))
			call.succeed(t, "kv.list", obj{"prefix": "beside"})
			call.succeed(t, "kv.metadata", obj{"path": path})
			call.succeed(t, "kv.delete", obj{"path": path})
		}
	}
	readiness(t, p.url, 200)
	_, text := probe(t, p.url+"/readyz")
	said.WriteString(text)
	uncertain := 0
	for _, env := range envs {
		for _, rec := range readTrail(env).ends(t) {
			if rec.Outcome == "unknown" {
				uncertain++
			}
		}
	}
	require.Equal(t, failed, uncertain, "the trail tells of each that nobody knows whether it took place")

	require.NoError(t, pg.Restart(t.Context()))
	for i, session := range sessions {
		recovers(t, soon, session, "db.issue_creds", issue)
		call := callThrough(session)
		has("ok", true)(t, call.succeed(t, "db.revoke", obj{"lease_id": creds[i]["lease_id"]}))
		_, err := loginAt(t, pg, creds[i])
		require.ErrorContains(t, err, "password authentication failed")
		_, err = loginAt(t, pg, call.succeed(t, "db.issue_creds", issue))
		require.NoError(t, err)
	}

	p.stop(t)
	stdio.stop(t)
	for _, log := range []string{p.stderr(), stdio.stderr()} {
		require.Contains(t, log, `"outcome":"unknown"`)
		said.WriteString(log)
	}
	for _, env := range envs {
		said.WriteString(everythingBelow(t, setting(env, "STATE_DIR")))
		verifyTrail(t, env)
	}
	hidden := []any{
		fmt.Sprint(pg.Host, ":", pg.Port), fmt.Sprint("port=", pg.Port), "user=", pg.User, pg.Password.Reveal(),
		"dial ", "connect: ", "connection refused", "SQLSTATE",
	}
	for _, c := range creds {
		hidden = append(hidden, c["username"], c["password"])
	}
	for _, text := range hidden {
		require.NotContains(t, said.String(), text)
	}
}
