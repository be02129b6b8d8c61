package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// Bounds of one stream of events.
const (
	feedPiece = 16 << 10 // bytes after which what is to be written is, and permission is looked at again

	// feedRest is the least time between two deliveries, and feedRestFor what each
	// open stream adds to it, up to feedRestMost. The first of many changes is told at
	// once, and those that come in a rush after it together, so that the processors
	// are left to calls.
	feedRest     = 20 * time.Millisecond
	feedRestFor  = 10 * time.Microsecond
	feedRestMost = 100 * time.Millisecond

	// feedTurn is how long a stream waits for its turn at most: see takeTurn.
	feedTurn = 250 * time.Millisecond

	// How long clients wait before they connect again, in milliseconds: not all of
	// them at once, when a server has gone.
	retryLeast, retryMost = 1000, 5000
)

// feed is one stream of events. It has no goroutine but its request's, and no
// buffer while it waits.
type feed struct {
	*Server
	a         *answer
	c         *caller
	listening *tools.Listening
	ids       events.IDs
	view      string // names what ids and listening make of an event
	sub       *events.Subscription
	timer     *time.Timer
	missed    string // why, of the next gap

	holds bool // it is its turn

	until   time.Time // when the credential expires; zero: does not
	checked time.Time // when it was last looked at
	sent    time.Time // when something was last written
	told    time.Time // when events last were
}

// ending says why a stream ended; empty while it has not.
type ending string

const (
	endedGone     ending = "the client went away"
	endedShutdown ending = "the server is shutting down"
	endedExpired  ending = "the credential has expired"
	endedSlow     ending = "the client took nothing"
	endedRevoked  ending = "the credential no longer gives the principal that opened the stream"
	endedDenied   ending = "the principal may no longer hear what it listens to"
)

// Why events were missed, as clients are told.
const (
	missedUnknown = "unknown_id" // the client's last id is none of this server's
	missedNotKept = "not_kept"   // what came after it is not kept any more, as far as can be told
	missedLater   = "missed"     // the client was too slow, or the server itself missed events
)

// subscribe begins to listen, after what the client has heard last.
func (f *feed) subscribe(listening *tools.Listening, lastID string) {
	f.listening = listening
	f.ids = events.NewIDs(f.opt.Key, f.c.principal.ID())
	f.view = f.c.principal.ID() + "|" + f.c.principal.Prefix
	interest := listening.Interest()
	if interest.Resume = lastID != ""; interest.Resume {
		var ok bool
		f.missed = missedNotKept
		if interest.After, ok = f.ids.Parse(lastID); !ok { // the feed knows of no such place
			f.missed = missedUnknown
		}
	}
	f.sub = f.opt.Events.Subscribe(interest)
}

// close ends the stream. What it held is free for others.
func (f *feed) close() {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.sub.Close()
	f.leave()
}

func (f *feed) leave() {
	f.feed.streams.leave()
	f.c.seat.release()
}

// run tells of events until one side has enough.
func (f *feed) run(ctx context.Context) {
	f.timer = time.NewTimer(f.opt.Recheck)
	why := f.begin(ctx)
	for why == "" {
		why = f.turn(ctx)
	}
	f.ended(why)
}

// begin sends what comes first: how long to wait before connecting again, what
// was missed, and the place in the feed, so that also who has heard of nothing can
// resume.
func (f *feed) begin(ctx context.Context) ending {
	f.checked = time.Now()
	f.a.Header().Set("Content-Type", "text/event-stream")
	f.a.WriteHeader(http.StatusOK) // sets what else a stream's header has
	b := f.sub.Take()
	retry := retryLeast + rand.IntN(retryMost-retryLeast) //nolint:gosec // nobody gains by guessing it
	why := f.deliver(ctx, []byte("retry: "+strconv.Itoa(retry)+"\n\n"), b)
	f.missed = missedLater
	return why
}

// turn waits until there is something to do, and does it.
func (f *feed) turn(ctx context.Context) ending {
	if rest := f.feed.rest() - time.Since(f.told); rest > 0 {
		if why := f.wait(ctx, rest, nil); why != "" {
			return why
		}
	}
	if why := f.wait(ctx, f.idle(), f.sub.Ready()); why != "" {
		return why
	}
	f.takeTurn()
	defer f.giveTurn()
	if why := f.permitted(ctx); why != "" {
		return why
	}
	b := f.sub.Take()
	switch {
	case b.Gap || len(b.Events) > 0:
		why := f.deliver(ctx, nil, b)
		f.told = time.Now()
		return why
	case time.Since(f.sent) >= f.opt.KeepAlive:
		return f.deliver(ctx, []byte(": keep-alive\n"), b)
	}
	return ""
}

// wait is for so long, or until there is something to take.
func (f *feed) wait(ctx context.Context, long time.Duration, ready <-chan struct{}) ending {
	f.timer.Reset(long)
	select {
	case <-ctx.Done():
		return endedGone
	case <-f.feed.ends:
		return endedShutdown
	case <-ready:
	case <-f.timer.C:
	}
	return ""
}

// idle is how long nothing needs to be done if nothing happens.
func (f *feed) idle() time.Duration {
	next := min(f.opt.Recheck-time.Since(f.checked), f.opt.KeepAlive-time.Since(f.sent))
	if !f.until.IsZero() {
		next = min(next, time.Until(f.until))
	}
	return max(0, next)
}

// permitted looks whether what was shown when the stream was opened still gives
// its principal, and whether that may still hear what it listens to.
func (f *feed) permitted(ctx context.Context) ending {
	f.checked = time.Now()
	if !f.until.IsZero() && !f.checked.Before(f.until) {
		return endedExpired
	}
	p, ok := f.identifyAgain(ctx, f.c)
	switch {
	case ctx.Err() != nil:
		return endedGone
	case !ok:
		return endedRevoked
	case !f.listening.Permits(p):
		return endedDenied
	}
	f.until = p.ExpiresAt
	return ""
}

// pieces are what streams write from.
var pieces = sync.Pool{New: func() any { return new([]byte) }}

// deliver writes a batch, after what comes first. A gap is told before the events
// that came after it, with an id from which they are all had again; a batch without
// either moves the client's place on.
func (f *feed) deliver(ctx context.Context, first []byte, b events.Batch) ending {
	piece := pieces.Get().(*[]byte)
	defer func() {
		if cap(*piece) <= 4*feedPiece {
			pieces.Put(piece)
		}
	}()
	out := (*piece)[:0]
	out = append(out, first...)
	switch {
	case b.Gap:
		out = f.appendResync(out, f.ids.Place(b.GapAt), f.missed)
	case len(b.Events) == 0:
		out = appendEvent(out, f.ids.Place(b.At), "", nil)
	}
	for _, e := range b.Events {
		if len(out) >= feedPiece {
			if why := f.send(ctx, out); why != "" {
				return why
			}
			out = out[:0]
		}
		out = append(out, f.feed.frames.of(e, f.view, func() []byte {
			id := f.ids.Event(e.At)
			return appendEvent(nil, id, string(e.Type), f.listening.Message(e, id))
		})...)
	}
	*piece = out
	return f.send(ctx, out)
}

// resync is what clients are told in place of events.
type resync struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
	Time   string `json:"time"`
}

func (f *feed) appendResync(b []byte, id, reason string) []byte {
	data, _ := jsonv2.Marshal(resync{id, reason, time.Now().UTC().Format(time.RFC3339Nano)}) // strings of ours always encode
	return appendEvent(b, id, "resync", data)
}

// send writes a piece. Before it, permission is looked at if that is due: earlier
// pieces may have taken long.
func (f *feed) send(ctx context.Context, piece []byte) ending {
	f.giveTurn()
	if time.Since(f.checked) >= f.opt.Recheck {
		if why := f.permitted(ctx); why != "" {
			return why
		}
	}
	start := time.Now()
	until := start.Add(f.a.most)
	expires := !f.until.IsZero() && f.until.Before(until)
	if expires {
		until = f.until
	}
	err := f.a.send(piece, until)
	f.sent = time.Now()
	late := errors.Is(err, os.ErrDeadlineExceeded) || !f.sent.Before(until)
	switch {
	case err == nil:
		return ""
	case late && expires:
		return endedExpired
	case late:
		return endedSlow
	case errors.Is(err, http.ErrHandlerTimeout):
		return endedShutdown
	}
	return endedGone
}

// ended tells what an operator may want to know of a stream's end. That rights were
// taken away is recorded as a refusal.
func (f *feed) ended(why ending) {
	f.log.Debug("events: ended", zap.String("request_id", f.c.requestID), zap.String("subject", f.c.principal.Slug), zap.String("detail", string(why)))
	switch why {
	case endedSlow:
		f.cutOffs.add(f.c.remote, f.c.requestID)
	case endedRevoked:
		_ = f.reject(f.c, f.c.principal, fault.New(fault.Unauthenticated, string(why))) // nobody is there to be told
	case endedDenied:
		_ = f.reject(f.c, f.c.principal, fault.New(fault.Forbidden, string(why)))
	case endedGone, endedShutdown, endedExpired: // as streams do
	}
}
