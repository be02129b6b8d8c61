package tools_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/tools"
)

// A URI narrows whose calls are heard of, too: those of principals that have all of
// theirs in the folder. So a hub hears of one team's calls alone, if it asks for that.
func TestCallsBelowURIs(t *testing.T) {
	f := newFeed(t, rigOptions{Options: tools.Options{Prefix: "mcp"}})
	hub := with(principal("hub"), func(p *auth.Principal) { p.Prefix = "mcp" })
	callers := []*auth.Principal{principal("dev"), principal("dev-bot"), hub}
	for _, tc := range []struct {
		who  *auth.Principal
		uris []string
		want []string // subjects
	}{
		{hub, nil, []string{"dev", "dev-bot", "hub"}},
		{hub, []string{"kv://hub/"}, []string{"dev", "dev-bot", "hub"}},
		{hub, []string{"kv://dev/"}, []string{"dev"}},
		{hub, []string{"kv://dev/", "kv://dev-bot/"}, []string{"dev", "dev-bot"}},
		{hub, []string{"kv://dev/app/", "kv://dev-bot/x"}, nil},
		{hub, []string{"kv://hub/dev"}, nil}, // a secret beside dev's folder
		{callers[0], nil, []string{"dev"}},
		{callers[0], []string{"kv://dev/"}, []string{"dev"}},
		{callers[0], []string{"kv://dev/app/"}, nil},
	} {
		l, err := f.runner.Listen(t.Context(), tools.Listen{
			Principal: tc.who, URIs: tc.uris, Types: []string{string(events.ToolCompleted)}, Transport: "test",
		})
		require.NoError(t, err)
		sub := f.bus.Subscribe(l.Interest())
		for _, p := range callers {
			_, code := f.changes(p, "whoami", `{}`) // the feed's own subscription has it: so has this one
			require.Empty(t, code)
		}
		var heard []string
		for _, e := range sub.Take().Events {
			heard = append(heard, e.Subject)
		}
		sub.Close()
		require.Equal(t, tc.want, heard, "%s %v", tc.who.Slug, tc.uris)
	}
}
