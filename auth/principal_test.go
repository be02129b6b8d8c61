package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

func TestParseScopes(t *testing.T) {
	good, err := auth.ParseScopes([]string{"read", "kv:write", "read", "transit:read", "db:write", "ssh:list", "kms:delete"})
	require.NoError(t, err)
	require.Equal(t, auth.Scopes{"read", "kv:write", "transit:read", "db:write", "ssh:list", "kms:delete"}, good)

	none, err := auth.ParseScopes([]string{})
	require.NoError(t, err)
	require.Empty(t, none)

	for _, bad := range []string{
		"", "Read", " read", "read ", "*", "kv", "kv:", ":read", "kv:*", "*:read", "database:read", "kv:read:x",
		"kv.read", "KV:read", "admin", "read,write", "kv:kv:read", "canary",
	} {
		_, err := auth.ParseScopes([]string{"read", bad})
		require.ErrorIs(t, err, fault.Invalid, "%q", bad)
		require.ErrorContains(t, err, "scope 2")
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestScopesAllow(t *testing.T) {
	s := auth.Scopes{"kv:read", "list"}
	require.True(t, s.Allow("kv", auth.Read))
	require.True(t, s.Allow("kv", auth.List))
	require.True(t, s.Allow("db", auth.List))
	require.False(t, s.Allow("transit", auth.Read))
	require.False(t, s.Allow("kv", auth.Write))
	require.False(t, auth.Scopes{}.Allow("kv", auth.Read))
	require.False(t, auth.Scopes(nil).Allow("", auth.Read))
}

func TestGrantsAllow(t *testing.T) {
	g := auth.Grants{"transit": {"orders", "team-*", "a*b"}, "ssh": {"*"}}
	for name, want := range map[string]bool{
		"orders": true, "order": false, "ordersx": false, "team-": true, "team-a": true, "team": false, "": false, "aXb": false,
	} {
		require.Equal(t, want, g.Allow("transit", name), "%q", name)
	}
	require.True(t, g.Allow("ssh", "any"))
	require.False(t, g.Allow("ssh", ""))
	require.False(t, g.Allow("database", "orders"))
	require.False(t, auth.Grants(nil).Allow("transit", "orders"))
}

func TestPrincipalOfALaunch(t *testing.T) {
	extra := auth.Grants{"transit": {"shared", "dev"}, "kms": {"alias/all-*"}}
	limit := auth.Limit{Requests: 5, Window: time.Second}
	a, err := auth.New(auth.Options{Prefix: "/team/mcp/", Grants: extra, Limit: limit, LaunchSubject: "dev"})
	require.NoError(t, err)
	p, err := a.Launch(t.Context())
	require.NoError(t, err)
	require.Equal(t, &auth.Principal{
		Subject: "dev", Slug: "dev", Method: auth.MethodLaunch, Scopes: auth.AllScopes(), Ceiling: auth.AllScopes(), Prefix: "team/mcp/dev", Limit: limit,
		Grants: auth.Grants{
			"transit": {"dev", "dev--*", "shared"}, "database": {"dev", "dev--*"}, "ssh": {"dev", "dev--*"},
			"kms": {"alias/dev", "alias/dev--*", "alias/all-*"},
		},
	}, p)
	require.Equal(t, auth.Grants{"transit": {"shared", "dev"}, "kms": {"alias/all-*"}}, extra, "the configuration is not touched")
	require.True(t, p.Valid(time.Now()))
}

func TestPrincipalValid(t *testing.T) {
	now := time.Now()
	var none *auth.Principal
	require.False(t, none.Valid(now))
	require.False(t, (&auth.Principal{}).Valid(now), "nobody made it")
	p := &auth.Principal{Slug: "dev", Prefix: "mcp/dev", ExpiresAt: now}
	require.True(t, p.Valid(now.Add(-time.Nanosecond)))
	require.False(t, p.Valid(now))
}

func TestNewRefuses(t *testing.T) {
	for about, opt := range map[string]auth.Options{
		"no prefix":             {},
		"a prefix that climbs":  {Prefix: "mcp/../x"},
		"a prefix with a gap":   {Prefix: "mcp//x"},
		"grants for no engine":  {Prefix: "mcp", Grants: auth.Grants{"kv": {"x"}}},
		"a star in the middle":  {Prefix: "mcp", Grants: auth.Grants{"ssh": {"a*b"}}},
		"an empty grant":        {Prefix: "mcp", Grants: auth.Grants{"ssh": {""}}},
		"a limit of no window":  {Prefix: "mcp", Limit: auth.Limit{Requests: 1}},
		"a negative burst":      {Prefix: "mcp", Limit: auth.Limit{Requests: 1, Window: 1, Burst: -1}},
		"a subject of no slug":  {Prefix: "mcp", LaunchSubject: string(make([]byte, 43))},
		"a limit of no request": {Prefix: "mcp", Limit: auth.Limit{Window: time.Second}},
	} {
		_, err := auth.New(opt)
		require.ErrorIs(t, err, fault.Invalid, about)
	}
}
