package events_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
	"vault-mcp/redisx"
	"vault-mcp/secret"
)

const key = "vault-mcp:events"

// clientOf is a client of a Redis, to do what others might.
func clientOf(t testing.TB, r *devstack.Redis) *redis.Client {
	t.Helper()
	settings, err := redisx.Options(r.URL())
	require.NoError(t, err)
	c := redis.NewClient(settings)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// command does a command at a Redis, of words with a blank between them.
func command(t testing.TB, c *redis.Client, words string) {
	t.Helper()
	var args []any
	for _, w := range strings.Split(words, " ") {
		args = append(args, w)
	}
	require.NoError(t, c.Do(t.Context(), args...).Err(), words)
}

// Whatever is done to the stream or to Redis by others by which something may be
// lost: everybody at each replica is told of a gap, nobody resumes across it, at
// none, and the feed goes on.
func TestWhatOthersDoToTheStream(t *testing.T) {
	entry := func(fields string) string { return "XADD " + key + " * " + fields }
	for name, deeds := range map[string][]string{
		"emptied":                {"FLUSHALL"},
		"deleted":                {"DEL " + key},
		"begun again":            {"DEL " + key, entry("v 1")},
		"begun again by another": {"DEL " + key, entry(`v 1 e {"type":"resource.changed","path":"mcp/x/y","owner":"mcp/x"}`)},
		"ids of long ago":        {"DEL " + key, "XADD " + key + " 1-1 v 1"},
		"ids that were before":   {"DEL " + key, "XADD " + key + " 1-1 v 1 r RUN gap 1"},
		"put forward":            {"XSETID " + key + " 99999999999999-1"},
		"not ours":               {entry("canary 4711")},
		"a later version":        {entry("v 2 r x e {}")},
		"no JSON":                {entry("v 1 r x e {")},
		"a path of another":      {entry(`v 1 r x e {"type":"resource.changed","path":"mcp/dev","owner":"mcp/x"}`)},
		"too large":              {entry("v 1 r x e " + strings.Repeat("x", 5000))},
		"a gap by a replica":     {entry("v 1 r x gap 1")},
		"read by nobody":         {"EVAL return(redis.call('XDEL',KEYS[1],redis.call('XADD',KEYS[1],'*','v','1'))) 1 " + key},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := devstacktest.Redis(t, devstack.RedisOptions{})
			others := clientOf(t, r)
			a, _ := replica(t, r, events.Options{})
			b, _ := replica(t, r, events.Options{})
			atA, atB := listen(t, a, everything("mcp/dev")), listen(t, b, everything("mcp/dev"))
			a.Publish(change("mcp/dev", "x", 1))
			atA.hears(t, 1)
			atB.hears(t, 1)
			before, ours := atA.at, newestRun(t, others)
			for _, deed := range deeds {
				command(t, others, strings.ReplaceAll(deed, "RUN", ours))
			}
			atA.hears(t, gap)
			atB.hears(t, gap)
			for _, bus := range []*events.Bus{a, b} {
				inTime(t, "it goes on", func() bool { return bus.Check(t.Context()) == nil })
			}
			b.Publish(change("mcp/dev", "x", 2))
			require.Equal(t, 2, last(t, atA))
			require.Equal(t, 2, last(t, atB))
			c, _ := replica(t, r, events.Options{})
			if name == "put forward" { // which the one that comes later sees to have lost nothing
				c = a
			}
			for _, bus := range []*events.Bus{a, b, c} {
				require.Equal(t, gap, listen(t, bus, resumed("mcp/dev", before)).take()[0])
			}
			after := atB.at
			a.Publish(change("mcp/dev", "x", 3))
			require.Equal(t, 3, last(t, atA))
			listen(t, a, resumed("mcp/dev", after)).hears(t, 3)
		})
	}
}

// newestRun is what the last entry says of the run of Redis.
func newestRun(t testing.TB, c *redis.Client) string {
	t.Helper()
	all, err := c.XRevRangeN(t.Context(), key, "+", "-", 1).Result()
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0].Values["r"].(string)
}

// last waits for an event, and is its version.
func last(t testing.TB, h *heard) (version int) {
	t.Helper()
	inTime(t, "an event", func() bool {
		all := h.take()
		if len(all) > 0 {
			version = all[len(all)-1]
		}
		return version > 0
	})
	h.all = nil
	return version
}

// What a replica that is newer tells of, and nobody here can have asked for, is
// passed over without a gap.
func TestEventsOfATypeThatIsNotKnown(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	b, _ := replica(t, r, events.Options{})
	h := listen(t, b, everything("mcp/dev"))
	command(t, clientOf(t, r), "XADD "+key+` * v 1 r x e {"type":"lease.ended","path":"mcp/dev","owner":"mcp/dev","more":1}`)
	inTime(t, "it came by", func() bool { h.take(); return h.at == b.Last() && h.at.Seq+h.at.Millis > 0 && len(h.all) == 0 })
	b.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
}

// A Redis that comes back with an older state of what it had: what was in between
// is lost, and nobody takes it for nothing.
func TestRedisComesBackWithAnOlderState(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{})
	h := listen(t, a, everything("mcp/dev"))
	a.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
	before := h.at
	command(t, clientOf(t, r), "SAVE")
	a.Publish(change("mcp/dev", "x", 2))
	h.hears(t, 2)
	a.Close()
	r.Kill()
	require.NoError(t, r.Restart(t.Context()))
	b, _ := replica(t, r, events.Options{})
	listen(t, b, resumed("mcp/dev", before)).hears(t, gap)
	answer, err := r.Command(t.Context(), "XLEN "+key)
	require.NoError(t, err)
	require.NotEqual(t, ":0", answer)
}

// A Redis comes back without the end of the stream while a replica is cut off, which
// had not read that end, and what is written then makes up the number: only that it
// is another run shows that something is missing.
func TestOlderStateOfTheSameLength(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	b, _ := replica(t, r, events.Options{})
	h := listen(t, b, everything("mcp/dev"))
	b.Publish(change("mcp/dev", "x", 1))
	h.hears(t, 1)
	entry := "XADD " + key + ` * v 1 r x e {"type":"resource.changed","path":"mcp/dev/x","owner":"mcp/dev","version":`
	command(t, clientOf(t, r), "SAVE")
	command(t, clientOf(t, r), "CLIENT KILL TYPE normal SKIPME yes")
	inTime(t, "it is seen", func() bool { return b.Check(t.Context()) != nil })
	command(t, clientOf(t, r), entry+"2}")
	r.Kill()
	require.NoError(t, r.Restart(t.Context()))
	command(t, clientOf(t, r), entry+"3}")
	inTime(t, "it is back", func() bool { return b.Check(t.Context()) == nil })
	b.Publish(change("mcp/dev", "x", 4))
	inTime(t, "it goes on", func() bool { return slices.Contains(h.take(), 4) })
	require.Contains(t, h.all, gap)
}

// Where Redis's clock is behind what a stream that was emptied had given, the mark
// stands after it all the same: no id is given twice.
func TestMarkStandsAfterWhatWas(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	far := events.Position{Millis: 9_999_999_999_999, Seq: 5}
	at, err := events.MarkAfter(t.Context(), r.URL(), far)
	require.NoError(t, err)
	require.Equal(t, events.Position{Millis: far.Millis, Seq: 6, Feed: at.Feed}, at)
	require.NotZero(t, at.Feed)
}

// A Redis that is not for events is told in our words, and local events are told.
func TestRedisThatIsNotForEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		before []string
		url    string // without the address; empty: the right one
		want   string
	}{
		"another kind of key": {before: []string{"SET " + key + " canary-4711"}, want: "refuses what is asked"},
		"ids of nobody":       {before: []string{"DEL " + key, "XADD " + key + " 18446744073709551615-1 v 1"}, want: "delete the key"},
		"wrong password":      {url: "redis://default:wrong-4711@", want: "refuses what is asked"},
		"TLS to none":         {url: "rediss://", want: "Redis"},
		"full":                {before: []string{"DEL " + key, "CONFIG SET maxmemory 1"}, want: "refuses what is asked"},
	} {
		t.Run(name, func(t *testing.T) {
			r := devstacktest.Redis(t, devstack.RedisOptions{})
			for _, deed := range tc.before {
				command(t, clientOf(t, r), deed)
			}
			url := r.URL()
			if tc.url != "" {
				url = secret.NewText(tc.url + r.Addr())
			}
			var c told
			b, err := events.NewRedis(t.Context(), events.Options{}, events.RedisOptions{URL: url, Changed: c.changed})
			require.NoError(t, err)
			defer b.Close()
			h := listen(t, b, everything("mcp/dev"))
			inTime(t, "it is told", func() bool { return len(c.list()) > 0 })
			require.Contains(t, c.list()[0], tc.want)
			require.NotContains(t, c.list()[0], "4711")
			b.Publish(change("mcp/dev", "x", 1))
			h.hears(t, 1)
		})
	}
}

// An account that may not ask which run of Redis it is: events are shared, and one
// who comes back elsewhere is told of a gap, since nobody knows.
func TestAccountThatMaySeeLittle(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	command(t, clientOf(t, r), "ACL SETUSER feed on >secret ~vault-mcp:events* +@all -info")
	var buses []*events.Bus
	for range 2 {
		b, err := events.NewRedis(t.Context(), events.Options{}, events.RedisOptions{URL: secret.NewText("redis://feed:secret@" + r.Addr())})
		require.NoError(t, err)
		defer b.Close()
		require.NoError(t, b.Check(t.Context()))
		buses = append(buses, b)
	}
	h := listen(t, buses[1], everything("mcp/dev"))
	h.take() // the other one's beginning
	h.all = nil
	buses[0].Publish(change("mcp/dev", "x", 1))
	require.Equal(t, 1, last(t, h))
	listen(t, buses[0], resumed("mcp/dev", h.at)).hears(t, gap)
}
