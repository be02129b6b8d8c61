package audit

import "hash/maphash"

// calls matches attempts with outcomes, as far as maxCalls goes. It remembers
// a hash of each call under way, so its memory is bounded whatever the records
// hold.
type calls struct {
	seed maphash.Seed
	open map[uint64]uint32
	lost bool // more calls were under way than are remembered
}

const maxCalls = 1 << 16

func newCalls() calls { return calls{seed: maphash.MakeSeed(), open: map[uint64]uint32{}} }

func (c *calls) take(r *Record) {
	if r.RequestID == "" {
		return
	}
	id := maphash.Comparable(c.seed, [3]string{r.RequestID, r.Subject, r.Tool})
	switch n := c.open[id]; {
	case r.Kind == Attempt && n == 0 && len(c.open) >= maxCalls:
		c.lost = true
	case r.Kind == Attempt:
		c.open[id] = n + 1
	case n > 1:
		c.open[id] = n - 1
	default:
		delete(c.open, id)
	}
}

func (c *calls) unanswered() (n uint64) {
	for _, each := range c.open {
		n += uint64(each)
	}
	return n
}
