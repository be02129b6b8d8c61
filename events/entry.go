package events

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/redis/go-redis/v9"
)

// What stands in the stream. Each entry says in which run of Redis it was written,
// so that those who read it later see where Redis was started again in between,
// and may have lost something.
const (
	fieldVersion = "v"
	fieldRun     = "r"
	fieldEvent   = "e" // an Event, as JSON
	fieldDoubt   = "d" // likewise, see Bus.Doubt; to replicas that do not know of it, a gap for everybody
	fieldGap     = "gap"

	entryVersion = "1"
	// maxEntry bounds an event's text.
	maxEntry = 4096
)

// run is one run of a Redis, from its start to its end, as we know it.
type run struct {
	tag  string
	feed uint16
}

// runOf is the run that a server names.
func runOf(id string) run {
	sum := sha256.Sum256([]byte("run of Redis\x00" + id))
	return run{tag: hex.EncodeToString(sum[:8]), feed: max(1, binary.BigEndian.Uint16(sum[8:]))}
}

// eventEntry is an event as it stands in the stream; one that is too large for it
// is a gap.
func (r run) eventEntry(e *Event) []string {
	text, err := jsonv2.Marshal(e)
	if err != nil || len(text) > maxEntry {
		return r.gapEntry()
	}
	field := fieldEvent
	if e.doubt {
		field = fieldDoubt
	}
	return []string{fieldVersion, entryVersion, fieldRun, r.tag, field, string(text)}
}

// gapEntry tells everybody that something may have been missed.
func (r run) gapEntry() []string {
	return []string{fieldVersion, entryVersion, fieldRun, r.tag, fieldGap, "1"}
}

// entry is what was read of the stream.
type entry struct {
	at    Position
	run   string
	event *Event // nil: there is nothing for anybody here
	gap   bool   // something was missed, or is not for us to understand
}

// readEntry reads an entry, which anybody who reaches Redis may have written. What
// is not ours, or newer than we are, may be anything, so it is a gap; an event of
// a type that is not known is nothing that anybody here can have asked for.
func (r run) readEntry(m redis.XMessage) (entry, error) {
	at, err := r.position(m.ID)
	if err != nil {
		return entry{}, err
	}
	en := entry{at: at, gap: true}
	en.run, _ = m.Values[fieldRun].(string)
	text, isEvent := m.Values[fieldEvent].(string)
	doubted, isDoubt := m.Values[fieldDoubt].(string)
	if m.Values[fieldVersion] != entryVersion || isEvent == isDoubt || len(text)+len(doubted) > maxEntry {
		return en, nil
	}
	e := &Event{At: at, doubt: isDoubt}
	if !e.read(text + doubted) {
		return en, nil
	}
	en.gap = false
	for _, known := range Types() {
		if e.Type == known {
			en.event = e
		}
	}
	return en, nil
}

// read reads an event's text. It is false where the text is none of ours.
func (e *Event) read(text string) bool {
	err := jsonv2.Unmarshal([]byte(text), e)
	return err == nil && e.Type != "" && e.Owner != "" && e.Version >= 0 && Contains(e.Owner, e.Path) &&
		(e.Type != ToolCompleted || e.Path == e.Owner)
}

// position reads the id of an entry.
func (r run) position(id string) (Position, error) {
	ms, seq, ok := strings.Cut(id, "-")
	p := Position{Feed: r.feed}
	var err error
	if p.Millis, err = strconv.ParseUint(ms, 10, 64); err != nil || !ok {
		return Position{}, errForeign
	}
	if p.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil || p.Millis > maxMillis || p.Seq > maxSeq {
		return Position{}, errForeign
	}
	return p, nil
}

// streamID is how a stream spells a position.
func (p Position) streamID() string {
	return strconv.FormatUint(p.Millis, 10) + "-" + strconv.FormatUint(p.Seq, 10)
}
