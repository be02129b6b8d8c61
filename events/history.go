package events

import (
	"container/list"
	"maps"
	"slices"
	"time"
)

// history keeps the last events. Each principal has room of its own in it, by
// type, so that one who does much takes nothing from what others can resume from.
type history struct {
	opt    Options
	topics map[topicKey]*topic
	below  map[string]map[topicKey]*topic // those of owners below a path: who comes back does not look through all
	order  *list.List                     // of *Event, oldest first
	bytes  int
	floor  Position // something at or before it was forgotten, nobody knows of whom; its Feed is that of all
}

type topicKey struct {
	owner string
	typ   Type
}

// topic is what is kept of one principal and type.
type topic struct {
	events []*list.Element // oldest first
	lost   Position        // the last one that is not kept any more
}

// newHistory is one that knows nothing of what was up to a position.
func newHistory(opt Options, floor Position) *history {
	return &history{opt: opt, topics: make(map[topicKey]*topic), below: make(map[string]map[topicKey]*topic), order: list.New(), floor: floor}
}

// add keeps an event, which is later than all before, and drops what is too much.
func (h *history) add(e *Event) {
	key := topicKey{e.Owner, e.Type}
	t := h.topics[key]
	if t == nil {
		t = h.begin(key)
	}
	t.events = append(t.events, h.order.PushBack(e))
	h.bytes += e.size()
	if len(t.events) > h.opt.MaxOfOwner {
		h.drop(t.events[0])
	}
	for h.order.Len() > h.opt.MaxEvents || h.bytes > h.opt.MaxBytes {
		h.drop(h.order.Front())
	}
	h.expire(e.At.Millis)
}

// expire drops what is too old at a time.
func (h *history) expire(now uint64) {
	age := uint64(h.opt.MaxAge / time.Millisecond)
	for first := h.order.Front(); first != nil && first.Value.(*Event).At.Millis+age < now; first = h.order.Front() {
		h.drop(first)
	}
}

// drop forgets an event, which is the oldest of its topic.
func (h *history) drop(el *list.Element) {
	e := h.order.Remove(el).(*Event)
	h.bytes -= e.size()
	key := topicKey{e.Owner, e.Type}
	t := h.topics[key]
	t.events[0] = nil
	t.events, t.lost = t.events[1:], e.At
	if len(t.events) == 0 {
		h.raise(t.lost)
		h.end(key)
	}
}

func (h *history) begin(key topicKey) *topic {
	t := &topic{}
	h.topics[key] = t
	ancestors(key.owner, func(path string) bool {
		switch {
		case path == key.owner: // is found as it stands
		case h.below[path] == nil:
			h.below[path] = map[topicKey]*topic{key: t}
		default:
			h.below[path][key] = t
		}
		return true
	})
	return t
}

func (h *history) end(key topicKey) {
	delete(h.topics, key)
	ancestors(key.owner, func(path string) bool {
		delete(h.below[path], key)
		if len(h.below[path]) == 0 {
			delete(h.below, path)
		}
		return true
	})
}

// overlapping are the topics in which something that is of interest may be.
func (h *history) overlapping(in *Interest) map[topicKey]*topic {
	found := make(map[topicKey]*topic)
	for _, root := range in.Roots {
		maps.Copy(found, h.below[root])
		ancestors(root, func(owner string) bool {
			for _, typ := range Types() {
				if t := h.topics[topicKey{owner, typ}]; t != nil {
					found[topicKey{owner, typ}] = t
				}
			}
			return true
		})
	}
	maps.DeleteFunc(found, func(key topicKey, _ *topic) bool { return !in.overlaps(key.owner, key.typ) })
	return found
}

func (h *history) raise(floor Position) {
	if floor.After(h.floor) {
		h.floor = floor
	}
}

// since lists the events after a position that a subscription wants. It is not ok
// where some may be missing.
func (h *history) since(after Position, s *Subscription) (found []*Event, ok bool) {
	if after.Feed != h.floor.Feed || h.floor.After(after) {
		return nil, false
	}
	for _, t := range h.overlapping(&s.interest) {
		if t.lost.After(after) {
			return nil, false
		}
		start, _ := slices.BinarySearchFunc(t.events, after, func(el *list.Element, at Position) int {
			if el.Value.(*Event).At.After(at) {
				return 1
			}
			return -1
		})
		for _, el := range t.events[start:] {
			if e := el.Value.(*Event); s.interest.wants(e) {
				found = append(found, e)
			}
		}
	}
	slices.SortFunc(found, func(a, b *Event) int { return a.At.Compare(b.At) })
	return found, true
}
