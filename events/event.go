// Package events is the change feed: what happened, told to those who may know.
//
// A Bus takes events in Publish, which never waits, and gives each to the
// subscriptions whose part of the tree it falls into. It keeps the last events,
// within bounds of count, size and age, for subscribers that come back: a place in
// the feed is a Position, and travels through clients as an id that only its
// principal's keys make and read (IDs), so that nobody learns from one how much
// others do.
//
// Nothing is lost without notice. A subscription whose queue is full, one that
// asks for what is no longer kept, one to which a change that nobody knows the
// outcome of would have been told, and everyone when the feed itself may have
// missed something, gets a gap in place of the events: what changed meanwhile, it
// has to find out by looking.
//
// The package knows paths, not principals: who may see what is decided by those
// who subscribe, and an event holds no value of a secret.
package events

import (
	"strings"
	"time"
)

// Type is what kind of thing happened.
type Type string

// The types of events, see Event.
const (
	ResourceChanged Type = "resource.changed" // Vault accepted a change of a secret
	ToolCompleted   Type = "tool.completed"   // a call of a tool ended
)

// Types are all of them.
func Types() []Type { return []Type{ResourceChanged, ToolCompleted} }

// Event is one thing that happened. It is not changed once it was published.
type Event struct {
	At      Position  `json:"-"`                // where it stands in the feed; the Bus says
	Type    Type      `json:"type"`             //
	Path    string    `json:"path"`             // what it is about: a secret's whole path below the KV mount, at or below the Owner; for ToolCompleted the Owner
	Owner   string    `json:"owner"`            // path prefix of the principal who did it
	Subject string    `json:"subject"`          // slug of the principal who did it
	Tool    string    `json:"tool"`             // dotted name
	Version int       `json:"version,omitzero"` // of the secret, where one version is meant; else 0
	OK      bool      `json:"ok,omitzero"`      // of ToolCompleted: it was served
	Time    time.Time `json:"time"`             //

	doubt bool // it is not known that it happened: a gap in its place, see Bus.Doubt
}

// size is about what an event takes in memory, in bytes.
func (e *Event) size() int {
	return 240 + len(e.Path) + len(e.Owner) + len(e.Subject) + len(e.Tool)
}

// Contains reports whether a path is at or below another, by whole segments.
func Contains(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// ancestors calls f with a path and everything above it, until f says no.
func ancestors(path string, f func(string) bool) {
	for f(path) {
		end := strings.LastIndexByte(path, '/')
		if end < 0 {
			return
		}
		path = path[:end]
	}
}
