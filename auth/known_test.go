package auth_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

// A policy is of a subject: the grants of all its credentials, whichever order
// they are found in.
func TestKnownPrincipals(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys", "keys.json")
	_, _, err := auth.NewKeyFile(file).Create("orders", auth.KeyOptions{Grants: auth.Grants{"database": {"ledger"}}})
	require.NoError(t, err)
	a, err := auth.New(auth.Options{
		Prefix: "mcp", APIKeys: true, KeysFile: file, LaunchSubject: "stdio-agent", Grants: auth.Grants{"transit": {"shared"}},
		KeysJSON: secret.NewText(`{"key-number-one":{"subject":"orders","grants":{"transit":["one"]}},"key-number-two":{"subject":"orders","scopes":["read"],"grants":{"transit":["two"]}},"key-number-three":"Orders"}`),
	})
	require.NoError(t, err)
	for range 10 {
		known := a.Known()
		require.Len(t, known, 3)
		require.Equal(t, []string{"=4frders", "orders", "stdio-agent"}, []string{known[0].Slug, known[1].Slug, known[2].Slug})
		require.ElementsMatch(t, []string{"orders", "orders--*", "shared", "one", "two"}, known[1].Grants["transit"])
		require.ElementsMatch(t, []string{"orders", "orders--*", "ledger"}, known[1].Grants["database"])
		require.Equal(t, known, a.Known())
		require.NotContains(t, known[0].Grants["transit"], "one")
	}
	ps, err := a.PrincipalsOf(full(auth.MethodAPIKey, "", "orders"))
	require.NoError(t, err)
	require.Equal(t, a.Known()[1:2], ps)
	ps, err = a.PrincipalsOf(full(auth.MethodAPIKey, "", "somebody"))
	require.NoError(t, err)
	require.Len(t, ps, 1)
	require.Equal(t, "mcp/somebody", ps[0].Prefix)
	require.Equal(t, []string{"somebody", "somebody--*", "shared"}, ps[0].Grants["transit"])
	_, err = a.PrincipalsOf(auth.Identity{Method: auth.MethodAPIKey})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

// Where rules give the credentials of a subject other prefixes or tools, none
// lends another what it has; and who is refused has nothing.
func TestKnownPrincipalsByRules(t *testing.T) {
	opt := ruled(`[
		{"key_id": "json-1", "tools": ["kv"], "grants": {"transit": ["one"]}},
		{"key_id": "json-2", "prefix": "other/{slug}", "grants": {"transit": ["two"]}},
		{"key_id": "json-4", "tools": ["kv"], "grants": {"transit": ["four"]}},
		{"source": "launch", "disabled": true},
		{"issuer": "https://a.example", "subject": "orders", "prefix": "a/{slug}", "claim": {"name": "team", "value": "red"}},
		{"source": "jwt", "exclude": ["kv"], "prefix": "tokens/{slug}"}
	]`)
	opt.APIKeys, opt.LaunchSubject = true, "orders"
	opt.KeysJSON = secret.NewText(`{"key-number-one":"orders","key-number-two":"orders","key-number-three":"scout","key-number-four":"orders"}`)
	a, err := auth.New(opt)
	require.NoError(t, err)
	known := a.Known()
	require.Len(t, known, 3)
	require.Equal(t, []string{"orders", "orders", "scout"}, []string{known[0].ID(), known[1].ID(), known[2].ID()})
	require.Equal(t, []string{"kv"}, known[0].Tools.Only)
	require.Subset(t, known[0].Grants["transit"], []string{"one", "four"})
	require.NotContains(t, known[0].Grants["transit"], "two")
	require.Empty(t, known[1].Tools)
	require.Equal(t, "other/orders", known[1].Prefix)
	require.NotContains(t, known[1].Grants["transit"], "one")

	byKey, err := a.PrincipalsOf(full(auth.MethodLaunch, "", "orders"))
	require.NoError(t, err, "it has keys")
	require.Equal(t, known[:2], byKey)
	byToken, err := a.PrincipalsOf(full(auth.MethodJWT, "", "orders"))
	require.NoError(t, err)
	require.Equal(t, known[:2], byToken[:2])
	require.Len(t, byToken, 3)
	require.Equal(t, "tokens/orders", byToken[2].Prefix)
	_, err = a.PrincipalsOf(full(auth.MethodLaunch, "", "somebody"))
	require.ErrorIs(t, err, fault.Forbidden)

	id := full(auth.MethodJWT, "https://a.example", "orders")
	_, err = a.PrincipalsOf(id)
	require.ErrorIs(t, err, fault.Forbidden, "its claims are needed")
	id.Claims = []byte(`{"team":"red"}`)
	ps, err := a.PrincipalsOf(id)
	require.NoError(t, err)
	require.Len(t, ps, 1, "the keys are of another principal")
	require.Equal(t, "a/orders", ps[0].Prefix)
	require.NotEqual(t, known[0].Policy("x-"), ps[0].Policy("x-"))
}

// Explain and Known tell of the same credentials.
func TestExplainedIsKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys", "keys.json")
	_, record, err := auth.NewKeyFile(file).Create("orders", auth.KeyOptions{Scopes: auth.Scopes{"kv:read"}})
	require.NoError(t, err)
	opt := ruled(`[{"name": "listed", "key_id": "` + record.ID + `", "grants": {"transit": ["by-rule"]}}]`)
	opt.APIKeys, opt.KeysFile, opt.LaunchSubject = true, file, "orders"
	opt.KeysJSON = secret.NewText(`{"key-number-one":{"subject":"orders","grants":{"transit":["one"]}}}`)
	a, err := auth.New(opt)
	require.NoError(t, err)
	explained, err := a.Explain(auth.Identity{Subject: "orders", Method: auth.MethodAPIKey})
	require.NoError(t, err)
	require.Len(t, explained, 2)
	rules := map[string]string{}
	for _, e := range explained {
		require.False(t, e.Supposed)
		rules[e.Identity.CredentialID] = e.Rule
	}
	require.Equal(t, map[string]string{"json-1": "", record.ID: "listed"}, rules)
	known := a.Known()
	require.Len(t, known, 1)
	require.Subset(t, known[0].Grants["transit"], []string{"one", "by-rule"})
	require.NoError(t, auth.NewKeyFile(file).Revoke(record.ID))
	explained, err = a.Explain(auth.Identity{Subject: "orders", Method: auth.MethodAPIKey})
	require.NoError(t, err)
	require.Len(t, explained, 1, "read anew")
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	_, err = a.Explain(auth.Identity{Subject: "orders", Method: auth.MethodAPIKey})
	require.Error(t, err)
}
