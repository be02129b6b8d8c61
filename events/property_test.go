package events_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-mcp/events"
)

var (
	owners = []string{"mcp/a", "mcp/a-b", "mcp/c"}
	paths  = []string{"x", "x/y", "z"}
	roots  = []string{"mcp", "mcp/a", "mcp/a/x", "mcp/a/x/y", "mcp/a-b", "mcp/c"}
)

// small are bounds so narrow that everything overflows.
func small(rt *rapid.T, now func() time.Time) events.Options {
	return events.Options{
		Now:       now,
		MaxEvents: rapid.IntRange(1, 30).Draw(rt, "events kept"), MaxOfOwner: rapid.IntRange(1, 10).Draw(rt, "kept of each"),
		MaxBytes: rapid.IntRange(500, 20_000).Draw(rt, "bytes kept"), MaxQueue: rapid.IntRange(1, 10).Draw(rt, "queue"),
		MaxWaiting: rapid.IntRange(2, 20).Draw(rt, "waiting"),
	}
}

// Nothing is lost without notice: whatever is published, by whom and how fast, and
// whatever readers do - pause, leave in the middle, come back with the last id
// that they saw, also to a process that was started again -, each has every event
// of its view, in order, or a gap stands where one is missing; and one to whom the
// last state is enough knows it.
func TestNothingIsLostWithoutNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, live) // time stands still here: no deadline
	})
}

func live(rt *rapid.T) {
	var clock atomic.Int64 // of the machine, which may be set back
	now := func() time.Time { return time.Unix(1_800_000_000+clock.Load(), 0) }
	w, bus := newWorld(), events.NewMemory(small(rt, now))
	defer func() { bus.Close() }()
	var readers []*reader
	listen := func(rt *rapid.T) {
		readers = append(readers, w.reader(bus, rapid.SampledFrom(roots).Draw(rt, "root"), rapid.Bool().Draw(rt, "coalesce")))
	}
	one := func(name string) *reader { return readers[rapid.IntRange(0, len(readers)-1).Draw(rt, name)] }
	listen(rt)
	rt.Repeat(map[string]func(*rapid.T){
		"publish": func(rt *rapid.T) {
			for range rapid.IntRange(1, 30).Draw(rt, "how many") {
				w.change(bus, 0, rapid.SampledFrom(owners).Draw(rt, "owner"), rapid.SampledFrom(paths).Draw(rt, "path"))
				if rapid.IntRange(0, 3).Draw(rt, "rest") == 0 {
					synctest.Wait()
				}
			}
		},
		"listen": listen,
		"read":   func(rt *rapid.T) { one("who").take(rt, -1) },
		"leave":  func(*rapid.T) { one("who").sub.Close() },
		"leave in the middle": func(rt *rapid.T) {
			r := one("who")
			r.take(rt, rapid.IntRange(0, 5).Draw(rt, "after"))
			r.sub.Close()
			r.resume(bus)
		},
		"come back": func(*rapid.T) {
			r := one("who")
			r.sub.Close()
			r.resume(bus)
		},
		"time goes by": func(rt *rapid.T) { clock.Add(60 * int64(rapid.IntRange(-30, 90).Draw(rt, "minutes"))) },
		"restart": func(rt *rapid.T) {
			if rapid.IntRange(0, 9).Draw(rt, "now") > 0 { // seldom
				return
			}
			bus.Close()
			bus = events.NewMemory(small(rt, now))
			for _, r := range readers {
				r.resume(bus)
			}
		},
		"": func(*rapid.T) {},
	})
	for _, r := range readers {
		r.sub.Close() // some had left
		r.resume(bus)
	}
	synctest.Wait()
	for _, r := range readers {
		r.take(rt, -1)
		require.Empty(rt, r.behind(), "unnoticed at %s", r.root)
		r.sub.Close()
	}
}
