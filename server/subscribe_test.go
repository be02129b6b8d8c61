package server_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What changes is heard in every way to subscribe, in the spelling that was
// subscribed to; what others change, and what was not subscribed to, is not.
func TestChangesAreHeard(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with)
	for _, way := range subscribing() {
		t.Run(way.name, func(t *testing.T) {
			e := way.open(t, s, aliceKey, "kv://alice/db/main", "kv://alice/app/")
			for _, path := range []string{
				"mcp/bob/db/main", "mcp/alice/db/other", "mcp/alice/db/main/below", "mcp/alice/app", "mcp/alice2/app/x", "mcp/alice/apps/x",
				"mcp/alice/app/one", "mcp/alice/db/main", "mcp/alice/app/deep/er",
			} {
				changed(bus, path)
			}
			heard := []string{e.next(t), e.next(t), e.next(t)}
			require.ElementsMatch(t, []string{"kv://alice/app/one", "kv://alice/db/main", "kv://alice/app/deep/er"}, heard)
			require.Empty(t, e.heard)
		})
	}
}
