package events_test

import (
	"encoding/base64"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/events"
)

func TestEventsReachWhoMaySeeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := events.NewMemory(events.Options{})
		defer b.Close()
		hub, nested := listen(t, b, everything("mcp")), listen(t, b, events.Interest{Roots: []string{"mcp/a", "mcp/a/x", "mcp/a/x"}})
		other := listen(t, b, everything("mcp/a-b"))
		calls := listen(t, b, events.Interest{Roots: []string{"mcp"}, Types: []events.Type{events.ToolCompleted}})
		first := listen(t, b, events.Interest{Roots: []string{"mcp"}, Match: func(e *events.Event) bool { return e.Version == 1 }})
		b.Publish(change("mcp/a", "x/y", 1))
		done := change("mcp/a", "x", 2)
		done.Type, done.Path = events.ToolCompleted, "mcp/a"
		b.Publish(done)
		synctest.Wait()
		require.Equal(t, []int{1, 2}, hub.take())
		require.Equal(t, []int{1, 2}, nested.take(), "once each, whichever roots it is below")
		require.Equal(t, []int{2}, calls.take())
		require.Equal(t, []int{1}, first.take())
		require.Empty(t, other.take())
	})
}

// A call of a principal and a secret of that name are two things.
func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := events.NewMemory(events.Options{})
		defer b.Close()
		h := listen(t, b, events.Interest{Roots: []string{"mcp"}, Coalesce: true})
		b.Publish(change("mcp", "dev", 1))
		call := change("mcp/dev", "", 2)
		call.Type, call.Path = events.ToolCompleted, "mcp/dev"
		b.Publish(call)
		b.Publish(change("mcp", "other", 3))
		b.Publish(change("mcp", "other", 4))
		b.Publish(call)
		synctest.Wait()
		require.Equal(t, []int{1, 4, 2}, h.take())
	})
}

// A full queue is a gap, and what comes after it is heard.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := events.NewMemory(events.Options{MaxQueue: 3})
		defer b.Close()
		slow, other := listen(t, b, everything("mcp")), listen(t, b, everything("mcp/b"))
		for n := range 5 {
			b.Publish(change("mcp/a", "x", n))
		}
		synctest.Wait()
		require.Equal(t, []int{gap, 4}, slow.take())
		require.Empty(t, other.take(), "no gap where nothing of it was missed")
	})
}

// One principal that does much takes nothing from what others can resume from.
func TestEachHasRoomOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := events.NewMemory(events.Options{MaxOfOwner: 5})
		defer b.Close()
		start := b.Last()
		b.Publish(change("mcp/quiet", "x", 1))
		for n := range 100 {
			b.Publish(change("mcp/loud", "x", n))
		}
		synctest.Wait()
		require.Equal(t, []int{1}, listen(t, b, resumed("mcp/quiet", start)).take())
		require.Equal(t, []int{gap}, listen(t, b, resumed("mcp/loud", start)).take())
		require.Equal(t, []int{gap}, listen(t, b, resumed("mcp", start)).take(), "who sees both has missed some")
		time.Sleep(2 * time.Hour)
		require.Equal(t, []int{gap}, listen(t, b, resumed("mcp/quiet", start)).take(), "it is too old now")
	})
}

// Close gives out what was published before, and nothing later.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := events.NewMemory(events.Options{})
		h := listen(t, b, everything("mcp"))
		b.Publish(change("mcp/a", "x", 1))
		b.Close()
		b.Close()
		b.Publish(change("mcp/a", "x", 2))
		synctest.Wait()
		require.Equal(t, []int{1}, h.take())
		require.NoError(t, b.Check(t.Context()))
	})
}

func TestIDs(t *testing.T) {
	p := events.Position{Millis: 1_800_000_000_000, Seq: 7, Feed: 9}
	ids, same := events.NewIDs([]byte("key"), "home/dev"), events.NewIDs([]byte("key"), "home/dev")
	require.Equal(t, ids.Event(p), same.Event(p), "one event, one id, at each replica")
	first, second := ids.Place(p), ids.Place(p)
	require.NotEqual(t, first, second, "two places do not say that nothing happened in between")
	for _, id := range []string{ids.Event(p), ids.Place(p)} {
		got, ok := same.Parse(id)
		require.True(t, ok)
		require.Equal(t, p, got)
		for _, stranger := range []events.IDs{events.NewIDs([]byte("key"), "home/dev-bot"), events.NewIDs([]byte("other"), "home/dev")} {
			got, ok := stranger.Parse(id)
			require.True(t, ok)
			require.NotEqual(t, p, got)
		}
	}
	for _, id := range []string{"", "x", ids.Event(p) + "A", ids.Event(p)[1:], "=" + ids.Event(p)[1:], ids.Event(p)[:21] + "\n"} {
		_, ok := ids.Parse(id)
		require.False(t, ok, "%q", id)
	}
}

// Whatever is given as an id, nobody goes on from it in silence: only ids that were
// made for this principal are places of the feed.
func FuzzIDs(f *testing.F) {
	b := events.NewMemory(events.Options{})
	f.Cleanup(b.Close)
	b.Publish(change("mcp/a", "x", 1))
	for b.History() == 0 {
		time.Sleep(time.Millisecond)
	}
	ids, other := events.NewIDs([]byte("key"), "a"), events.NewIDs([]byte("key"), "b")
	f.Add(other.Event(b.Last()))
	f.Add(other.Place(b.Last()))
	f.Add("AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, id string) {
		after, ok := ids.Parse(id)
		if !ok {
			return
		}
		raw, err := base64.RawURLEncoding.DecodeString(id)
		require.NoError(t, err)
		require.Len(t, raw, 16)
		sub := b.Subscribe(events.Interest{Roots: []string{"mcp"}, Resume: true, After: after})
		defer sub.Close()
		require.True(t, sub.Take().Gap)
	})
}
