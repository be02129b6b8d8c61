package events_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
)

// worker is what a goroutine of a test requires with.
type worker struct{ t *testing.T }

func (w worker) Errorf(format string, args ...any) { w.t.Errorf(format, args...) }
func (worker) FailNow()                            { runtime.Goexit() }

// storm changes secrets at all of some Buses at once, while readers pause, leave in
// the middle and come back anywhere, and holds that in the end nobody has missed
// anything unnoticed.
func storm(t *testing.T, buses []*events.Bus, changes, readers int, disturb func()) {
	t.Helper()
	w := newWorld()
	var writing, reading sync.WaitGroup
	for i, b := range buses {
		writing.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for n := range changes / len(buses) {
				w.change(b, i, owners[random.IntN(len(owners))], fmt.Sprint("s", random.IntN(10)))
				if n%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	stop := make(chan struct{})
	for i := range readers {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 2))
			anyBus := func() *events.Bus { return buses[random.IntN(len(buses))] }
			r := w.reader(anyBus(), roots[random.IntN(len(roots))], i%2 == 0)
			defer func() { r.sub.Close() }()
			for ended := false; !ended; {
				select {
				case <-stop:
					ended = true
				case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
				}
				switch random.IntN(10) {
				case 0:
					r.take(worker{t}, random.IntN(20))
					r.sub.Close()
					r.resume(anyBus())
				case 1:
					r.sub.Close()
					r.resume(anyBus())
				default:
					r.take(worker{t}, -1)
				}
			}
			for end := time.Now().Add(20 * time.Second); r.behind() != ""; time.Sleep(5 * time.Millisecond) {
				require.True(worker{t}, time.Now().Before(end), "unnoticed at %s: %s", r.root, r.behind())
				r.take(worker{t}, -1)
			}
		})
	}
	disturb()
	writing.Wait()
	close(stop)
	reading.Wait()
}

// The same as TestNothingIsLostWithoutNotice, with several replicas and a Redis to
// which everything happens.
func TestNothingIsLostWithRedis(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	var buses []*events.Bus
	for range 3 {
		b, _ := replica(t, r, events.Options{MaxQueue: 200, MaxOfOwner: 300})
		buses = append(buses, b)
	}
	storm(t, buses, 20_000, 12, func() {
		for _, deed := range []string{"CLIENT KILL TYPE normal SKIPME yes", "DEL " + key, "SAVE", "FLUSHALL"} {
			time.Sleep(30 * time.Millisecond)
			if deed == "SAVE" { // it comes back with what it had before
				command(t, clientOf(t, r), "SAVE")
				r.Kill()
				require.NoError(t, r.Restart(t.Context()))
				continue
			}
			command(t, clientOf(t, r), deed)
		}
		r.Kill()
		require.NoError(t, r.Restart(t.Context()))
	})
}

// 100 000 changes, and Redis killed and back in the middle of them.
func TestManyChanges(t *testing.T) {
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	a, _ := replica(t, r, events.Options{})
	b, _ := replica(t, r, events.Options{})
	storm(t, []*events.Bus{a, b}, 100_000, 20, func() {
		time.Sleep(500 * time.Millisecond)
		r.Kill()
		require.NoError(t, r.Restart(t.Context()))
	})
}
