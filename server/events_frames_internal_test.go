package server

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/events"
)

// What one principal sees of an event is made once and is no other's; and it is not
// kept for ever.
func TestFramesAreOfOneView(t *testing.T) {
	f, first, second := &frames{}, &events.Event{}, &events.Event{}
	made := 0
	frame := func(e *events.Event, name, view string) string {
		return string(f.of(e, view, func() []byte { made++; return fmt.Append(nil, name, " as ", view) }))
	}
	for range 3 {
		require.Equal(t, "first as alice|mcp/alice", frame(first, "first", "alice|mcp/alice"))
		require.Equal(t, "first as alice|mcp", frame(first, "first", "alice|mcp"))
		require.Equal(t, "second as alice|mcp/alice", frame(second, "second", "alice|mcp/alice"))
	}
	require.Equal(t, 3, made)
	for n := range 3 * maxFrames {
		frame(first, "first", strconv.Itoa(n))
		require.LessOrEqual(t, len(f.kept), maxFrames)
	}
}

// Streams rest longer where there are many, and never so long that a change is old
// news.
func TestRestOfStreams(t *testing.T) {
	f := newFeeds(Options{})
	require.Equal(t, feedRest, f.rest())
	for range 20_000 {
		require.True(t, f.streams.enter())
	}
	require.Equal(t, feedRestMost, f.rest())
}
