package tools

import (
	"vault-mcp/events"
	"vault-mcp/fault"
)

// changed is implemented by results and inputs of tools that change a secret, and
// know which version they made or meant; 0 where it is not one.
type changed interface{ changedVersion() int }

// publishChange tells of a change that Vault has just accepted.
func (r *run) publishChange(in, out any) {
	r.accepted = true
	if !r.changes() {
		return
	}
	e := r.event(events.ResourceChanged)
	e.Path = r.touched
	for _, part := range []any{out, in} {
		if c, ok := part.(changed); ok {
			e.Version = c.changedVersion()
			break
		}
	}
	r.opt.Events.Publish(e)
}

// doubtChange tells those who would have heard of a change that they may have
// missed one, where nobody can say whether Vault accepted it. It tells of no
// change: there may be none.
func (r *run) doubtChange(err error) {
	if err == nil || r.accepted || !r.changes() || outcome(fault.From(err)) != outcomeUnknown {
		return
	}
	r.opt.Events.Doubt(r.call.Principal.Prefix, r.touched)
}

// changes reports whether there are events for what the call does to a secret.
func (r *run) changes() bool {
	return r.opt.Events != nil && r.touched != "" && (r.tool.Effect == Writes || r.tool.Effect == Destroys)
}

// publishCompleted tells that a call ended. A flood of refused calls is not told.
func (r *run) publishCompleted(ok bool) {
	if r.opt.Events == nil || r.tool == nil || r.flood {
		return
	}
	e := r.event(events.ToolCompleted)
	e.Path, e.OK = e.Owner, ok
	r.opt.Events.Publish(e)
}

func (r *run) event(typ events.Type) events.Event {
	p := r.call.Principal
	return events.Event{Type: typ, Owner: p.Prefix, Subject: p.Slug, Tool: r.tool.Name, Time: r.opt.Now()}
}
