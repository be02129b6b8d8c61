//go:build unix

package secret_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/secret"
)

// A FIFO in the place of a key is refused; nobody waits for its other end.
func TestKeyThatIsAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	for _, load := range []func(string) ([]byte, error){secret.LoadKey, secret.LoadOrCreateKey} {
		_, err := load(path)
		require.ErrorContains(t, err, "is not a regular file")
	}
}
