package events_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/events"
)

// Who comes back finds what happened at, above and below its part of the tree,
// once, and what beside it was forgotten is no matter.
func TestResumeFindsOwnersAboveAndBelow(t *testing.T) {
	b := events.NewMemory(events.Options{MaxOfOwner: 3})
	after := b.Last()
	for version, owner := range []string{"mcp", "mcp/a", "mcp/a/b", "mcp/a/b/c", "mcp/ab"} {
		e := change(owner, "x", version+1)
		if owner == "mcp" || owner == "mcp/a" {
			e.Path = "mcp/a/b/x"
		}
		b.Publish(e)
	}
	for version := range 9 {
		b.Publish(change("mcp/z", "x", 10+version))
	}
	b.Close() // gives out what waits
	for _, tc := range []struct {
		roots []string
		want  []int
	}{
		{[]string{"mcp/a/b"}, []int{1, 2, 3, 4}},
		{[]string{"mcp/a/b/c", "mcp/a/b/x"}, []int{1, 2, 3, 4}},
		{[]string{"mcp/a", "mcp/a/b", "mcp/ab"}, []int{1, 2, 3, 4, 5}},
		{[]string{"mcp/a/b/c"}, []int{4}},
		{[]string{"mcp/a/b", "mcp/z"}, []int{gap}},
		{[]string{"mcp"}, []int{gap}},
	} {
		in := events.Interest{Roots: tc.roots, Resume: true, After: after}
		require.Equal(t, tc.want, listen(t, b, in).take(), "%v", tc.roots)
	}
}

// Of owners of whom nothing is kept, nothing is left.
func TestOwnersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := events.NewMemory(events.Options{})
		defer b.Close()
		for n := range 100 {
			b.Publish(change("mcp/"+strconv.Itoa(n)+"/deep", "x", 1))
			b.Publish(call("mcp/" + strconv.Itoa(n)))
		}
		synctest.Wait()
		require.Equal(t, 200+200+101, b.Known(), "events, topics, and above them mcp and mcp/N")
		time.Sleep(2 * time.Hour)
		require.Zero(t, b.Known())
	})
}
