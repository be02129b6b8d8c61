package audit

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"

	"vault-mcp/secret"
)

// hashPrefix stands before a keyed hash of a value.
const hashPrefix = "hmac-sha256:"

const (
	macName = `,"mac":"`
	macHex  = 2 * sha256.Size
	macTail = len(macName) + macHex + len(`"}`) // what a mac takes at the end of a line
)

// position is a place in a chain: the record last written there.
type position struct {
	seq uint64
	mac [macHex]byte
}

// start is the place before the first record.
func start() position {
	var p position
	copy(p.mac[:], bytes.Repeat([]byte{'0'}, macHex))
	return p
}

// keys are what is derived from the key of a trail.
type keys struct {
	chain, head, value []byte
	fingerprint        string // public: says which key a chain was written with
}

func derive(key []byte) (keys, error) {
	if len(key) != secret.KeySize {
		return keys{}, fmt.Errorf("audit: the key has %d bytes; want %d", len(key), secret.KeySize)
	}
	var errs error
	label := func(use string, n int) []byte {
		k, err := hkdf.Key(sha256.New, key, nil, "vault-mcp audit "+use+" v1", n)
		errs = errors.Join(errs, err)
		return k
	}
	k := keys{
		chain:       label("chain", sha256.Size),
		head:        label("head", sha256.Size),
		value:       label("value", sha256.Size),
		fingerprint: hex.EncodeToString(label("fingerprint", 8)),
	}
	return k, errs
}

// macer closes lines with their MAC, and checks them. One goroutine at a time.
type macer struct {
	h   hash.Hash
	sum [sha256.Size]byte
	hex [macHex]byte
}

func newMacer(key []byte) *macer { return &macer{h: hmac.New(sha256.New, key)} }

func (m *macer) of(b []byte) []byte {
	m.h.Reset()
	_, _ = m.h.Write(b)
	hex.Encode(m.hex[:], m.h.Sum(m.sum[:0]))
	return m.hex[:]
}

// seal closes the line that begins at from in buf, and returns its MAC, good
// until the next use.
func (m *macer) seal(buf []byte, from int) (line, mac []byte) {
	mac = m.of(buf[from:])
	buf = append(buf, macName...)
	buf = append(buf, mac...)
	return append(buf, `"}`...), mac
}

// open checks a line (without its line end) and returns its MAC, a part of it.
func (m *macer) open(line []byte) (mac []byte, ok bool) {
	at := len(line) - macTail
	if at < 0 || string(line[at:at+len(macName)]) != macName || string(line[len(line)-2:]) != `"}` {
		return nil, false
	}
	mac = line[at+len(macName) : len(line)-2]
	return mac, hmac.Equal(mac, m.of(line[:at]))
}

// hasher makes keyed hashes of values, for any number of goroutines.
type hasher struct{ pool sync.Pool }

func newHasher(key []byte) *hasher {
	return &hasher{pool: sync.Pool{New: func() any { return newMacer(key) }}}
}

func (h *hasher) of(b []byte) string {
	m := h.pool.Get().(*macer) //nolint:forcetypeassert // the pool holds nothing else
	defer h.pool.Put(m)
	var out [len(hashPrefix) + macHex]byte
	copy(out[:], hashPrefix)
	copy(out[len(hashPrefix):], m.of(b))
	return string(out[:])
}

// HMAC is the keyed hash under which a value stands in trails written with
// key: "hmac-sha256:" and 64 hexadecimal digits. For arguments the value is the
// JSON text as it came in the call, quotes included.
func HMAC(key, value []byte) (string, error) {
	k, err := derive(key)
	if err != nil {
		return "", err
	}
	return newHasher(k.value).of(value), nil
}
