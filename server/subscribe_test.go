package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
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

// Who may not hear, hears nothing and is told why; one refused URI refuses all, and
// nothing is left of it.
func TestSubscriptionsAreRefused(t *testing.T) {
	bus, with := withEvents(t)
	s := listen(t, with)
	s.keys.set("writer", principal("carol", "cred-7", auth.Scopes{auth.Write}))
	s.keys.set("reader", principal("dave", "cred-8", auth.Scopes{auth.Read}))
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("kv://alice/s%d", i)
	}
	cases := []struct {
		what, key string
		uris      []string
		outcome   string
	}{
		{"another's", aliceKey, []string{"kv://alice/a", "kv://bob/a"}, "forbidden"},
		{"another's folder", aliceKey, []string{"kv://bob/"}, "forbidden"},
		{"without the scope", "writer", []string{"kv://carol/a"}, "forbidden"},
		{"a folder without the scope", "reader", []string{"kv://dave/a", "kv://dave/b/"}, "forbidden"},
		{"a version", aliceKey, []string{"kv://alice/a?version=1"}, "invalid"},
		{"no resource", aliceKey, []string{"file:///etc/passwd"}, "invalid"},
		{"out of the tree", aliceKey, []string{"kv://alice/../bob/a"}, "invalid"},
		{"escaped", aliceKey, []string{"kv://alice/%2e%2e/bob/a"}, "invalid"},
		{"too many", aliceKey, many, "invalid"},
	}
	for _, way := range everyWay() {
		for _, c := range cases {
			if len(c.uris) > 100 && !strings.HasPrefix(way.name, "modern") {
				continue
			}
			t.Run(way.name+" "+c.what, func(t *testing.T) {
				conn := way.open(t, s, c.key, "t")
				before := len(s.records(t, audit.Reject)) + len(s.records(t, audit.Outcome))
				var r reply
				if strings.HasPrefix(way.name, "modern") {
					r = conn.request(t, "subscriptions/listen", object{"notifications": object{"resourceSubscriptions": c.uris}})
				} else {
					for _, uri := range c.uris[:len(c.uris)-1] {
						r = conn.request(t, "resources/subscribe", object{"uri": uri})
						require.Equal(t, way.name == "rpc", r.Error != nil, r.raw)
						before++
					}
					r = conn.request(t, "resources/subscribe", object{"uri": c.uris[len(c.uris)-1]})
				}
				require.NotNil(t, r.Error, r.raw)
				require.NotContains(t, r.raw, c.uris[len(c.uris)-1])
				all := append(s.records(t, audit.Reject), s.records(t, audit.Outcome)...)
				require.Len(t, all, before+1, "one record of a refusal")
				if way.name == "rpc" {
					require.Equal(t, "invalid", r.refusal(t).Code, "there is no session to subscribe")
					return
				}
				require.Equal(t, c.outcome, r.refusal(t).Code)
			})
		}
	}
	s.stop()
	eventually(t, "nothing is left", func() bool { return bus.Subscribers() == 0 })
}
