package events

// PublishAtOnce publishes events with nothing given out in between.
func (b *Bus) PublishAtOnce(all ...Event) {
	b.inbox.Lock()
	room := min(len(all), b.opt.MaxWaiting-len(b.inbox.waiting))
	b.inbox.waiting = append(b.inbox.waiting, all[:room]...)
	b.inbox.missed = b.inbox.missed || room < len(all)
	b.inbox.Unlock()
	b.wake <- struct{}{}
}

// Known counts what the history has: events, topics, and paths above owners.
func (b *Bus) Known() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.history.order.Len() + len(b.history.topics) + len(b.history.below)
}
