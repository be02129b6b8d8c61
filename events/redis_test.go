package events_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/secret"
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

// A connection that breaks loses nothing, where nothing was published here
// meanwhile: nobody is told of a gap, and who comes back goes on where it was.
func TestConnectionIsLostAndBack(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, aTold := replica(t, r, events.Options{})
	b, _ := replica(t, r, events.Options{})
	h, atB := listen(t, a, everything("mcp/dev")), listen(t, b, everything("mcp/dev"))
	a.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
	before := h.at
	others := clientOf(t, r)
	command(t, others, "CLIENT KILL TYPE normal SKIPME yes")
	inTime(t, "it is seen", func() bool { return a.Check(t.Context()) != nil })
	command(t, others, "XADD "+key+` * v 1 r x e {"type":"resource.changed","path":"mcp/dev/x","owner":"mcp/dev","version":2}`)
	h.hears(t, 2)
	require.NoError(t, a.Check(t.Context()))
	listen(t, a, resumed("mcp/dev", before)).hears(t, 2)
	require.Len(t, aTold.list(), 2)

	// What is published here while it is broken did not come to others: a gap for all.
	b.Publish(change("mcp/dev", "x", 0))
	atB.hears(t, 1, 2, 0)
	h.hears(t, 0)
	command(t, others, "CLIENT KILL TYPE normal SKIPME yes")
	inTime(t, "it is seen", func() bool { return a.Check(t.Context()) != nil })
	a.Publish(change("mcp/dev", "x", 3))
	h.hears(t, gap, 3, gap)
	atB.hears(t, gap)
	a.Publish(change("mcp/dev", "x", 4))
	h.hears(t, 4)
	atB.hears(t, 4)
}

// A replica that ends while Redis is away leaves word, if it can.
func TestLastWord(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{})
	b, _ := replica(t, r, events.Options{})
	atB := listen(t, b, everything("mcp/dev"))
	a.Publish(change("mcp/dev", "x", 1))
	atB.hears(t, 1)
	command(t, clientOf(t, r), "CLIENT KILL TYPE normal SKIPME yes")
	inTime(t, "it is seen", func() bool { return a.Check(t.Context()) != nil })
	a.Publish(change("mcp/dev", "x", 2))
	a.Close()
	atB.hears(t, gap)
}

// More than there is room for, published at once, is a gap for everybody.
func TestOverflowIsToldEverywhere(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{MaxWaiting: 1})
	b, _ := replica(t, r, events.Options{})
	atA, atB := listen(t, a, everything("mcp/dev")), listen(t, b, everything("mcp/dev"))
	for range 1000 {
		a.Publish(change("mcp/dev", "x", 1))
	}
	for _, h := range []*heard{atA, atB} {
		inTime(t, "a gap", func() bool { return slices.Contains(h.take(), gap) })
	}
}

func TestProbe(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{})
	h := listen(t, a, everything("mcp"))
	require.NoError(t, events.Probe(t.Context(), r.URL()))
	require.NoError(t, events.Probe(t.Context(), r.URL()))
	a.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
	r.Kill()
	err := events.Probe(t.Context(), r.URL())
	require.ErrorIs(t, err, fault.Unavailable)
	require.True(t, fault.IsDegraded(err))
	require.ErrorIs(t, events.Probe(t.Context(), secret.NewText("http://x")), fault.Invalid)
}

// Age and number bound what is kept in Redis, and who resumes from before it is
// told.
func TestStreamIsBounded(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{MaxEvents: 100, MaxOfOwner: 1000, SweepPeriod: 50 * time.Millisecond})
	h := listen(t, a, everything("mcp/dev"))
	a.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
	before := h.at
	others := clientOf(t, r)
	for n := range 400 {
		a.Publish(change("mcp/dev", "x", n+2))
		h.hears(t, n+2)
	}
	n, err := others.XLen(t.Context(), key).Result()
	require.NoError(t, err)
	require.Less(t, n, int64(300))
	listen(t, a, resumed("mcp/dev", before)).hears(t, gap)
	left, err := others.TTL(t.Context(), key).Result()
	require.NoError(t, err)
	require.InDelta(t, 3*time.Hour, left, float64(time.Minute))
	b, _ := replica(t, r, events.Options{})
	listen(t, b, resumed("mcp/dev", before)).hears(t, gap)

	short, _ := replica(t, r, events.Options{MaxAge: time.Millisecond, SweepPeriod: 10 * time.Millisecond})
	require.NoError(t, short.Check(t.Context()))
	inTime(t, "it is too old", func() bool { n, err := others.XLen(t.Context(), key).Result(); return err == nil && n < 101 })
}
