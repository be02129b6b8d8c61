package tools

import (
	"vault-mcp/events"
)

// changed is implemented by results and inputs of tools that change a secret, and
// know which version they made or meant; 0 where it is not one.
type changed interface{ changedVersion() int }

// publishChange tells of a change that Vault has just accepted.
func (r *run) publishChange(in, out any) {
	if r.opt.Events == nil || r.touched == "" || r.tool.Effect != Writes && r.tool.Effect != Destroys {
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
