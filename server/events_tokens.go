package server

import (
	"context"
	"sync"
	"time"

	"vault-mcp/fault"
)

// Bounds of the handles in memory.
const (
	maxTokens      = 4096
	maxTokensOfOne = 64
	maxTokenBytes  = 32 << 20
	maxBytesOfOne  = 1 << 20
)

// memoryTokens is a TokenStore of one process.
type memoryTokens struct {
	mu      sync.Mutex
	records map[string]storedToken
	held    map[string]holding // by owner
	bytes   int
	swept   time.Time
}

// holding is what an owner has.
type holding struct{ tokens, bytes int }

type storedToken struct {
	owner   string
	record  []byte
	expires time.Time
}

func newMemoryTokens() *memoryTokens {
	return &memoryTokens{records: make(map[string]storedToken), held: make(map[string]holding)}
}

// Put keeps a record.
func (m *memoryTokens) Put(_ context.Context, name, owner string, record []byte, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(time.Now())
	had := m.held[owner]
	switch {
	case had.tokens >= maxTokensOfOne || had.bytes+len(record) > maxBytesOfOne:
		return tooManyTokens(fault.RateLimited, "too many handles of this principal; one can be used again until it expires")
	case len(m.records) >= maxTokens || m.bytes+len(record) > maxTokenBytes:
		return tooManyTokens(fault.Unavailable, "too many handles at this server")
	}
	m.records[name] = storedToken{owner, record, expires}
	m.held[owner] = holding{had.tokens + 1, had.bytes + len(record)}
	m.bytes += len(record)
	return nil
}

// tooManyTokens is a refusal for want of room.
func tooManyTokens(kind fault.Kind, msg string) *fault.Error {
	f := fault.New(kind, msg)
	f.RetryAfter = sessionRetry
	return f
}

// Get gives a record back.
func (m *memoryTokens) Get(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(time.Now())
	return m.records[name].record, nil
}

// sweep forgets what has expired. It is no more often than needs be: it looks at
// all there is.
func (m *memoryTokens) sweep(now time.Time) {
	if now.Sub(m.swept) < time.Second {
		return
	}
	m.swept = now
	for name, t := range m.records {
		if now.Before(t.expires) {
			continue
		}
		delete(m.records, name)
		m.bytes -= len(t.record)
		has := m.held[t.owner]
		if m.held[t.owner] = (holding{has.tokens - 1, has.bytes - len(t.record)}); has.tokens == 1 {
			delete(m.held, t.owner)
		}
	}
}
