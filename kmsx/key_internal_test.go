package kmsx

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An alias that was pointed elsewhere goes on naming its old key for a minute and
// no longer.
func TestKeysAreForgotten(t *testing.T) {
	k, now := newKeyCache(), time.Now()
	k.put("alias/a", Key{ID: "old"}, now)
	key, ok := k.get("alias/a", now.Add(59*time.Second))
	require.True(t, ok)
	require.Equal(t, "old", key.ID)
	_, ok = k.get("alias/a", now.Add(61*time.Second))
	require.False(t, ok)
}
