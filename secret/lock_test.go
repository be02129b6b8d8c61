package secret_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/secret"
)

func TestLockWaitsForItsHolder(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	holder, err := os.Create(name)
	require.NoError(t, err)
	defer func() { _ = holder.Close() }()
	got, err := secret.Lock(holder, 0, nil)
	require.NoError(t, err)
	require.True(t, got)

	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	const wait = 60 * time.Millisecond
	start, last, calls := time.Now(), time.Duration(-1), 0
	got, err = secret.Lock(f, wait, func(waited time.Duration) error {
		require.Greater(t, waited, last)
		require.Less(t, waited, wait)
		last, calls = waited, calls+1
		return nil
	})
	require.NoError(t, err)
	require.False(t, got, "it is held")
	require.GreaterOrEqual(t, time.Since(start), wait)
	require.Greater(t, calls, 1)

	enough := errors.New("enough")
	got, err = secret.Lock(f, math.MaxInt64, func(time.Duration) error { return enough })
	require.ErrorIs(t, err, enough)
	require.False(t, got)

	got, err = secret.Lock(f, math.MaxInt64, func(time.Duration) error { return holder.Close() })
	require.NoError(t, err)
	require.True(t, got, "it ends with the file")

	require.NoError(t, f.Close())
	_, err = secret.Lock(f, time.Minute, nil)
	require.Error(t, err)
}

func TestRandomHex(t *testing.T) {
	require.Regexp(t, "^[0-9a-f]{12}$", secret.RandomHex(6))
	first := secret.RandomHex(16)
	require.NotEqual(t, first, secret.RandomHex(16))
	require.Empty(t, secret.RandomHex(0))
}
