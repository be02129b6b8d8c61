package tools_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// What a URI may look like, and that there is one spelling of each.
func TestParseResource(t *testing.T) {
	long := strings.Repeat("s", 128)
	for uri, want := range map[string]tools.Resource{
		"kv://dev/app/config":                    {Subject: "dev", Path: "app/config"},
		"kv://dev/app/config?version=7":          {Subject: "dev", Path: "app/config", Version: 7},
		"kv://dev/x?version=2147483647":          {Subject: "dev", Path: "x", Version: 1<<31 - 1},
		"kv://dev/app/":                          {Subject: "dev", Path: "app", Folder: true},
		"kv://dev/":                              {Subject: "dev", Folder: true},
		"kv://a@b=2ec_d/.x/..y/z@=-_":            {Subject: "a@b=2ec_d", Path: ".x/..y/z@=-_"},
		"kv://" + long + "/" + long + "/" + long: {Subject: long, Path: long + "/" + long},
	} {
		got, err := tools.ParseResource(uri)
		require.NoError(t, err, uri)
		require.Equal(t, want, got)
		require.Equal(t, uri, got.String())
	}
	for uri, canonical := range map[string]string{ // as the template's expansion has them
		"kv://a%40b%3D2e/x": "kv://a@b=2e/x", "kv://a%40b%3d2e/x/": "kv://a@b=2e/x/",
	} {
		got, err := tools.ParseResource(uri)
		require.NoError(t, err, uri)
		require.Equal(t, canonical, got.String())
	}
	for _, uri := range []string{
		"", "kv", "kv:", "kv:/", "kv://", "kv:///", "kv:///x", "kv://dev", "kv:dev/x", "kv:/dev/x", "KV://dev/x", "Kv://dev/x", " kv://dev/x", "kv://dev/x ",
		"vault://dev/x", "file:///etc/passwd", "http://dev/x", "//dev/x", "dev/x", "kv://dev:80/x", "kv://u@/x?", "kv://u:p@dev/x", "kv://./x", "kv://../x", "kv://dev\\x/y",
		"kv://dev//", "kv://dev//x", "kv://dev/x//", "kv://dev/x//y", "kv://dev/../x", "kv://dev/./x", "kv://dev/..", "kv://dev/../", "kv://dev/a/../b",
		"kv://dev/%2e%2e/x", "kv://dev/a%2fb", "kv://dev/%61", "kv://d%65v/x", "kv://dev%2Fx/y", "kv://dev%253D/x", "kv://dev%00/x", "kv://dev/x%40",
		"kv://dev/x?", "kv://dev/x?version", "kv://dev/x?version=", "kv://dev/x?version=0", "kv://dev/x?version=-1", "kv://dev/x?version=+1", "kv://dev/x?version=01",
		"kv://dev/x?version=1e3", "kv://dev/x?version=1&list=true", "kv://dev/x?list=true", "kv://dev/x?version=1?version=1", "kv://dev/x?Version=1", "kv://dev/x?version=2147483648",
		"kv://dev/x?version=99999999999999999999", "kv://dev/x?version=\u0663", "kv://dev/x?version=1 ", "kv://dev/x?version=1#f", "kv://dev/x#f", "kv://dev/x?version=%31",
		"kv://dev/x/?version=1", "kv://dev/?version=1", "kv://dev?version=1", "kv://dev/x\x00", "kv://dev/x\n", "kv://dev/\xff", "kv://\u0430/x", "kv://dev/e\u0301", "kv://{subject}/{+path}",
		"kv://dev/" + long + "s", "kv://" + long + "s/x", "kv://dev/" + strings.Repeat("a/", 32) + "a", "kv://dev/" + strings.Repeat(long+"/", 3) + long + "x",
		strings.Repeat("kv://dev/x", 200),
	} {
		_, err := tools.ParseResource(uri)
		require.Equal(t, fault.Invalid, fault.KindOf(err), uri)
		require.Equal(t, "/uri", fault.From(err).Details["field"], uri)
	}
}

// tree is a server's DEFAULT_PREFIX, and who is there.
type tree struct {
	prefix     string
	principals []*auth.Principal
}

func resourceWorlds() []tree {
	at := func(slug, prefix string) *auth.Principal {
		return with(principal(slug), func(p *auth.Principal) { p.Prefix = prefix })
	}
	twin := with(at("dev", "partners/dev"), func(p *auth.Principal) { p.Method, p.Issuer = auth.MethodJWT, "https://idp.example" })
	return []tree{
		{"mcp", []*auth.Principal{
			at("dev", "mcp/dev"), at("dev-bot", "mcp/dev-bot"), at("a@b=2ec", "mcp/a@b=2ec"), twin,
			at("hub", "mcp"), at("dev", "mcp"), at("mcp", "mcp"), // hubs, of which two have the name of another or of the prefix
			at("custom", "teams/custom"), at("robot", "mcp/dev"), at("deep", "mcp/dev/app"), at("other", "mc"), at("mcp", "mcp/mcp"),
		}},
		{"/org/mcp/", []*auth.Principal{
			at("dev", "org/mcp/dev"), at("hub", "org/mcp"), at("above", "org"), at("mcp", "org"), at("org", "org"), at("beside", "org/mcp2"), at("dev", "org/dev"),
		}},
		{"", []*auth.Principal{at("dev", "mcp/dev"), at("hub", "mcp")}},
	}
}

// Whatever a URI is, for whomever: it is refused, or names something in its
// principal's own part of the tree; and whatever is there has a URI that names it
// and nothing else.
func FuzzResource(f *testing.F) {
	for _, seed := range []string{
		"kv://dev/app/config", "kv://dev/", "kv://hub/dev/x?version=3", "kv://dev-bot/x", "kv://mcp/dev/x", "kv://a%40b%3D2ec/x/", "kv://other/../x", "kv://dev/app",
		"app/config", "dev/x", "mcp/dev/x", "org/mcp/dev", "a@b=2ec/x", "mcp", "dev", "x/y/z", "kv://custom/x",
	} {
		f.Add(seed)
	}
	worlds := resourceWorlds()
	runners := make([]*tools.Runner, len(worlds))
	for i, w := range worlds {
		runners[i] = newRig(f, rigOptions{Options: tools.Options{Prefix: w.prefix}}).runner
	}
	f.Fuzz(func(t *testing.T, text string) {
		for i, w := range worlds {
			for _, p := range w.principals {
				if relative, err := runners[i].Locate(p, text); err == nil {
					res, err := tools.ParseResource(text)
					require.NoError(t, err)
					again, err := tools.ParseResource(res.String())
					require.NoError(t, err)
					require.Equal(t, res, again)
					requireBelow(t, p, relative, res.Folder)
					requireNamed(t, runners[i], p, relative)
				}
				if vaultx.CheckPath(text) == nil {
					requireNamed(t, runners[i], p, text)
				}
			}
		}
	})
}

// requireBelow wants what was located to be a path of the tools, and of the
// principal's.
func requireBelow(t *testing.T, p *auth.Principal, relative string, folder bool) {
	t.Helper()
	if folder {
		require.NoError(t, vaultx.CheckListPrefix(relative))
	} else {
		require.NoError(t, vaultx.CheckPath(relative))
	}
	path, err := vaultx.MustTemplate("{kv}/metadata/{prefix}/{path...}").Expand(map[string]string{"kv": "secret", "prefix": p.Prefix, "path": strings.TrimSuffix(relative+"/x", "/")})
	if err == nil { // the x may be too much
		require.True(t, strings.HasPrefix(path.String(), "secret/metadata/"+p.Prefix+"/"))
		require.True(t, events.Contains("secret/metadata/"+p.Prefix, path.String()))
	}
}

// requireNamed wants the URI of a relative path to lead back to it.
func requireNamed(t *testing.T, r *tools.Runner, p *auth.Principal, relative string) {
	t.Helper()
	if relative == "" {
		return
	}
	uri := r.URIAt(p, p.Prefix+"/"+relative)
	back, err := r.Locate(p, uri)
	require.NoError(t, err, "%s of %s for %s", uri, relative, p.Prefix)
	require.Equal(t, relative, back, "%s for %s", uri, p.Prefix)
}

// What names whose: a hub names others' by their slugs, and nobody else does.
func TestLocate(t *testing.T) {
	worlds := resourceWorlds()
	for i, rows := range [][]struct {
		who       int // in the world
		uri, path string
		refused   bool
	}{
		{
			{0, "kv://dev/x", "x", false},
			{0, "kv://dev/", "", false},
			{0, "kv://dev-bot/x", "", true},
			{0, "kv://hub/x", "", true},
			{0, "kv://DEV/x", "", true},
			{1, "kv://dev/x", "", true},
			{2, "kv://a%40b=2ec/x", "x", false},
			{2, "kv://a@b/x", "", true},
			{3, "kv://dev/x", "x", false},
			{3, "kv://dev-bot/x", "", true},
			{3, "kv://partners/dev/x", "", true},
			{4, "kv://dev/x", "dev/x", false},
			{4, "kv://dev/", "dev", false},
			{4, "kv://hub/dev/x", "dev/x", false},
			{4, "kv://hub/hub/x", "hub/x", false},
			{4, "kv://hub/", "", false},
			{5, "kv://dev/x", "x", false},
			{5, "kv://dev/dev/x", "dev/x", false},
			{5, "kv://dev-bot/x", "dev-bot/x", false},
			{6, "kv://mcp/x", "x", false},
			{6, "kv://mcp/mcp/x", "mcp/x", false},
			{6, "kv://dev/x", "dev/x", false},
			{7, "kv://custom/x", "x", false},
			{7, "kv://dev/x", "", true},
			{8, "kv://robot/x", "x", false},
			{8, "kv://dev/x", "x", false},
			{8, "kv://dev/", "", false},
			{8, "kv://dev-bot/x", "", true},
			{9, "kv://dev/app/x", "x", false},
			{9, "kv://dev/app/", "", false},
			{9, "kv://dev/app", "", true},
			{9, "kv://dev/application", "", true},
			{9, "kv://dev/x", "", true},
			{9, "kv://dev/", "", true},
			{10, "kv://dev/x", "", true},
			{11, "kv://mcp/x", "x", false},
			{11, "kv://dev/x", "", true},
			{4, "kv://dev/" + strings.Repeat("s/", 31) + "s", "", true}, // one segment more than a path of the hub's may have
		},
		{
			{0, "kv://dev/x", "x", false},
			{1, "kv://dev/x", "dev/x", false},
			{2, "kv://dev/x", "mcp/dev/x", false},
			{2, "kv://above/mcp/dev/x", "mcp/dev/x", false},
			{2, "kv://above/x", "x", false},
			{5, "kv://dev/x", "", true},
			{6, "kv://dev/x", "x", false},
			{6, "kv://hub/x", "", true},
		},
		{{0, "kv://dev/x", "x", false}, {1, "kv://dev/x", "", true}, {1, "kv://hub/dev/x", "dev/x", false}},
	} {
		r := newRig(t, rigOptions{Options: tools.Options{Prefix: worlds[i].prefix}}).runner
		for _, row := range rows {
			p := worlds[i].principals[row.who]
			path, err := r.Locate(p, row.uri)
			require.Equal(t, row.refused, err != nil, "%s for %s: %v", row.uri, p.Prefix, err)
			require.Equal(t, row.path, path, "%s for %s", row.uri, p.Prefix)
			if row.refused {
				require.NotContains(t, err.Error(), row.uri)
			}
		}
	}
	r := newRig(t, rigOptions{Options: tools.Options{Prefix: "/org/mcp/"}}).runner
	hub, above := worlds[1].principals[1], worlds[1].principals[2]
	require.Equal(t, "kv://dev/x", r.URIAt(hub, "org/mcp/dev/x"))
	require.Equal(t, "kv://hub/hub/x", r.URIAt(hub, "org/mcp/hub/x"), "what has the hub's name is not the hub's whole tree")
	require.Equal(t, "kv://hub/dev", r.URIAt(hub, "org/mcp/dev"), "a secret beside a team's folder")
	require.Equal(t, "kv://dev/x", r.URIAt(above, "org/mcp/dev/x"))
	require.Equal(t, "kv://above/mcpx/dev/x", r.URIAt(above, "org/mcpx/dev/x"))
}
