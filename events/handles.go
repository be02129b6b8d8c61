package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"vault-mcp/fault"
	"vault-mcp/redisx"
	"vault-mcp/secret"
)

// Handles keep, in Redis, what the handles of streams stand for, so that a handle
// which one replica gave opens a stream at any. What is kept was encrypted before it
// comes here, and is named by what nobody else can guess.
type Handles struct{ client *redis.Client }

const (
	handleKeys  = "vault-mcp:handle:"
	handlesKey  = "vault-mcp:handles"  // all of them, by expiry
	handlesKeys = "vault-mcp:handles:" // those of one owner

	// How many there may be, of one owner and in all.
	maxHandlesOfOne = 64
	maxHandles      = 4096

	handleConnections = 8
	withoutHandles    = "handles of streams can be neither made nor used until it is back"
)

// NewHandles makes Handles in a Redis. It need not be there yet.
func NewHandles(url secret.Text) (*Handles, error) {
	settings, err := redisx.Options(url)
	if err != nil {
		return nil, err
	}
	settings.PoolSize = handleConnections
	// One more try, for a connection that had been closed while nobody used it. To do
	// it twice does no more.
	settings.MaxRetries, settings.MinRetryBackoff, settings.MaxRetryBackoff = 1, time.Millisecond, 2*time.Millisecond
	return &Handles{client: redis.NewClient(settings)}, nil
}

// putHandle keeps a record where there is room: it is 0 then, else which of the two
// bounds was reached.
var putHandle = redis.NewScript(`
for i = 2, 3 do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[1])
  if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[3 + i]) and not redis.call('ZSCORE', KEYS[i], ARGV[4]) then
    return i - 1
  end
end
redis.call('SET', KEYS[1], ARGV[3], 'PXAT', ARGV[2])
for i = 2, 3 do
  redis.call('ZADD', KEYS[i], ARGV[2], ARGV[4])
  local last = redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')
  redis.call('PEXPIREAT', KEYS[i], last[2])
end
return 0`)

// Put keeps a record under a name until it expires.
func (h *Handles) Put(ctx context.Context, name, owner string, record []byte, expires time.Time) error {
	sum := sha256.Sum256([]byte(owner))
	keys := []string{handleKeys + name, handlesKeys + hex.EncodeToString(sum[:16]), handlesKey}
	full, err := putHandle.Run(ctx, h.client, keys,
		time.Now().UnixMilli(), expires.UnixMilli(), record, name, maxHandlesOfOne, maxHandles).Int()
	switch {
	case err != nil:
		return redisx.Lost(err, withoutHandles)
	case full == 1:
		return noRoom(fault.RateLimited, "too many handles of this principal; one can be used again until it expires")
	case full != 0:
		return noRoom(fault.Unavailable, "too many handles of streams")
	}
	return nil
}

func noRoom(kind fault.Kind, msg string) *fault.Error {
	f := fault.New(kind, msg)
	f.RetryAfter = time.Minute
	return f
}

// Get gives a record back; nil where there is none, or none any more.
func (h *Handles) Get(ctx context.Context, name string) ([]byte, error) {
	record, err := h.client.Get(ctx, handleKeys+name).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, redisx.Lost(err, withoutHandles)
	}
	return record, nil
}

// Close ends the connections.
func (h *Handles) Close() { _ = h.client.Close() } // they end in any case
