package server

import "runtime"

// takeTurn waits until few other streams are at work. A change wakes all that hear of
// it at once, and a call whose answer is ready would have to wait for each of them to
// have been served. A turn ends before anything is written, which may take long; and
// where one takes long all the same, others do not wait for it.
func (f *feed) takeTurn() {
	f.timer.Reset(feedTurn)
	select {
	case f.feed.turns <- struct{}{}:
		f.holds = true
		runtime.Gosched() // who gets a turn would go before all others
	case <-f.timer.C:
	}
}

func (f *feed) giveTurn() {
	if f.holds {
		f.holds = false
		<-f.feed.turns
	}
}
