package events

// History counts the events that are kept.
func (b *Bus) History() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.history.order.Len()
}

// NewIdle makes a Bus that gives out nothing.
func NewIdle(opt Options) *Bus { return newBus(opt) }
