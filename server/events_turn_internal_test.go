package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A stream that finds all turns taken waits for one, but not for long; and it gives
// back what it has, once.
func TestStreamsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{feed: feeds{turns: make(chan struct{}, 1)}}
		first, second := &feed{Server: s, timer: time.NewTimer(0)}, &feed{Server: s, timer: time.NewTimer(0)}
		first.takeTurn()
		require.True(t, first.holds)

		start := time.Now()
		second.takeTurn()
		require.False(t, second.holds)
		require.Equal(t, feedTurn, time.Since(start))
		second.giveTurn()
		require.Len(t, s.feed.turns, 1, "it gave back what it had not")

		time.AfterFunc(feedTurn/2, first.giveTurn)
		start = time.Now()
		second.takeTurn()
		require.True(t, second.holds)
		require.Equal(t, feedTurn/2, time.Since(start))
		first.giveTurn()
		require.Len(t, s.feed.turns, 1)
		second.giveTurn()
		require.Empty(t, s.feed.turns)
	})
}
