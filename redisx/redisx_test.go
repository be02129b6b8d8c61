package redisx_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/redisx"
	"vault-mcp/secret"
)

func TestOptions(t *testing.T) {
	o, err := redisx.Options(secret.NewText("rediss://u:p@h.example:6380/2"))
	require.NoError(t, err)
	require.Equal(t, "h.example:6380", o.Addr)
	require.Equal(t, 2, o.DB)
	require.NotNil(t, o.TLSConfig)
	require.False(t, o.TLSConfig.InsecureSkipVerify)
	require.True(t, o.ContextTimeoutEnabled)
	require.Equal(t, redisx.Patience, o.ReadTimeout)
	for _, url := range []string{"", "canary-4711", "http://canary-4711", "redis://", "rediss://h?skip_verify=true", "redis://u:canary-4711@h/x", "redis://u:canary-4711@h:port", "redis://h#4711"} {
		_, err := redisx.Options(secret.NewText(url))
		require.ErrorIs(t, err, fault.Invalid, url)
		require.ErrorContains(t, err, "REDIS_URL")
		require.NotContains(t, err.Error(), "4711")
	}
}

// answered is an error that a Redis gave.
type answered string

func (a answered) Error() string { return string(a) }
func (answered) RedisError()     {}

// What went wrong is told in our words, whatever a server says.
func TestLost(t *testing.T) {
	var _ redis.Error = answered("")
	for want, cause := range map[string]error{
		"refuses what is asked":          answered("ERR canary-4711"),
		"Redis does not answer in time:": &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded},
		"does not answer in time":        context.DeadlineExceeded,
		"does not answer as Redis does":  redisx.ErrBadAnswer,
		"cannot be reached: and so what": &net.OpError{Op: "dial", Err: errors.New("canary-4711")},
	} {
		err := redisx.Lost(cause, "and so what")
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, ": and so what")
		require.NotContains(t, err.Error(), "4711")
	}
}
