package auth_test

import (
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
	p, err := a.PrincipalOf("orders")
	require.NoError(t, err)
	require.Equal(t, a.Known()[1], p)
	p, err = a.PrincipalOf("somebody")
	require.NoError(t, err)
	require.Equal(t, "mcp/somebody", p.Prefix)
	require.Equal(t, []string{"somebody", "somebody--*", "shared"}, p.Grants["transit"])
	_, err = a.PrincipalOf("")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}
