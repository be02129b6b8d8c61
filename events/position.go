package events

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Position is a place in a feed, as in a stream of Redis: the milliseconds since
// 1970 at which an event came, and its number among those of that millisecond.
// Positions of different replicas with one Redis are those of its stream.
//
// Feed tells one feed from another: the stream of each run of a Redis, and what a
// process gave out by itself, each time that it had to. Positions of two feeds
// have no order that means anything, so nobody resumes in one from the other.
type Position struct {
	Millis uint64 // 48 bits at most
	Seq    uint64 // 32 bits at most
	Feed   uint16 // 0: none
}

// Compare is negative for an earlier position of the same feed, 0 for the same.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Millis, q.Millis), cmp.Compare(p.Seq, q.Seq))
}

// After reports whether p is later than q.
func (p Position) After(q Position) bool { return p.Compare(q) > 0 }

// next is the first position after p that is not before a time.
func (p Position) next(millis uint64) Position {
	if millis > p.Millis {
		return Position{Millis: millis, Feed: p.Feed}
	}
	return Position{Millis: p.Millis, Seq: p.Seq + 1, Feed: p.Feed}
}

// Bounds of the parts of a position, which an id has room for.
const (
	maxMillis = 1<<48 - 1
	maxSeq    = 1<<32 - 1
)

// newFeed names a feed of this process alone.
func newFeed() uint16 {
	var b [2]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if feed := binary.BigEndian.Uint16(b[:]); feed != 0 {
			return feed
		}
	}
}

// IDs makes and reads the ids of positions for one principal: positions are
// encrypted with a key of its own, so that an id tells neither when others did
// something nor how often. An event has the same id in each of the principal's
// streams, on each replica that has the same key.
type IDs struct{ block cipher.Block }

// NewIDs makes the IDs of a principal, from the server's key, of any size.
func NewIDs(key []byte, principal string) IDs {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("event ids of vault-mcp, version 1\x00" + principal))
	block, err := aes.NewCipher(mac.Sum(nil)[:16])
	if err != nil {
		panic(err) // the size is right
	}
	return IDs{block}
}

// Event is the id of the event at a position.
func (ids IDs) Event(p Position) string { return ids.seal(p, 0) }

// Place is an id of a position where no event needs to be: how far a stream is.
// Each is another, since two that are equal would say that nothing happened
// anywhere in between.
func (ids IDs) Place(p Position) string {
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return ids.seal(p, binary.BigEndian.Uint32(nonce[:])|1)
}

func (ids IDs) seal(p Position, nonce uint32) string {
	var plain, sealed [aes.BlockSize]byte
	binary.BigEndian.PutUint64(plain[:8], p.Millis<<16|uint64(p.Feed))
	binary.BigEndian.PutUint32(plain[8:12], uint32(p.Seq))
	binary.BigEndian.PutUint32(plain[12:], nonce)
	ids.block.Encrypt(sealed[:], plain[:])
	return idText.EncodeToString(sealed[:])
}

// idText is strict, so that one position has one spelling.
var idText = base64.RawURLEncoding.Strict()

// Parse reads an id. What is no id at all is not ok; an id that was made for
// another principal, or by nobody, is a position somewhere, which the feed finds
// unknown.
func (ids IDs) Parse(id string) (p Position, ok bool) {
	if len(id) != idText.EncodedLen(aes.BlockSize) {
		return Position{}, false
	}
	var plain [aes.BlockSize]byte
	sealed, err := idText.DecodeString(id)
	if err != nil || len(sealed) != len(plain) {
		return Position{}, false
	}
	ids.block.Decrypt(plain[:], sealed)
	high := binary.BigEndian.Uint64(plain[:8])
	return Position{Millis: high >> 16, Seq: uint64(binary.BigEndian.Uint32(plain[8:12])), Feed: uint16(high & 0xffff)}, true
}
