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
