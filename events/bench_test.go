package events_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/events"
)

// audience subscribes so many to a Bus, each to a part of its own, and reads what
// they get.
func audience(b *testing.B, bus *events.Bus, n int, root func(int) string) {
	b.Helper()
	var reading sync.WaitGroup
	stop := make(chan struct{})
	for i := range n {
		s := bus.Subscribe(everything(root(i)))
		reading.Go(func() {
			defer s.Close()
			for {
				select {
				case <-stop:
					return
				case <-s.Ready():
					s.Take()
				}
			}
		})
	}
	b.Cleanup(func() { close(stop); reading.Wait() })
}

// What a call pays to tell of a change, whoever listens.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 10_000} {
		b.Run(strconv.Itoa(n)+" subscribers", func(b *testing.B) {
			bus := events.NewMemory(events.Options{})
			b.Cleanup(bus.Close)
			audience(b, bus, n, func(i int) string { return "mcp/agent-" + strconv.Itoa(i) })
			e := change("mcp/agent-1", "app/config", 1)
			b.ReportAllocs()
			for b.Loop() {
				bus.Publish(e)
			}
		})
	}
}

// What it takes until an event has reached all of so many that may see it.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(strconv.Itoa(n)+" subscribers", func(b *testing.B) {
			bus := events.NewMemory(events.Options{})
			b.Cleanup(bus.Close)
			audience(b, bus, n, func(int) string { return "mcp/dev" })
			last := bus.Subscribe(everything("mcp/dev"))
			e := change("mcp/dev", "app/config", 1)
			for b.Loop() {
				bus.Publish(e)
				<-last.Ready()
				last.Take()
			}
		})
	}
}

// Publish takes no more memory than the event, in a list that grows now and then.
func TestPublishAllocatesNothing(t *testing.T) {
	bus := events.NewIdle(events.Options{})
	e := change("mcp/dev", "x", 1)
	require.Zero(t, testing.AllocsPerRun(10_000, func() { bus.Publish(e) }))
}
