package tools

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// toolsets are groups of tools with a name, by which configuration and rules
// offer them. A tool without needs is in each: to ask who one is takes nothing.
var toolsets = map[string]func(t *Tool) bool{
	"kv":          ofEngines("kv"),
	"transit":     ofEngines("transit"),
	"db":          ofEngines("db"),
	"ssh":         ofEngines("ssh"),
	"kms":         ofEngines("kms"),
	"read":        func(t *Tool) bool { return t.Effect == Reads },
	"crypto":      ofEngines("transit", "kms"),
	"credentials": ofEngines("db", "ssh"),
}

func ofEngines(names ...string) func(*Tool) bool {
	return func(t *Tool) bool { return slices.Contains(names, t.Engine) }
}

// IsToolset reports whether there is a toolset of this name.
func IsToolset(name string) bool { return toolsets[name] != nil }

// IsTool reports whether an entry of a configured list names a tool or an engine.
func (c *Catalog) IsTool(entry string) bool {
	return slices.ContainsFunc(c.tools, func(t *Tool) bool { return t.named(entry) })
}

// named reports whether an entry is the name of the tool, in either spelling, or
// of its engine.
func (t *Tool) named(entry string) bool {
	return entry == t.Name || entry == t.Underscored() || strings.TrimSuffix(entry, ".*") == t.Engine
}

// in reports whether the tool is in a toolset.
func (t *Tool) in(set string) bool {
	has := toolsets[set]
	return has != nil && (len(t.Needs) == 0 || has(t))
}

// meant reports whether an entry of a list of what is left out means the tool. A
// toolset means no tool that is in each.
func (t *Tool) meant(entry string) bool {
	return t.named(entry) || len(t.Needs) > 0 && t.in(entry)
}

// Offer is what configuration says of the tools of a server.
type Offer struct {
	ReadOnly bool     // only tools of effect read
	Sets     []string // only tools in these toolsets; empty: all
	Exclude  []string // tools, engines and toolsets that are switched off
}

// Off says which tools an offer leaves out, and what their callers are told. The
// error joins every entry that means nothing.
func (c *Catalog) Off(offer Offer) (map[*Tool]*fault.Error, error) {
	var wrong []error
	for i, set := range offer.Sets {
		if !IsToolset(set) {
			wrong = append(wrong, fmt.Errorf("TOOLSETS: entry %d is no toolset", i+1))
		}
	}
	for i, entry := range offer.Exclude {
		if len(c.Match(entry)) == 0 {
			wrong = append(wrong, fmt.Errorf("TOOLS_EXCLUDE: entry %d names no tool and no engine", i+1))
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	off := make(map[*Tool]*fault.Error)
	for _, t := range c.tools {
		switch {
		case slices.ContainsFunc(offer.Exclude, t.meant),
			len(offer.Sets) > 0 && !slices.ContainsFunc(offer.Sets, t.in):
			off[t] = fault.New(fault.Forbidden, "this tool is switched off on this server")
		case offer.ReadOnly && t.Effect != Reads:
			off[t] = fault.New(fault.Forbidden, "this server is read-only")
		}
	}
	return off, nil
}

// Access says which tools there are for whom. It holds no arguments against
// anything: that is for the call.
type Access struct{ off map[*Tool]*fault.Error }

// NewAccess is the access to a catalogue of which a part is offered; without AWS
// KMS its tools are off as well.
func NewAccess(c *Catalog, offer Offer, kms bool) (*Access, error) {
	off, err := c.Off(offer)
	if err != nil {
		return nil, err
	}
	for _, t := range c.Tools() {
		if !kms && t.UsesKMS() {
			off[t] = fault.New(fault.Unavailable, "AWS KMS is not enabled on this server")
		}
	}
	return &Access{off}, nil
}

// Permit says whether a principal may call a tool at all, and if not, what it is
// told: a *fault.Error.
func (a *Access) Permit(t *Tool, p *auth.Principal) error {
	switch off := a.off[t]; {
	case off != nil:
		return off
	case !t.within(p.Tools):
		return fault.New(fault.Forbidden, "this principal is not given this tool")
	case t.Scope != "" && !p.Scopes.Allow(t.Engine, t.Scope):
		lacks := fault.Newf(fault.Forbidden, "this needs the scope %s or %s:%s", t.Scope, t.Engine, t.Scope).
			With(detailScope, string(t.Scope))
		// A key has the scopes that it has; a token is issued anew.
		if p.Method == auth.MethodJWT && p.Ceiling.Allow(t.Engine, t.Scope) {
			lacks = lacks.With(detailStepUp, true)
		}
		return lacks
	}
	return nil
}

// within reports whether a principal's filter leaves the tool.
func (t *Tool) within(f auth.ToolFilter) bool {
	only := len(f.Only) == 0 || slices.ContainsFunc(f.Only, func(entry string) bool { return t.named(entry) || t.in(entry) })
	return only && !slices.ContainsFunc(f.Except, t.meant)
}

// Details of a call that was refused for want of a scope.
const (
	detailScope  = "scope"   // the one that it needs
	detailStepUp = "step_up" // whether a token of the same principal may have it
)

// StepUp says which scope a caller's token would have to have for a call that
// was refused with this error, where its principal may have such a token.
func StepUp(err error) (scope auth.Scope, ok bool) {
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.Forbidden || f.Details[detailStepUp] != true {
		return "", false
	}
	name, ok := f.Details[detailScope].(string)
	return auth.Scope(name), ok
}
