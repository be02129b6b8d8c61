package vaultx

import (
	"container/list"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who has to leave for another may be in the midst of starting its work, for
// which it takes the lock of all under its own: so nobody waits for it under that.
func TestChildIsEvictedWhileItIsAsked(t *testing.T) {
	set := &children{opt: ChildOptions{Max: 1}, kept: make(map[ChildSpec]*list.Element), recent: list.New()}
	alice, bob := ChildSpec{ID: "alice"}, ChildSpec{ID: "bob"}
	old := set.of(alice)
	old.mu.Lock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		set.of(bob)
	}()
	require.Eventually(t, func() bool {
		if !set.mu.TryLock() {
			return false
		}
		defer set.mu.Unlock()
		return set.kept[bob] != nil && set.kept[alice] == nil
	}, 5*time.Second, time.Millisecond)
	old.mu.Unlock()
	<-gone
	require.True(t, old.evicted)
}
