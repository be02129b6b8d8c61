package events_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/events"
)

// change is an event of somebody's secret.
func change(owner, path string, version int) events.Event {
	return events.Event{
		Type: events.ResourceChanged, Owner: owner, Subject: owner, Path: owner + "/" + path, Tool: "kv.write", Version: version,
	}
}

// everything is the interest of one who may see a part of the tree.
func everything(root string) events.Interest { return events.Interest{Roots: []string{root}} }

// resumed is an interest that begins after a position.
func resumed(root string, after events.Position) events.Interest {
	return events.Interest{Roots: []string{root}, Resume: true, After: after}
}

// told is what a Bus told the operator.
type told struct {
	mu  sync.Mutex
	all []string
}

func (c *told) changed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.all = append(c.all, "back")
		return
	}
	c.all = append(c.all, err.Error())
}

func (c *told) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.all...)
}

// replica is one process's Bus at a Redis.
func replica(t testing.TB, r *devstack.Redis, opt events.Options) (*events.Bus, *told) {
	t.Helper()
	var c told
	b, err := events.NewRedis(t.Context(), opt, events.RedisOptions{URL: r.URL(), Changed: c.changed})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b, &c
}

// inTime waits for what happens by itself.
func inTime(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "still not: %s", what)
	}
}

// heard collects what a subscription gets: versions, and -1 for a gap.
type heard struct {
	sub *events.Subscription
	all []int
	at  events.Position
}

func listen(t testing.TB, b *events.Bus, in events.Interest) *heard {
	t.Helper()
	h := &heard{sub: b.Subscribe(in)}
	t.Cleanup(h.sub.Close)
	return h
}

const gap = -1

func (h *heard) take() []int {
	batch := h.sub.Take()
	if batch.Gap {
		h.all = append(h.all, gap)
	}
	for _, e := range batch.Events {
		h.all = append(h.all, e.Version)
	}
	h.at = batch.At
	return h.all
}

// hears waits until the subscription has had just this, since the last time.
func (h *heard) hears(t testing.TB, want ...int) {
	t.Helper()
	inTime(t, "it heard all", func() bool { return len(h.take()) >= len(want) })
	require.Equal(t, want, h.all)
	h.all = nil
}
