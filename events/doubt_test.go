package events_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
)

// doubters are subscribers at a Bus: those who would have heard of a change of
// mcp/dev/app/x, and those who would not.
type doubters struct{ concerned, others map[string]*heard }

func listenInDoubt(t testing.TB, b *events.Bus, after *events.Position) doubters {
	t.Helper()
	interest := func(root string, types ...events.Type) events.Interest {
		in := events.Interest{Roots: []string{root}, Types: types}
		if after != nil {
			in.Resume, in.After = true, *after
		}
		return in
	}
	exactly := func(path string) events.Interest {
		in := interest(path, events.ResourceChanged)
		in.Match = func(e *events.Event) bool { return e.Type == events.ResourceChanged && e.Path == path }
		return in
	}
	last := interest("mcp/dev")
	last.Coalesce = true
	return doubters{
		concerned: map[string]*heard{
			"the principal": listen(t, b, interest("mcp/dev")), "a hub": listen(t, b, interest("mcp")), "the folder": listen(t, b, interest("mcp/dev/app")),
			"the secret": listen(t, b, exactly("mcp/dev/app/x")), "the last state": listen(t, b, last),
		},
		others: map[string]*heard{
			"another": listen(t, b, interest("mcp/dev-bot")), "a longer name": listen(t, b, interest("mcp/dev/app/xx")), "above it": listen(t, b, exactly("mcp/dev/app")),
			"below it": listen(t, b, interest("mcp/dev/app/x/y")), "calls alone": listen(t, b, interest("mcp/dev", events.ToolCompleted)),
		},
	}
}

// A change of which nobody knows whether it took place is told as a gap, to those
// who would have heard of it and to nobody else, also when they come back; it is
// no event.
func TestDoubt(t *testing.T) {
	redis := devstacktest.Redis(t, devstack.RedisOptions{})
	for name, replicas := range map[string]func() []*events.Bus{
		"in memory": func() []*events.Bus {
			b := events.NewMemory(events.Options{})
			t.Cleanup(b.Close)
			return []*events.Bus{b}
		},
		"shared": func() []*events.Bus {
			a, _ := replica(t, redis, events.Options{})
			b, _ := replica(t, redis, events.Options{})
			return []*events.Bus{a, b}
		},
	} {
		t.Run(name, func(t *testing.T) {
			buses := replicas()
			var live []doubters
			for _, b := range buses {
				live = append(live, listenInDoubt(t, b, nil))
			}
			told := func(d doubters, versions ...int) {
				t.Helper()
				for _, h := range d.concerned {
					h.hears(t, versions...)
				}
				for who, h := range d.others {
					require.Empty(t, h.take(), who)
				}
			}
			tell := func(version int) {
				t.Helper()
				buses[0].Publish(change("mcp/dev", "app/x", version))
				for _, d := range live {
					told(d, version)
				}
			}
			tell(1)
			before := live[0].concerned["the principal"].at
			buses[0].Doubt("mcp/dev", "mcp/dev/app/x")
			for _, d := range live {
				told(d, gap)
			}
			after := live[0].concerned["the principal"].at
			tell(2)
			late := buses
			if len(buses) > 1 {
				c, _ := replica(t, redis, events.Options{})
				late = append(late, c)
			}
			for _, b := range late {
				told(listenInDoubt(t, b, &before), gap, 2)
				told(listenInDoubt(t, b, &after), 2)
			}
		})
	}
}

// A doubt that waits and is followed by more than is kept is a gap all the same,
// and what waits behind it is told.
func TestDoubtIsNotCoalesced(t *testing.T) {
	b := events.NewMemory(events.Options{MaxOfOwner: 2})
	h := listen(t, b, events.Interest{Roots: []string{"mcp/dev"}, Coalesce: true})
	b.Publish(change("mcp/dev", "x", 1))
	b.Doubt("mcp/dev", "mcp/dev/x")
	b.Publish(change("mcp/dev", "x", 2))
	b.Publish(change("mcp/dev", "x", 3))
	b.Doubt("mcp/dev", "mcp/dev/y")
	b.Publish(change("mcp/dev", "y", 1))
	b.Publish(change("mcp/dev", "x", 4))
	b.Publish(change("mcp/dev", "y", 2))
	b.Close() // gives out what waits
	require.Equal(t, []int{gap, 4, 2}, h.take())
}

// A doubt of a replica that lost Redis is told where it is, and, as all that was
// not sent, at the others when Redis is back.
func TestDoubtWithoutRedis(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{})
	b, _ := replica(t, r, events.Options{})
	atA, atB := listen(t, a, everything("mcp/dev")), listen(t, b, everything("mcp/dev"))
	a.Publish(change("mcp/dev", "x", 1))
	atA.hears(t, 1)
	atB.hears(t, 1)
	command(t, clientOf(t, r), "CLIENT KILL TYPE normal SKIPME yes")
	inTime(t, "it is seen", func() bool { return a.Check(t.Context()) != nil })
	a.Doubt("mcp/dev", "mcp/dev/x")
	atA.hears(t, gap)
	atB.hears(t, gap)
}

// An entry that is an event and a doubt at once is nobody's of ours.
func TestEntryOfTwoMinds(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{})
	other := listen(t, a, everything("mcp/dev-bot"))
	text := `{"type":"resource.changed","path":"mcp/dev/x","owner":"mcp/dev"}`
	command(t, clientOf(t, r), "XADD "+key+" * v 1 r x d "+text)
	a.Publish(change("mcp/dev-bot", "x", 1))
	other.hears(t, 1)
	command(t, clientOf(t, r), "XADD "+key+" * v 1 r x e "+text+" d "+text)
	other.hears(t, gap)
}
