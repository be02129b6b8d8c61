package tools_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
	"vault-mcp/tools"
)

// feed is a rig that publishes, and all that it does.
type feed struct {
	*rig
	bus *events.Bus
	sub *events.Subscription
}

func newFeed(t *testing.T, opt rigOptions) *feed {
	t.Helper()
	f := &feed{bus: events.NewMemory(events.Options{})}
	t.Cleanup(f.bus.Close)
	opt.Events = f.bus
	f.rig = newRig(t, opt)
	f.sub = f.bus.Subscribe(events.Interest{Roots: []string{"mcp"}})
	t.Cleanup(f.sub.Close)
	return f
}

// changes runs a call, and returns the changes that were told of until its end.
func (f *feed) changes(p *auth.Principal, tool, args string) (changes []*events.Event, code string) {
	f.t.Helper()
	_, fault := f.run(p, tool, args)
	if fault != nil {
		code = string(fault.Kind)
	}
	for {
		select {
		case <-f.sub.Ready():
		case <-time.After(20 * time.Second):
			f.t.Fatal("the call's end is not told")
		}
		batch := f.sub.Take()
		require.False(f.t, batch.Gap)
		for _, e := range batch.Events {
			require.Equal(f.t, []string{tool, p.Slug, p.Prefix}, []string{e.Tool, e.Subject, e.Owner})
			require.WithinDuration(f.t, time.Now(), e.Time, time.Minute)
			if e.Type == events.ToolCompleted {
				require.Equal(f.t, fault == nil, e.OK)
				return changes, code
			}
			changes = append(changes, e)
		}
	}
}

// A change is told when Vault has accepted it, and only then: which secret, and
// which version where one is meant.
func TestChangesArePublished(t *testing.T) {
	v := devstacktest.Shared(t)
	f := newFeed(t, rigOptions{addr: v.Addr, token: v.RootToken})
	p := principal("publisher")
	reader := with(p, func(p *auth.Principal) { p.Scopes = auth.Scopes{auth.Read} })
	require.NoError(t, v.Request(t.Context(), "POST", "secret/metadata/mcp/publisher/strict", map[string]any{"cas_required": true}, nil))
	for _, step := range []struct {
		p          *auth.Principal
		tool, args string
		code       string // empty: served
		path       string // of the change; empty: none
		version    int
	}{
		{p, "kv.write", `{"path":"a/b","data":{"k":"v"},"cas":0}`, "", "mcp/publisher/a/b", 1},
		{p, "kv.write", `{"path":"a/b","data":{"k":"v"},"cas":0}`, "conflict", "", 0},
		{p, "kv.write", `{"path":"a/b","data":{"k":"v"}}`, "", "mcp/publisher/a/b", 2},
		{p, "kv.write", `{"path":"strict","data":{"k":"v"}}`, "*", "", 0}, // as Vault says that it wants cas
		{p, "kv.write", `{"path":"../b","data":{"k":"v"}}`, "invalid", "", 0},
		{p, "kv.write", `{"path":"a/b","data":5}`, "invalid", "", 0},
		{reader, "kv.write", `{"path":"a/b","data":{"k":"v"}}`, "forbidden", "", 0},
		{p, "kv.patch", `{"path":"a/b","data":{"x":"y"}}`, "", "mcp/publisher/a/b", 3},
		{p, "kv.patch", `{"path":"a/b","data":{"x":"y"},"cas":1}`, "conflict", "", 0},
		{p, "kv.patch", `{"path":"none","data":{"x":"y"}}`, "not_found", "", 0},
		{p, "kv.read", `{"path":"a/b"}`, "", "", 0},
		{p, "kv.metadata", `{"path":"a/b"}`, "", "", 0},
		{p, "kv.list", `{"prefix":"a"}`, "", "", 0},
		{p, "kv.delete", `{"path":"a/b"}`, "", "mcp/publisher/a/b", 0},
		{p, "kv.undelete", `{"path":"a/b","versions":[3]}`, "", "mcp/publisher/a/b", 3},
		{p, "kv.delete", `{"path":"a/b","versions":[2]}`, "", "mcp/publisher/a/b", 2},
		{p, "kv.delete", `{"path":"a/b","versions":[2,3]}`, "", "mcp/publisher/a/b", 0},
		{p, "kv.undelete", `{"path":"a/b","versions":[2,3]}`, "", "mcp/publisher/a/b", 0},
		{p, "kv.destroy", `{"path":"a/b","versions":[1]}`, "", "mcp/publisher/a/b", 1},
		{p, "kv.destroy", `{"path":"a/b","versions":[2,3]}`, "", "mcp/publisher/a/b", 0},
		{p, "kv.destroy", `{"path":"a/b","versions":[0]}`, "invalid", "", 0},
		{p, "whoami", `{}`, "", "", 0},
	} {
		changes, code := f.changes(step.p, step.tool, step.args)
		about := step.tool + " " + step.args
		if step.code == "*" {
			require.NotEmpty(t, code, about)
		} else {
			require.Equal(t, step.code, code, about)
		}
		if step.path == "" {
			require.Empty(t, changes, about)
			continue
		}
		require.Len(t, changes, 1, about)
		require.Equal(t, []any{events.ResourceChanged, step.path, step.version}, []any{changes[0].Type, changes[0].Path, changes[0].Version}, about)
	}
}

// What Vault accepted is told even where the trail then takes no outcome and the
// result is withheld; where it takes no attempt, there is nothing to tell.
func TestChangesOfWithheldResults(t *testing.T) {
	var f *feed
	v := newFakeVault(t, func(w http.ResponseWriter, r *http.Request) {
		_ = f.trail.Close()
		answerJSON(`{"request_id":"r","data":{"version":4,"created_time":"2026-01-02T03:04:05Z","deletion_time":"","destroyed":false,"custom_metadata":null}}`)(w, r)
	})
	f = newFeed(t, rigOptions{addr: v.URL})
	p := principal("withheld")
	changes, code := f.changes(p, "kv.write", `{"path":"x","data":{}}`)
	require.Equal(t, "unavailable", code)
	require.Len(t, changes, 1)
	require.Equal(t, []any{"mcp/withheld/x", 4}, []any{changes[0].Path, changes[0].Version})
	changes, code = f.changes(p, "kv.write", `{"path":"x","data":{}}`)
	require.Equal(t, "unavailable", code)
	require.Empty(t, changes, "it was not done")
	require.Len(t, v.seen(), 1)
}

// A call of nobody, and one beyond the limit, is not told.
func TestFloodsAreNotPublished(t *testing.T) {
	f := newFeed(t, rigOptions{Options: tools.Options{}})
	p := with(principal("flood"), func(p *auth.Principal) { p.Limit = auth.Limit{Requests: 1, Window: time.Hour} })
	_, _ = f.run(with(p, func(p *auth.Principal) { p.ExpiresAt = time.Now().Add(-time.Hour) }), "whoami", `{}`)
	changes, code := f.changes(p, "whoami", `{}`)
	require.Empty(t, changes)
	require.Empty(t, code, "the first that is told is the one that was served")
	for range 3 {
		_, refused := f.run(p, "whoami", `{}`)
		require.NotNil(t, refused)
	}
	f.bus.Close() // gives out what waits
	require.Empty(t, f.sub.Take().Events)
}
