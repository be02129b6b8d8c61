package events_test

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"vault-mcp/events"
)

// world is what really happened: the secrets, and who told what of them.
type world struct {
	mu    sync.Mutex
	truth map[string]int   // version of each path
	logs  map[int][]string // paths that each publisher told of, in order
}

func newWorld() *world { return &world{truth: make(map[string]int), logs: make(map[int][]string)} }

// change changes a secret and tells of it, as a replica does. The event says in
// place of a tool who tells and how often it did before.
func (w *world) change(b *events.Bus, publisher int, owner, path string) {
	w.mu.Lock()
	whole := owner + "/" + path
	w.truth[whole]++
	e := change(owner, path, w.truth[whole])
	e.Tool = fmt.Sprintf("%d:%d", publisher, len(w.logs[publisher]))
	w.logs[publisher] = append(w.logs[publisher], whole)
	w.mu.Unlock()
	b.Publish(e)
}

// reader is a client that knows the state of what it may see: by looking where it
// is told of a gap, and else by events alone.
type reader struct {
	world    *world
	root     string
	coalesce bool
	ids      events.IDs
	id       string // the last one it saw
	sub      *events.Subscription
	known    map[string]int // by path
	seen     map[int]int    // by publisher: up to here nothing is missing
	sure     map[int]bool   // by publisher: seen is an event that came, and what comes next is the one after it
}

func (w *world) reader(b *events.Bus, root string, coalesce bool) *reader {
	r := &reader{world: w, root: root, coalesce: coalesce, ids: events.NewIDs([]byte("key"), root)}
	r.resume(b)
	return r
}

// look is what a client does at the beginning and after a gap.
func (r *reader) look() {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.known, r.seen, r.sure = maps.Clone(r.world.truth), make(map[int]int), make(map[int]bool)
	for publisher, log := range r.world.logs {
		r.seen[publisher] = len(log) - 1
	}
}

// resume comes back at a Bus with the last id.
func (r *reader) resume(b *events.Bus) {
	in := events.Interest{Roots: []string{r.root}, Coalesce: r.coalesce}
	if in.Resume = r.id != ""; in.Resume {
		in.After, _ = r.ids.Parse(r.id)
	}
	r.sub = b.Subscribe(in)
	if r.id == "" { // it has seen nothing at all yet
		r.look()
	}
}

// next is the first event of a publisher after one that is in view, -1 where there
// is none.
func (r *reader) next(publisher, after int) int {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	log := r.world.logs[publisher]
	for n := after + 1; n < len(log); n++ {
		if events.Contains(r.root, log[n]) {
			return n
		}
	}
	return -1
}

// take reads what waits, and leaves after so many events.
func (r *reader) take(t require.TestingT, most int) {
	batch := r.sub.Take()
	if batch.Gap {
		r.look()
		r.id = r.ids.Place(batch.GapAt)
	}
	for i, e := range batch.Events {
		if i == most {
			return
		}
		require.True(t, events.Contains(r.root, e.Path), "%s is not in view of %s", e.Path, r.root)
		r.hear(e)
		r.id = r.ids.Event(e.At)
		publisher, n := numbers(e.Tool)
		if r.coalesce {
			r.seen[publisher] = max(r.seen[publisher], n)
			continue
		}
		seen, ever := r.seen[publisher]
		if !ever {
			seen = -1
		}
		want := r.next(publisher, seen)
		if r.sure[publisher] {
			require.Equal(t, want, n, "an event is missing, without a gap, or comes twice")
		} else if want >= 0 {
			require.LessOrEqual(t, n, want, "an event is missing, without a gap")
		}
		r.seen[publisher], r.sure[publisher] = max(seen, n), n >= seen
	}
	r.id = r.ids.Place(batch.At)
}

// hear takes note of a change. To whom the last state is enough reads it again: two
// replicas that change one secret may tell of it in another order, and then the last
// event is not the one of the last version.
func (r *reader) hear(e *events.Event) {
	if !r.coalesce {
		r.known[e.Path] = max(r.known[e.Path], e.Version)
		return
	}
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.known[e.Path] = r.world.truth[e.Path]
}

func numbers(text string) (publisher, n int) {
	left, right, _ := strings.Cut(text, ":")
	publisher, _ = strconv.Atoi(left)
	n, _ = strconv.Atoi(right)
	return publisher, n
}

// behind is a path that has changed unnoticed, or an event that is missing.
func (r *reader) behind() string {
	r.world.mu.Lock()
	truth := maps.Clone(r.world.truth)
	publishers := len(r.world.logs)
	r.world.mu.Unlock()
	for path, version := range truth {
		if events.Contains(r.root, path) && r.known[path] != version {
			return fmt.Sprintf("%s at %d, not %d", path, r.known[path], version)
		}
	}
	if r.coalesce {
		return ""
	}
	for publisher := range publishers {
		seen, ever := r.seen[publisher]
		if !ever {
			seen = -1
		}
		if n := r.next(publisher, seen); n >= 0 {
			return fmt.Sprintf("event %d:%d", publisher, n)
		}
	}
	return ""
}
