package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsNotBuiltIsSaid(t *testing.T) {
	for _, name := range later {
		require.NotContains(t, names(), strings.ToLower(name), "it is built: take it off the list")
		require.NotContains(t, names(), strings.ToLower(strings.TrimSuffix(name, fileSuffix)), "it is built: take it off the list")
	}
	c, err := Load(Options{Dir: t.TempDir(), Env: []string{"HOME=/home/x", "METRICS_ADDR=/canary", "REDIS_URL="}})
	require.NoError(t, err)
	require.Contains(t, c.Warnings(), "METRICS_ADDR is set, and this version does not have it: it has no effect")
	require.NotContains(t, strings.Join(c.Warnings(), " "), "canary")
	require.NotContains(t, strings.Join(c.Warnings(), " "), "REDIS_URL")
}
