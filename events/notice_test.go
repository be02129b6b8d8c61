package events_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
)

// call is the end of a call of somebody's.
func call(owner string) events.Event {
	return events.Event{Type: events.ToolCompleted, Owner: owner, Path: owner, Subject: owner, Tool: "whoami", OK: true}
}

// What somebody further up does is not to be seen from below: neither its calls,
// nor, by a gap, that they were many. Its changes may be anywhere below it.
func TestCallsOfAHubAreNoGapForOthers(t *testing.T) {
	b := events.NewMemory(events.Options{MaxOfOwner: 2})
	after := b.Last()
	b.Publish(change("mcp/dev", "x", 1))
	for range 5 {
		b.Publish(call("mcp"))
	}
	b.Publish(call("mcp/dev"))
	b.Close() // gives out what waits
	require.Equal(t, []int{1, 0}, listen(t, b, resumed("mcp/dev", after)).take())
	require.Equal(t, []int{gap}, listen(t, b, resumed("mcp", after)).take())

	b = events.NewMemory(events.Options{MaxOfOwner: 2})
	after = b.Last()
	for version := range 3 {
		b.Publish(change("mcp", "dev/x", version+1))
	}
	b.Close()
	require.Equal(t, []int{gap}, listen(t, b, resumed("mcp/dev", after)).take())
}

// There was no room for an event, and then Redis does not take those before it:
// who listens here is told of both at once, not when Redis is back.
func TestOverflowWhenRedisIsLost(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{MaxWaiting: 1})
	h := listen(t, a, everything("mcp/dev"))
	a.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
	command(t, clientOf(t, r), "CONFIG SET maxmemory 1")
	a.PublishAtOnce(change("mcp/dev", "x", 2), change("mcp/dev", "x", 3))
	inTime(t, "it is lost", func() bool { return a.Check(t.Context()) != nil })
	inTime(t, "both", func() bool { h.take(); return len(h.all) >= 1 && a.Last() == h.at && h.all[len(h.all)-1] == gap })
}

// The feed does not go back where the stream was emptied and could not be begun
// again at once: an id must not be given twice.
func TestEmptiedStreamThatCannotBeMarked(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{})
	h := listen(t, a, everything("mcp/dev"))
	others := clientOf(t, r)
	command(t, others, "XSETID "+key+" 99999999999999-1")
	h.hears(t, gap)
	inTime(t, "it goes on", func() bool { return a.Check(t.Context()) == nil })
	a.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
	before := h.at
	command(t, others, "ACL SETUSER default -xadd")
	command(t, others, "DEL "+key)
	inTime(t, "it cannot begin again", func() bool {
		stats, err := others.Info(t.Context(), "commandstats").Result()
		return err == nil && regexp.MustCompile(`cmdstat_xadd:.*rejected_calls=[1-9]`).MatchString(stats)
	})
	command(t, others, "ACL SETUSER default +xadd")
	inTime(t, "it begins again", func() bool { return a.Last() != before })
	require.Equal(t, before.Feed, a.Last().Feed)
	require.True(t, a.Last().After(before), "%v is not after %v", a.Last(), before)
}
