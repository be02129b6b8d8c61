package tools_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// A URI that is none, that has a version, or that is another's cannot be listened
// to: refused with one record, and nobody is asked.
func TestListenHostileURIs(t *testing.T) {
	bus := events.NewMemory(events.Options{})
	t.Cleanup(bus.Close)
	vault := newFakeVault(t, answerJSON(`{}`))
	r := newRig(t, rigOptions{addr: vault.URL, Options: tools.Options{Prefix: "mcp", Events: bus}})
	p := principal("dev")
	listen := func(p *auth.Principal, uris ...string) (*tools.Listening, audit.Record, *fault.Error) {
		t.Helper()
		before := len(r.records())
		l, err := r.runner.Listen(t.Context(), tools.Listen{Principal: p, URIs: uris, Transport: "test"})
		records := r.records()[before:]
		require.Len(t, records, 1, uris)
		if err == nil {
			return l, records[0], nil
		}
		require.Nil(t, l)
		return nil, records[0], fault.From(err)
	}
	for uri, kind := range map[string]fault.Kind{
		"": fault.Invalid, "vault://secret/agents/a/%2e%2e/b": fault.Invalid, "vault://user@secret/..": fault.Invalid, "VAULT://": fault.Invalid, "file:///etc/passwd": fault.Invalid,
		"kv://dev/../dev-bot/x": fault.Invalid, "kv://dev/%2e%2e/x": fault.Invalid, "kv://dev//x": fault.Invalid, "kv://dev/x//": fault.Invalid, "kv://dev/x\x00": fault.Invalid,
		"kv://dev/x\r\nX: y": fault.Invalid, `kv://dev/a\b`: fault.Invalid, "kv://dev/x#f": fault.Invalid, "kv://dev/x?list=true": fault.Invalid, "kv://dev/\uff0e\uff0e/b": fault.Invalid,
		"kv://dev/\xff": fault.Invalid, "kv://dev/ x": fault.Invalid, "kv://dev/*": fault.Invalid, "kv://dev/+/x": fault.Invalid, "kv://*/x": fault.Invalid, "kv://dev/" + strings.Repeat("a/", 1000): fault.Invalid,
		"kv://dev/x?version=1": fault.Invalid, "kv://dev": fault.Invalid, "kv://": fault.Invalid, "kv:///": fault.Invalid,
		"kv://dev-bot/x": fault.Forbidden, "kv://dev-bot/": fault.Forbidden, "kv://DEV/": fault.Forbidden, "kv://mcp/": fault.Forbidden, "kv://mcp/dev/x": fault.Forbidden,
	} {
		_, rec, err := listen(p, uri)
		require.NotNil(t, err, uri)
		require.Equal(t, kind, err.Kind, uri)
		require.Equal(t, []string{string(kind), "dev"}, []string{rec.Outcome, rec.Subject}, uri)
		require.Equal(t, "/uri", err.Details["field"], uri)
		_, rec, err = listen(p, "kv://dev/x", uri) // one of several refuses all
		require.NotNil(t, err)
		require.Empty(t, rec.Needs, "%q: nothing is listened to", uri)
	}
	for uri, need := range map[string]string{
		"kv://dev/x": "listen mcp/dev/x", "kv://dev/": "listen mcp/dev/", "kv://dev/a/b/": "listen mcp/dev/a/b/", "kv://dev/dev-bot/x": "listen mcp/dev/dev-bot/x",
		"kv://dev/sys/mounts": "listen mcp/dev/sys/mounts", "kv://dev/...": "listen mcp/dev/...",
	} {
		l, rec, err := listen(p, uri)
		require.Nil(t, err, uri)
		require.Equal(t, []string{need}, rec.Needs)
		require.Equal(t, []string{uri}, l.Asked())
		in := l.Interest()
		for _, path := range []string{"mcp/dev-bot/x", "mcp/dev", "mcp", "mcp/devx", "other/dev/x", "mcp/dev/zzz"} {
			heard := len(l.URIs(&events.Event{Type: events.ResourceChanged, Path: path})) > 0
			require.Equal(t, uri == "kv://dev/" && path == "mcp/dev/zzz", heard, "%s hears %s", uri, path)
			require.Equal(t, heard, in.Match(&events.Event{Type: events.ResourceChanged, Path: path}))
		}
		for _, root := range in.Roots {
			require.True(t, events.Contains(p.Prefix, root))
		}
	}
	// A secret with the name of the caller's prefix is beside its tree.
	deep := with(principal("deep"), func(p *auth.Principal) { p.Prefix = "mcp/dev/app" })
	_, _, err := listen(deep, "kv://dev/app")
	require.Equal(t, fault.Forbidden, err.Kind)
	_, _, err = listen(deep, "kv://dev/app/")
	require.Nil(t, err)
	require.Empty(t, vault.seen())
}
