package tools_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

func (r *rig) read(p *auth.Principal, uri string) (string, tools.Result, *fault.Error) {
	r.t.Helper()
	canonical, res, err := r.runner.ReadResource(r.t.Context(), tools.Call{Principal: p, Transport: "test", Remote: "192.0.2.1"}, uri)
	require.NotEmpty(r.t, res.RequestID)
	if err == nil {
		return canonical, res, nil
	}
	require.Nil(r.t, res.JSON)
	return canonical, res, fault.From(err)
}

// A resource is what the tool gives, with the tool's records; a hub reads others'.
func TestReadResource(t *testing.T) {
	v := devstacktest.Shared(t)
	r := newRig(t, rigOptions{addr: v.Addr, token: v.RootToken, Options: tools.Options{Prefix: "mcp"}})
	require.NoError(t, v.PutSecret(t.Context(), "mcp/resread/app/x", map[string]any{"k": canary}))
	p := principal("resread")
	hub := with(principal("hub"), func(p *auth.Principal) { p.Prefix = "mcp" })
	byTool, f := r.run(p, "kv.read", `{"path":"app/x"}`)
	require.Nil(t, f)
	for uri, who := range map[string]*auth.Principal{"kv://resread/app/x": p, "kv://resread/app/x?version=1": hub, "kv://hub/resread/app/x": hub} {
		before := len(r.records())
		canonical, res, f := r.read(who, uri)
		require.Nil(t, f, uri)
		require.Equal(t, uri, canonical)
		require.JSONEq(t, string(byTool.JSON), string(res.JSON))
		recs := r.records()[before:]
		require.Equal(t, []string{"attempt", "outcome ok"}, kinds(recs))
		require.Equal(t, []string{"read secret/data/mcp/resread/app/x"}, recs[0].Needs)
		require.NotContains(t, recs[0].Args, "*")
		require.Contains(t, recs[0].Args, "path")
	}
	_, res, f := r.read(p, "kv://resread/app/")
	require.Nil(t, f)
	require.JSONEq(t, `{"keys":["x"]}`, string(res.JSON))
	_, _, f = r.read(p, "kv://resread/app/x?version=2")
	require.Equal(t, fault.NotFound, f.Kind)
	require.NotContains(t, r.everywhere(), canary)
}

// Whoever may not call the tool may not read: whatever the URI is, it is told that
// and nothing of the URI, and each refusal counts and is recorded once.
func TestReadResourceOfWhoMayNot(t *testing.T) {
	vault := newFakeVault(t, answerJSON(`{}`))
	for name, tc := range map[string]struct {
		opt    tools.Options
		change func(*auth.Principal)
		folder bool // a folder is refused; else a secret
		kind   fault.Kind
	}{
		"no scope to read": {tools.Options{}, func(p *auth.Principal) { p.Scopes = auth.Scopes{auth.List} }, false, fault.Forbidden},
		"no scope to list": {tools.Options{}, func(p *auth.Principal) { p.Scopes = auth.Scopes{auth.Read} }, true, fault.Forbidden},
		"switched off":     {tools.Options{Exclude: []string{"kv.read"}}, func(*auth.Principal) {}, false, fault.Forbidden},
		"another toolset":  {tools.Options{Sets: []string{"transit"}}, func(*auth.Principal) {}, true, fault.Forbidden},
		"a filter":         {tools.Options{}, func(p *auth.Principal) { p.Tools.Except = []string{"kv_list"} }, true, fault.Forbidden},
		"expired":          {tools.Options{}, func(p *auth.Principal) { p.ExpiresAt = time.Now().Add(-time.Minute) }, false, fault.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{addr: vault.URL, Options: tc.opt})
			p := with(principal("dev"), tc.change)
			uris := []string{"kv://dev/x", "kv://dev/../x", "kv://dev-bot/x", canary}
			if tc.folder {
				uris = []string{"kv://dev/", "kv://dev-bot/x/"}
			}
			for _, uri := range uris {
				before := len(r.records())
				_, _, f := r.read(p, uri)
				require.NotNil(t, f)
				require.Equal(t, tc.kind, f.Kind, uri)
				require.NotContains(t, f.Msg, "kv://", "of the URI it learns nothing")
				recs := r.records()[before:]
				require.Equal(t, []string{"outcome " + string(tc.kind)}, kinds(recs))
				require.NotEmpty(t, recs[0].Args["*"], "what was asked for is on record, as a digest")
			}
			_, ok := r.runner.ResourceHelp(p)
			require.Equal(t, name == "no scope to list" || name == "a filter", ok)
		})
	}
	r := newRig(t, rigOptions{addr: vault.URL})
	p := with(principal("dev"), func(p *auth.Principal) { p.Limit = auth.Limit{Requests: 2, Window: time.Hour} })
	for _, want := range []fault.Kind{fault.Invalid, fault.Forbidden, fault.RateLimited} {
		_, _, f := r.read(p, map[fault.Kind]string{fault.Invalid: canary, fault.Forbidden: "kv://dev-bot/x", fault.RateLimited: "kv://dev/x"}[want])
		require.Equal(t, want, f.Kind, "wrong URIs count")
	}
	require.NotContains(t, r.everywhere(), canary)
	require.Empty(t, vault.seen())
}

// The words for a template name the caller, and others' only to a hub.
func TestResourceHelp(t *testing.T) {
	r := newRig(t, rigOptions{Options: tools.Options{Prefix: "mcp"}})
	help, ok := r.runner.ResourceHelp(principal("dev"))
	require.True(t, ok)
	require.Equal(t, "Secrets of dev", help.Title)
	require.NotContains(t, help.Description, "another's")
	help, ok = r.runner.ResourceHelp(with(principal("hub"), func(p *auth.Principal) { p.Prefix = "mcp" }))
	require.True(t, ok)
	require.Contains(t, help.Description, "another's")
	_, ok = r.runner.ResourceHelp(nil)
	require.False(t, ok)
}
