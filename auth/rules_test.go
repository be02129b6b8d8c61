package auth_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

// ruled are the options of an authenticator with rules, and some names of tools.
func ruled(rules string) auth.Options {
	return auth.Options{
		Prefix: "mcp", Rules: rules, Grants: auth.Grants{"transit": {"common"}}, Limit: auth.Limit{Requests: 60, Window: time.Minute},
		Tool:    func(entry string) bool { return slices.Contains([]string{"kv.read", "kv.*", "kv", "db"}, entry) },
		Toolset: func(entry string) bool { return slices.Contains([]string{"kv", "read"}, entry) },
	}
}

func withRules(t testing.TB, rules string) *auth.Authenticator {
	t.Helper()
	a, err := auth.New(ruled(rules))
	require.NoError(t, err)
	return a
}

const corp = "https://corp.example"

// full is an identity with all scopes.
func full(method auth.Method, issuer, subject string) auth.Identity {
	return auth.Identity{Method: method, Issuer: issuer, Subject: subject, Scopes: auth.AllScopes()}
}

// Which rule decides: the first that matches in all that it says.
func TestRulesMatch(t *testing.T) {
	a := withRules(t, `[
		{"name": "key", "key_id": "json-1"},
		{"name": "cert", "certificate": "uri:spiffe://td/ci/*"},
		{"name": "cn", "certificate": "cn:build"},
		{"name": "group", "claim": {"name": "https://corp.example/groups", "value": "admins"}},
		{"name": "deep", "source": "jwt", "claim": {"name": "/a/b~1c", "value": true}},
		{"name": "corp-group", "issuer": "`+corp+`", "claim": {"name": "groups", "value": "admins"}, "prefix": "corp/{slug}"},
		{"name": "corp-sub", "issuer": "`+corp+`", "subject": "repo:*", "prefix": "corp/{slug}"},
		{"name": "literal", "subject": "dev"},
		{"name": "open", "subject": "dev*", "source": "api_key"},
		{"source": "launch"}
	]`)
	claims := func(text string) func(*auth.Identity) {
		return func(id *auth.Identity) { id.Claims = jsontext.Value(text) }
	}
	names := func(names ...string) func(*auth.Identity) { return func(id *auth.Identity) { id.Names = names } }
	keyID := func(id *auth.Identity) { id.CredentialID = "json-1" }
	for about, row := range map[string]struct {
		id     auth.Identity
		change func(*auth.Identity)
		rule   string // "-": refused
	}{
		"a key by its id":                     {full(auth.MethodAPIKey, "", "x"), keyID, "key"},
		"a token with the id of a key":        {full(auth.MethodJWT, "", "x"), keyID, ""},
		"a certificate below a URI":           {full(auth.MethodMTLS, "", "x"), names("dns:a", "uri:spiffe://td/ci/a"), "cert"},
		"a certificate beside it":             {full(auth.MethodMTLS, "", "x"), names("uri:spiffe://td/cia"), ""},
		"a token with names of a certificate": {full(auth.MethodJWT, "", "x"), names("cn:build"), ""},
		"a CN":                                {full(auth.MethodMTLS, "", "x"), names("cn:build"), "cn"},
		"a CN that goes on":                   {full(auth.MethodMTLS, "", "x"), names("cn:build2"), ""},
		"a list with the value":               {full(auth.MethodJWT, "", "x"), claims(`{"https://corp.example/groups":["a","admins"]}`), "group"},
		"the value itself":                    {full(auth.MethodJWT, "", "x"), claims(`{"https://corp.example/groups":"admins"}`), "group"},
		"a list in a list":                    {full(auth.MethodJWT, "", "x"), claims(`{"https://corp.example/groups":[["admins"]]}`), ""},
		"the value in another case":           {full(auth.MethodJWT, "", "x"), claims(`{"https://corp.example/groups":["Admins"]}`), ""},
		"the value within another":            {full(auth.MethodJWT, "", "x"), claims(`{"https://corp.example/groups":"admins other"}`), ""},
		"an object with the value":            {full(auth.MethodJWT, "", "x"), claims(`{"https://corp.example/groups":{"admins":true}}`), ""},
		"claims that are none":                {full(auth.MethodJWT, "", "x"), claims(`["admins"]`), ""},
		"claims that cannot be read":          {full(auth.MethodJWT, "", "x"), claims(`{"https://corp.example/groups":"admins","x":1,"x":2}`), ""},
		"the claim in an API key":             {full(auth.MethodAPIKey, "", "x"), claims(`{"https://corp.example/groups":"admins"}`), ""},
		"a claim by pointer":                  {full(auth.MethodJWT, "", "x"), claims(`{"a":{"b/c":true}}`), "deep"},
		"a text for a bool":                   {full(auth.MethodJWT, "", "x"), claims(`{"a":{"b/c":"true"}}`), ""},
		"a number for a bool":                 {full(auth.MethodJWT, "", "x"), claims(`{"a":{"b/c":1}}`), ""},
		"an issuer and its claim":             {full(auth.MethodJWT, corp, "x"), claims(`{"groups":["admins"]}`), "corp-group"},
		"an issuer with a home rule's claim":  {full(auth.MethodJWT, corp, "x"), claims(`{"https://corp.example/groups":"admins"}`), "-"},
		"home with an issuer's claim":         {full(auth.MethodJWT, "", "x"), claims(`{"groups":["admins"]}`), ""},
		"an issuer and its subject":           {full(auth.MethodJWT, corp, "repo:x"), nil, "corp-sub"},
		"an issuer with a home rule's name":   {full(auth.MethodJWT, corp, "dev"), nil, "-"},
		"an issuer with a slash at its end":   {full(auth.MethodJWT, corp+"/", "repo:x"), nil, "-"},
		"an issuer in another case":           {full(auth.MethodJWT, "https://Corp.example", "repo:x"), nil, "-"},
		"the literal":                         {full(auth.MethodAPIKey, "", "dev"), nil, "literal"},
		"the literal, by any source":          {full(auth.MethodLaunch, "", "dev"), nil, "literal"},
		"what begins so":                      {full(auth.MethodAPIKey, "", "dev-bot"), nil, "open"},
		"what begins so, of another source":   {full(auth.MethodJWT, "", "dev-bot"), nil, ""},
		"a rule without a name":               {full(auth.MethodLaunch, "", "x"), nil, "10"},
		"the literal in another case":         {full(auth.MethodAPIKey, "", "Dev"), nil, ""},
	} {
		if row.change != nil {
			row.change(&row.id)
		}
		p, err := a.Principal(row.id)
		if row.rule == "-" {
			require.ErrorIs(t, err, fault.Forbidden, about)
			require.Nil(t, p, about)
			continue
		}
		require.NoError(t, err, about)
		require.Equal(t, row.rule, p.Rule, about)
	}
}

// What a rule gives, and that nothing else changes.
func TestRulesApply(t *testing.T) {
	a := withRules(t, `[
		{"subject": "hub", "prefix": "/mcp/"},
		{"subject": "team-*", "prefix": "teams/{slug}/agents", "scopes": ["read", "kv:write"], "grants": {"transit": ["t-{slug}--*", "orders"]},
		 "rate_limit": {"requests": 5, "window_seconds": 10, "burst": 2}, "toolsets": ["read"], "tools": ["kv.*"], "exclude": ["db"], "bind_ciphertexts": true},
		{"subject": "none", "scopes": []},
		{"issuer": "`+corp+`", "prefix": "corp/{slug}", "grants": {"ssh": ["corp-{slug}"]}}
	]`)
	hub, err := a.Principal(full(auth.MethodAPIKey, "", "hub"))
	require.NoError(t, err)
	require.Equal(t, "mcp", hub.Prefix)
	require.Equal(t, "hub", hub.ID(), "a wider prefix is no other principal")
	require.Equal(t, auth.AllScopes(), hub.Scopes)
	require.Equal(t, auth.Limit{Requests: 60, Window: time.Minute}, hub.Limit)
	require.True(t, hub.Grants.Allow("transit", "hub") && hub.Grants.Allow("transit", "common"))

	id := full(auth.MethodJWT, "", "team-A")
	id.Scopes, id.Grants = auth.Scopes{"read", "write", "kv:delete", "db:read"}, auth.Grants{"ssh": {"mine"}}
	p, err := a.Principal(id)
	require.NoError(t, err)
	require.Equal(t, &auth.Principal{
		Subject: "team-A", Slug: "team-=41", Method: auth.MethodJWT, Rule: "2", Prefix: "teams/team-=41/agents",
		Scopes: auth.Scopes{"read", "kv:write", "db:read"}, Ceiling: auth.Scopes{"read", "kv:write"},
		Grants: auth.Grants{
			"transit":  {"team-=41", "team-=41--*", "common", "t-team-=41--*", "orders"},
			"database": {"team-=41", "team-=41--*"}, "ssh": {"team-=41", "team-=41--*", "mine"}, "kms": {"alias/team-=41", "alias/team-=41--*"},
		},
		Limit: auth.Limit{Requests: 5, Window: 10 * time.Second, Burst: 2},
		Tools: auth.ToolFilter{Only: []string{"read", "kv.*"}, Except: []string{"db"}}, BindCiphertexts: true,
	}, p)

	none, err := a.Principal(full(auth.MethodAPIKey, "", "none"))
	require.NoError(t, err)
	require.Empty(t, none.Scopes)

	theirs, err := a.Principal(full(auth.MethodJWT, corp, "dev"))
	require.NoError(t, err)
	require.Equal(t, "corp/dev", theirs.Prefix)
	require.Equal(t, auth.Grants{"ssh": {"corp-dev"}}, theirs.Grants, "nothing of the operator's own, not even what all of those have")
}

// The effective scopes are those of the credential and the ceiling, for every
// engine and verb, whatever the two are.
func TestScopesWithinCeilings(t *testing.T) {
	universe := []string{"read", "write", "kv:read", "kv:write", "db:read", "kms:list"}
	sets := make([]auth.Scopes, 1<<len(universe))
	for set := range sets {
		for i, s := range universe {
			if set&(1<<i) != 0 {
				sets[set] = append(sets[set], auth.Scope(s))
			}
		}
	}
	for _, ceiling := range sets {
		list, err := json.Marshal(append([]auth.Scope{}, ceiling...))
		require.NoError(t, err)
		a := withRules(t, `[{"any": true, "scopes": `+string(list)+`}]`)
		for _, scopes := range sets {
			p, err := a.Principal(auth.Identity{Method: auth.MethodAPIKey, Subject: "dev", Scopes: scopes})
			require.NoError(t, err)
			for _, engine := range []string{"kv", "transit", "db", "ssh", "kms"} {
				for _, verb := range auth.AllScopes() {
					require.Equal(t, scopes.Allow(engine, verb) && ceiling.Allow(engine, verb), p.Scopes.Allow(engine, verb),
						"%s:%s by %v within %v", engine, verb, scopes, ceiling)
				}
			}
		}
	}
}

// A rule that refuses is no mistake of a key's: its bearer is told, and everybody
// else goes on. Whoever has no such key is still told nothing but that.
func TestDisabledByRule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	file := auth.NewKeyFile(path)
	gone, record, err := file.Create("gone-bot", auth.KeyOptions{})
	require.NoError(t, err)
	rotated, _, err := file.Rotate(record.ID, time.Hour)
	require.NoError(t, err)
	kept, _, err := file.Create("dev", auth.KeyOptions{})
	require.NoError(t, err)
	opt := ruled(`[{"subject": "gone*", "disabled": true}]`)
	opt.APIKeys, opt.KeysFile, opt.LaunchSubject = true, path, "gone"
	opt.KeysJSON = secret.NewText(`{"key-of-gone": "gone", "key-of-dev": "dev"}`)
	a, err := auth.New(opt)
	require.NoError(t, err)
	for key, kind := range map[string]fault.Kind{
		"key-of-gone": fault.Forbidden, gone.Reveal(): fault.Forbidden, rotated.Reveal(): fault.Forbidden,
		"key-of-dev": "", kept.Reveal(): "", "key-of-nobody": fault.Unauthenticated,
	} {
		p, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
		require.Equal(t, kind, fault.KindOf(err))
		require.Equal(t, kind == "", p != nil)
	}
	_, err = a.Launch(t.Context())
	require.ErrorIs(t, err, fault.Forbidden)
	require.NotContains(t, err.Error(), "gone")
}

// What a proxy says of a certificate is a name of it for rules only where it is
// the CN: no rule knows another attribute, and one about cn:build means the CN.
func TestRulesAboutTheSubjectOfAProxy(t *testing.T) {
	proxies, err := auth.ParseProxies([]string{"192.0.2.1"})
	require.NoError(t, err)
	for prefix, want := range map[string]string{"CN=": "cn", "2.5.4.3=": "cn", "UID=": "", "emailAddress=": ""} {
		opt := ruled(`[{"name": "cn", "certificate": "cn:build"}]`)
		opt.MTLS = &auth.MTLSOptions{
			Identity: "cn", Proxies: proxies, VerifyHeader: "X-Verify", SubjectHeader: "X-Subject", SubjectPrefix: prefix,
		}
		a, err := auth.New(opt)
		require.NoError(t, err)
		p, err := a.Authenticate(t.Context(), auth.Presented{
			Peer:   netip.MustParseAddr("192.0.2.1"),
			Header: http.Header{"X-Verify": {"SUCCESS"}, "X-Subject": {prefix + "build,O=Example"}},
		})
		require.NoError(t, err, prefix)
		require.Equal(t, "build", p.Subject)
		require.Equal(t, want, p.Rule, prefix)
	}
}
