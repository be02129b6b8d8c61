package events_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
	"vault-mcp/fault"
)

func TestReplicasShareTheFeed(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, aTold := replica(t, r, events.Options{})
	b, bTold := replica(t, r, events.Options{})
	atA, atB := listen(t, a, everything("mcp/dev")), listen(t, b, everything("mcp/dev"))
	other := listen(t, b, everything("mcp/dev-bot"))
	a.Publish(change("mcp/dev", "x", 1))
	atA.hears(t, 1)
	atB.hears(t, 1)
	require.Equal(t, atA.at, atB.at, "positions are the stream's")
	b.Publish(change("mcp/dev", "x", 2))
	b.Publish(change("mcp/dev", "x", 3))
	atB.hears(t, 2, 3)
	atA.hears(t, 2, 3)
	a.Publish(change("mcp/dev", "x", 4))
	atA.hears(t, 4)

	// What was seen at one is resumed at the other, and at one that starts later.
	listen(t, b, resumed("mcp/dev", atB.at)).hears(t, 4)
	late, lateTold := replica(t, r, events.Options{})
	listen(t, late, resumed("mcp/dev", atB.at)).hears(t, 4)
	listen(t, late, resumed("mcp", atB.at)).hears(t, 4)
	require.Empty(t, other.take())
	require.Empty(t, append(append(aTold.list(), bTold.list()...), lateTold.list()...))
	require.NoError(t, a.Check(t.Context()))
}

// Redis is killed and comes back empty: who listens hears what happens here
// meanwhile, and everybody is told of a gap, at each replica.
func TestRedisIsLostAndBack(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, aTold := replica(t, r, events.Options{})
	b, bTold := replica(t, r, events.Options{})
	atA, atB := listen(t, a, everything("mcp/dev")), listen(t, b, everything("mcp/dev"))
	a.Publish(change("mcp/dev", "x", 1))
	atA.hears(t, 1)
	atB.hears(t, 1)
	before := atA.at
	r.Kill()
	a.Publish(change("mcp/dev", "x", 2))
	atA.hears(t, gap, 2)
	for i, bus := range []*events.Bus{a, b} {
		inTime(t, "it is lost", func() bool { return bus.Check(t.Context()) != nil })
		err := bus.Check(t.Context())
		require.True(t, fault.IsDegraded(err))
		require.ErrorIs(t, err, fault.Unavailable)
		told := []*told{aTold, bTold}[i].list()
		require.Len(t, told, 1)
		require.Contains(t, told[0], "Redis cannot be reached")
	}
	a.Publish(change("mcp/dev", "x", 3))
	atA.hears(t, 3)
	require.Empty(t, atB.take())
	alone := atA.at
	listen(t, b, resumed("mcp/dev", alone)).hears(t, gap)

	require.NoError(t, r.Restart(t.Context()))
	for _, bus := range []*events.Bus{a, b} {
		inTime(t, "it is back", func() bool { return bus.Check(t.Context()) == nil })
	}
	inTime(t, "a gap at A", func() bool { return len(atA.take()) > 0 })
	inTime(t, "a gap at B", func() bool { return len(atB.take()) > 0 })
	require.Equal(t, gap, atA.all[0])
	require.Equal(t, gap, atB.all[0])
	for _, after := range []events.Position{before, alone} {
		listen(t, a, resumed("mcp/dev", after)).hears(t, gap)
		listen(t, b, resumed("mcp/dev", after)).hears(t, gap)
	}
	require.Len(t, aTold.list(), 2)
	require.Equal(t, "back", aTold.list()[1])
}
