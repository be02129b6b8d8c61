package tools_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// complete asks for a completion and holds what comes to what every one must be.
func (r *rig) complete(p *auth.Principal, c tools.Completion) ([]string, *fault.Error) {
	r.t.Helper()
	c.Principal, c.Transport, c.Remote = p, "test", "192.0.2.1"
	done, err := r.runner.Complete(r.t.Context(), c)
	if err != nil {
		f, ok := err.(*fault.Error) //nolint:errorlint // nothing may be wrapped around it
		require.True(r.t, ok)
		require.Empty(r.t, done)
		return nil, f
	}
	require.NotNil(r.t, done.Values, "null is no list")
	require.LessOrEqual(r.t, len(done.Values), tools.MaxCompletions)
	require.GreaterOrEqual(r.t, done.Total, len(done.Values))
	for _, value := range done.Values {
		require.True(r.t, strings.HasPrefix(value, c.Value))
	}
	return done.Values, nil
}

// pathOf completes the path of a prompt; resourcePath that of a resource.
func pathOf(value string) tools.Completion {
	return tools.Completion{Prompt: "rotate_secret", Argument: "path", Value: value}
}

func resourceOf(argument, value string, given map[string]string) tools.Completion {
	return tools.Completion{Resource: tools.ResourceTemplate, Argument: argument, Value: value, Given: given}
}

// Names come from declarations and literal grants, without asking anybody.
func TestCompleteNames(t *testing.T) {
	vault := newFakeVault(t, answerJSON(`{}`))
	r := newRig(t, rigOptions{addr: vault.URL})
	p := with(principal("dev"), func(p *auth.Principal) {
		p.Grants = auth.Grants{
			"database": {"ro", "dev", "dev--*", "rw", "ro", "bad/name", "..", "*"},
			"transit":  {"signing", "dev--*", "dev"},
			"kms":      {"alias/dev", "alias/dev--*", "arn:aws:kms:eu-west-2:111122223333:alias/x", "not a key"},
		}
	})
	arn := "arn:aws:kms:eu-west-2:111122223333:alias/x"
	for _, tc := range []struct {
		c    tools.Completion
		want []string
	}{
		{tools.Completion{Prompt: "request_database_access", Argument: "role"}, []string{"dev", "ro", "rw"}},
		{tools.Completion{Prompt: "request_database_access", Argument: "role", Value: "r"}, []string{"ro", "rw"}},
		{tools.Completion{Prompt: "request_database_access", Argument: "role", Value: "dev--"}, nil},
		{tools.Completion{Prompt: "request_database_access", Argument: "role", Value: "o"}, nil},
		{tools.Completion{Prompt: "request_database_access", Argument: "role", Value: "../x\x00"}, nil},
		{tools.Completion{Prompt: "request_database_access", Argument: "ttl", Value: "1"}, []string{"15m", "1h"}},
		{tools.Completion{Prompt: "sign_artifact", Argument: "key"}, []string{"dev", "signing"}},
		{tools.Completion{Prompt: "sign_artifact", Argument: "key", Given: map[string]string{"engine": "kms"}}, []string{"alias/dev", arn}},
		{tools.Completion{Prompt: "sign_artifact", Argument: "engine"}, []string{"transit", "kms"}},
		{tools.Completion{Prompt: "sign_artifact", Argument: "engine", Value: "k"}, []string{"kms"}},
		{tools.Completion{Prompt: "sign_artifact", Argument: "digest", Value: "a"}, nil},
		{tools.Completion{Prompt: "rotate_secret", Argument: "how", Value: "w"}, []string{"write"}},
		{resourceOf("subject", "", nil), []string{"dev"}},
		{resourceOf("subject", "dev-", nil), nil},
		{resourceOf("version", "", nil), nil},
		{resourceOf("version", "", map[string]string{"path": "folder/"}), nil},
		// What is not there.
		{tools.Completion{Prompt: "nosuch", Argument: "x"}, nil},
		{tools.Completion{Prompt: "rotate_secret", Argument: "Path"}, nil},
		{tools.Completion{Resource: "kv://{subject}/{+path}", Argument: "path"}, nil},
		{tools.Completion{Resource: "file:///etc/passwd", Argument: "path"}, nil},
		{tools.Completion{Argument: "path"}, nil},
		{resourceOf("Path", "", nil), nil},
	} {
		before := len(r.records())
		got, f := r.complete(p, tc.c)
		require.Nil(t, f, "%+v", tc.c)
		require.Equal(t, append([]string{}, tc.want...), got, "%+v", tc.c)
		records := r.records()[before:]
		require.Len(t, records, 1, "%+v", tc.c)
		require.Equal(t, "completion", records[0].Tool)
	}
	require.Empty(t, vault.seen())

	only := with(p, func(p *auth.Principal) { p.Scopes = auth.Scopes{"kms:read", "kms:write"} })
	got, f := r.complete(only, tools.Completion{Prompt: "sign_artifact", Argument: "engine"})
	require.Nil(t, f)
	require.Equal(t, []string{"kms"}, got, "what may not be used is not offered")
	_, f = r.complete(only, tools.Completion{Prompt: "sign_artifact", Argument: "key", Given: map[string]string{"engine": "transit"}})
	require.Equal(t, fault.Forbidden, f.Kind)
	_, f = r.complete(only, tools.Completion{Prompt: "request_database_access", Argument: "role"})
	require.Equal(t, fault.Forbidden, f.Kind)
}

// Paths come from a real Vault's folders, through the tool that lists them: walked
// from the root, all of the caller's own secrets are offered, each can be read as
// it is offered, and nothing else is.
func TestCompletePaths(t *testing.T) {
	v := devstacktest.Shared(t)
	seen := devstacktest.Recorder(t, v.Addr)
	r := newRig(t, rigOptions{addr: seen.URL, token: v.RootToken})
	p := principal("walker")
	own := []string{"a", "a/b", "a/bc", "a/b/deep", "app/config", "z.z_@=-"}
	for _, path := range own {
		require.NoError(t, v.PutSecret(t.Context(), "mcp/walker/"+path, map[string]any{"k": "v"}))
	}
	for _, other := range []string{"mcp/walker/a/with space", "mcp/walker/a/öl", "mcp/walker-bot/a/x", "mcp/walkers", "walker/a/y"} {
		require.NoError(t, v.PutSecret(t.Context(), other, map[string]any{"k": "v"}))
	}
	for _, ask := range []func(string) tools.Completion{pathOf, func(value string) tools.Completion { return resourceOf("path", value, nil) }} {
		var offered []string
		for open := []string{""}; len(open) > 0; open = open[1:] {
			seen.Reset()
			before := len(r.records())
			paths, f := r.complete(p, ask(open[0]))
			require.Nil(t, f)
			require.True(t, slices.IsSorted(paths))
			require.Len(t, seen.Requests(), 1, "one folder is one request")
			require.True(t, strings.HasPrefix(seen.Requests()[0], "LIST /v1/secret/metadata/mcp/walker"), seen.Requests())
			require.Equal(t, []string{"attempt", "outcome ok"}, kinds(r.records()[before:]))
			require.Equal(t, "kv.list", r.records()[before].Tool)
			for _, path := range paths {
				if strings.HasSuffix(path, "/") {
					open = append(open, path)
					continue
				}
				offered = append(offered, path)
				_, f := r.run(p, "kv.read", fmt.Sprintf(`{"path":%q}`, path))
				require.Nil(t, f, path)
			}
		}
		require.ElementsMatch(t, own, offered)
	}
	for value, want := range map[string][]string{
		"a":     {"a", "a/", "app/"},
		"a/b":   {"a/b", "a/b/", "a/bc"},
		"a/b/d": {"a/b/deep"},
		"A":     {}, "nosuch/": {}, "a/bc/": {},
	} {
		got, f := r.complete(p, pathOf(value))
		require.Nil(t, f, value)
		require.Equal(t, want, got, value)
	}

	_, f := r.complete(with(p, func(p *auth.Principal) { p.Scopes = auth.Scopes{auth.Read, auth.Write} }), pathOf(""))
	require.Equal(t, fault.Forbidden, f.Kind)
	require.Equal(t, "list", f.Details["scope"])
}

// A hub, whose prefix holds those of others, completes theirs by their slugs; nobody
// else does.
func TestCompleteOthersPaths(t *testing.T) {
	r, v := realRig(t, tools.Options{Prefix: "mcp"})
	require.NoError(t, v.PutSecret(t.Context(), "mcp/tenant-a/app/x", map[string]any{"k": "v"}))
	given := map[string]string{"subject": "tenant-a"}
	hub := with(principal("hub"), func(p *auth.Principal) { p.Prefix = "mcp" })
	got, f := r.complete(hub, resourceOf("path", "app/", given))
	require.Nil(t, f)
	require.Equal(t, []string{"app/x"}, got)
	got, f = r.complete(hub, resourceOf("version", "", map[string]string{"subject": "tenant-a", "path": "app/x"}))
	require.Nil(t, f)
	require.Equal(t, []string{"1"}, got)
	for _, slug := range []string{"tenant-a", "hub", "tenant"} {
		before := len(r.records())
		_, f = r.complete(principal("tenant-b"), resourceOf("path", "app/", map[string]string{"subject": slug}))
		require.Equal(t, fault.Forbidden, f.Kind, slug)
		require.Equal(t, []string{"outcome forbidden"}, kinds(r.records()[before:]))
	}
	for _, slug := range []string{"..", "", "a/b", "tenant-a/app", "%2e%2e", "x\x00"} {
		_, f = r.complete(hub, resourceOf("path", "", map[string]string{"subject": slug}))
		require.Equal(t, fault.Invalid, f.Kind, slug)
		require.Equal(t, "/context/arguments/subject", f.Details["field"])
	}
}

// Versions are those that can be read, newest first.
func TestCompleteVersions(t *testing.T) {
	r, _ := realRig(t, tools.Options{})
	p := principal("versions")
	for range 12 {
		r.conform(p, "kv.write", `{"path":"x","data":{}}`)
	}
	r.conform(p, "kv.destroy", `{"path":"x","versions":[11]}`)
	r.conform(p, "kv.delete", `{"path":"x","versions":[2]}`)
	given := map[string]string{"path": "x"}
	got, f := r.complete(p, resourceOf("version", "1", given))
	require.Nil(t, f)
	require.Equal(t, []string{"12", "10"}, got) // Vault keeps ten of them
	got, f = r.complete(p, resourceOf("version", "", given))
	require.Nil(t, f)
	require.Equal(t, []string{"12", "10", "9", "8", "7", "6", "5", "4", "3"}, got)
	got, f = r.complete(p, resourceOf("version", "", map[string]string{"path": "nosuch"}))
	require.Nil(t, f)
	require.Empty(t, got)
	for _, value := range []string{"-1", "1e3", "+5", "٣", "1 ", "../1", "1/../../x"} {
		_, f = r.complete(p, resourceOf("version", value, given))
		require.Equal(t, fault.Invalid, f.Kind, value)
	}
	_, f = r.complete(p, resourceOf("version", "", map[string]string{"path": "../x"}))
	require.Equal(t, "/context/arguments/path", f.Details["field"])
	_, f = r.complete(with(p, func(p *auth.Principal) { p.Scopes = auth.Scopes{auth.List} }), resourceOf("version", "", given))
	require.Equal(t, fault.Forbidden, f.Kind)
}

// One answer has at most a hundred values, and says how many there are.
func TestCompleteManyPaths(t *testing.T) {
	var keys []string
	for i := range 250 {
		keys = append(keys, fmt.Sprintf("%q", fmt.Sprintf("k%03d", 249-i)))
	}
	keys = append(keys, `""`, `"k000"`, `"k//"`, `"`+strings.Repeat("k", 500)+`/`+`"`, `"`+strings.Repeat("k", 129)+`"`)
	vault := newFakeVault(t, answerJSON(`{"request_id":"r","data":{"keys":[`+strings.Join(keys, ",")+`]}}`))
	r := newRig(t, rigOptions{addr: vault.URL})
	for _, value := range []string{"k", ""} {
		c := pathOf(value)
		c.Principal = principal("dev")
		done, err := r.runner.Complete(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, 250, done.Total)
		require.Len(t, done.Values, 100)
		require.Equal(t, "k000", done.Values[0])
		require.Equal(t, "k099", done.Values[99])
	}
}

// Every row of the corpus of paths: what the grammar refuses is refused with one
// record, and Vault is not asked.
func TestCompleteHostilePaths(t *testing.T) {
	vault := newFakeVault(t, func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(`{"request_id":"r","data":{"keys":["x"]}}`)(w, nil)
	})
	r := newRig(t, rigOptions{addr: vault.URL})
	p := principal("dev")
	for _, value := range []string{
		"agents/a/../b/x", "agents/a/..", "..", ".", "agents/./a/x", "../../../sys/mounts", "%2e%2e", "..%2f", "%252e%252e", "%c0%ae%c0%ae", "%u002e",
		"agents/a//x", "//agents/a/x", "/agents/a/x", "/", "a//", "agents/a/x\x00", "x%00", "x\n", "x\r\nX-Vault-Token: y", "x\t", "x\x7f", "x\u0085",
		`agents\a\..\b`, "agents/a;/../b", "agents/a/..;/b", "agents/a/x?version=1", "x?list=true", "x#f", "x&help=1",
		"agents/a/\uff0e\uff0e/b", "\u2215", "\u2044", "\u2024\u2024", "agents/\u0430/x", "\u00e9", "e\u0301", "\u202e", "\u200b", "\ufeff", "\u00df", "\u212a", "\u017f", "\u0130",
		"\xff\xfe", "\ufffd", " agents/a/x", "agents/a/x ", "agents/a/ x", "a\u00a0x", "agents/a/*", "agents/+/x", "{{identity.entity.id}}", "{path...}",
		strings.Repeat("s", 129), strings.Repeat("s", 4096), strings.Repeat("s", 64<<10), strings.Repeat("a/", 10_000), strings.Repeat("a/", 33),
	} {
		for _, c := range []tools.Completion{pathOf(value), resourceOf("path", value, nil), resourceOf("version", "", map[string]string{"path": value})} {
			before := len(r.records())
			_, f := r.complete(p, c)
			if c.Argument == "version" && strings.HasSuffix(value, "/") { // a folder, to which there are no versions
				require.Nil(t, f)
				continue
			}
			require.NotNil(t, f, "%.50q", value)
			require.Equal(t, fault.Invalid, f.Kind)
			require.Contains(t, []any{"/argument/value", "/context/arguments/path"}, f.Details["field"])
			require.Equal(t, []string{"outcome invalid"}, kinds(r.records()[before:]), "%.50q", value)
			if len(value) > 6 {
				require.NotContains(t, f.Msg, value)
				require.NotContains(t, r.everywhere(), value, "%.50q stands in a record or a log", value)
			}
		}
	}
	require.Empty(t, vault.seen())
	for _, value := range []string{"sys/mounts", "data/a/x", "metadata/", "mcp/dev-bot/", "..a", "-evil/x", "A/x"} {
		before := len(vault.seen())
		_, f := r.complete(p, pathOf(value))
		require.Nil(t, f, value)
		require.Len(t, vault.seen(), before+1)
		require.True(t, strings.HasPrefix(vault.seen()[before], "LIST /v1/secret/metadata/mcp/dev"), vault.seen()[before])
	}
}

// Whatever the grants, a name that completion offers is one that its prompt takes.
func TestCompletionsAreWithinGrants(t *testing.T) {
	r := newRig(t, rigOptions{})
	var offered int
	for _, grants := range []auth.Grants{
		nil,
		{"database": {"*"}, "transit": {"dev--*"}},
		{"database": {"a", "b*", "c--*", "a", "..", "x/y"}, "transit": {"k", "K", "a b"}, "kms": {"alias/*"}},
		{"transit": {"x", "y"}, "kms": {"alias/a", "alias/*", "alias/aws/s3", "arn:aws:kms:eu-west-2:111122223333:key/00000000-0000-0000-0000-000000000000"}},
	} {
		p := with(principal("dev"), func(p *auth.Principal) { p.Grants = grants })
		for _, ask := range []struct {
			prompt, argument string
			given            map[string]string
		}{
			{"request_database_access", "role", map[string]string{}},
			{"sign_artifact", "key", map[string]string{"engine": "transit"}},
			{"sign_artifact", "key", map[string]string{"engine": "kms"}},
		} {
			values, f := r.complete(p, tools.Completion{Prompt: ask.prompt, Argument: ask.argument, Given: ask.given})
			require.Nil(t, f)
			offered += len(values)
			for _, value := range values {
				ask.given[ask.argument] = value
				_, f := r.prompt(p, ask.prompt, ask.given)
				require.Nil(t, f, value)
			}
		}
	}
	require.Equal(t, 7, offered)
}
