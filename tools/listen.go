package tools

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
)

// MaxListenURIs bounds the URIs of one Listen.
const MaxListenURIs = 100

// Listen is a request to hear of events.
type Listen struct {
	Principal *auth.Principal
	URIs      []string // of resources, or of folders for all below them; empty: all that the principal sees
	Types     []string // of events; empty: with URIs events.ResourceChanged, else all
	Transport string   // as in Call
	Remote    string
	RequestID string
	Later     bool // the permission is asked for a handle, by which it will be asked again
}

// Listening is what a principal was permitted to hear.
type Listening struct {
	runner    *Runner
	principal *auth.Principal
	types     []events.Type
	asked     []heard
}

// heard is one part of the tree that is listened to.
type heard struct {
	text   string // the URI, as it was asked for
	folder bool
	whole  string // path
}

// Listen holds a request against the principal's limit and rights, and records
// it. A secret's changes may be heard by who may read it, and a folder's by who
// may list it; the calls of those whose own a folder holds, by whose tree it is in.
// The error is a *fault.Error.
func (r *Runner) Listen(ctx context.Context, l Listen) (*Listening, error) {
	if l.RequestID == "" {
		l.RequestID = NewRequestID()
	}
	var heard *Listening
	err := r.ask(ctx, asking{
		operation: l.operation(), principal: l.Principal, transport: l.Transport, remote: l.Remote, requestID: l.RequestID,
	}, func() (needs []string, err error) {
		heard, err = r.permitListen(l)
		return heard.needs(), err
	})
	if err != nil {
		return nil, err
	}
	return heard, nil
}

// What stands for the name of a tool in records of Listen.
const (
	listenOperation = "events.listen"
	handleOperation = "events.token"
)

func (l *Listen) operation() string {
	if l.Later {
		return handleOperation
	}
	return listenOperation
}

// permitListen finds what is to be heard, and says whether the principal may. With
// an error it may give what was found so far, for the record.
func (r *Runner) permitListen(l Listen) (heard *Listening, err error) {
	if r.opt.Events == nil {
		return nil, fault.New(fault.Unavailable, "this server has no events")
	}
	heard = &Listening{runner: r, principal: l.Principal}
	if heard.types, err = eventTypes(l); err != nil {
		return nil, err
	}
	if heard.asked, err = r.hear(l.Principal, l.URIs); err != nil {
		return nil, err
	}
	return heard, heard.permit(l.Principal)
}

// eventTypes are the types that are asked for.
func eventTypes(l Listen) (types []events.Type, err error) {
	switch {
	case len(l.Types) > 0:
	case len(l.URIs) > 0:
		return []events.Type{events.ResourceChanged}, nil
	default:
		return events.Types(), nil
	}
	for _, name := range l.Types {
		typ := events.Type(name)
		if !slices.Contains(events.Types(), typ) {
			return nil, fault.Field("/type", "must be "+string(events.ResourceChanged)+" or "+string(events.ToolCompleted))
		}
		if !slices.Contains(types, typ) {
			types = append(types, typ)
		}
	}
	return types, nil
}

// hear finds the parts of the tree that URIs name.
func (r *Runner) hear(p *auth.Principal, uris []string) ([]heard, error) {
	if len(uris) > MaxListenURIs {
		return nil, fault.Field("/uri", "there are more URIs than one request may have, which is "+strconv.Itoa(MaxListenURIs))
	}
	if len(uris) == 0 {
		all := Resource{Subject: p.Slug, Folder: true}
		return []heard{{text: all.String(), folder: true, whole: p.Prefix}}, nil
	}
	asked := make([]heard, 0, len(uris))
	for _, text := range uris {
		res, err := ParseResource(text)
		if err != nil {
			return nil, err
		}
		if res.Version != 0 {
			return nil, fault.Field("/uri", "must name a secret or a folder, without a version: a version does not change")
		}
		relative, err := r.locate(p, res)
		if err != nil {
			return nil, err
		}
		asked = append(asked, heard{text: text, folder: res.Folder, whole: join(p.Prefix, relative)})
	}
	return asked, nil
}

// permit reports whether a principal may hear what is listened to.
func (l *Listening) permit(p *auth.Principal) error {
	if !slices.Contains(l.types, events.ResourceChanged) {
		return nil
	}
	for _, h := range l.asked {
		use := ResourceRead
		if h.folder {
			use = ResourceList
		}
		if err := l.runner.access.Permit(l.runner.catalog.resources[use], p); err != nil {
			return err
		}
	}
	return nil
}

// Permits reports whether it is still permitted, to the principal that the same
// credential gives now.
func (l *Listening) Permits(p *auth.Principal) bool {
	return p.Valid(l.runner.opt.Now()) && p.ID() == l.principal.ID() && p.Prefix == l.principal.Prefix && l.permit(p) == nil
}

// needs are what a record says of it.
func (l *Listening) needs() (list []string) {
	if l == nil {
		return nil
	}
	for _, h := range l.asked {
		path := h.whole
		if h.folder {
			path += "/"
		}
		list = append(list, "listen "+path)
	}
	return list
}

// Interest is what a subscription to a Bus wants for it.
func (l *Listening) Interest() events.Interest {
	in := events.Interest{Types: l.types, Match: func(e *events.Event) bool {
		if e.Type == events.ToolCompleted { // it is about a principal, whose own a folder may hold
			return slices.ContainsFunc(l.asked, func(h heard) bool { return h.folder && events.Contains(h.whole, e.Path) })
		}
		return l.covers(e.Path)
	}}
	for _, h := range l.asked {
		in.Roots = append(in.Roots, h.whole)
	}
	slices.Sort(in.Roots)
	in.Roots = slices.Compact(in.Roots)
	return in
}

func (l *Listening) covers(whole string) bool {
	return slices.ContainsFunc(l.asked, func(h heard) bool { return h.covers(whole) })
}

func (h heard) covers(whole string) bool {
	if h.folder {
		return strings.HasPrefix(whole, h.whole+"/")
	}
	return whole == h.whole
}

// Asked are the URIs that were asked for.
func (l *Listening) Asked() []string {
	uris := make([]string, len(l.asked))
	for i, h := range l.asked {
		uris[i] = h.text
	}
	return uris
}

// URIs are the URIs of what changed, by an event of type ResourceChanged, spelled
// as they were asked for: one for each that was and that covers it.
func (l *Listening) URIs(e *events.Event) (uris []string) {
	for _, h := range l.asked {
		if !h.covers(e.Path) {
			continue
		}
		uri := h.text
		if h.folder {
			uri += strings.TrimPrefix(e.Path, h.whole+"/")
		}
		if !slices.Contains(uris, uri) {
			uris = append(uris, uri)
		}
	}
	return uris
}

// Gives reports whether a URI is one that URIs or Asked may give.
func (l *Listening) Gives(uri string) bool {
	return slices.ContainsFunc(l.asked, func(h heard) bool {
		return uri == h.text || h.folder && strings.HasPrefix(uri, h.text)
	})
}

// With is both together, of one principal; it is not ok where they are of two.
func (l *Listening) With(more *Listening) (both *Listening, ok bool) {
	if more.principal.ID() != l.principal.ID() || more.principal.Prefix != l.principal.Prefix {
		return nil, false
	}
	both = &Listening{runner: l.runner, principal: more.principal, types: slices.Clone(l.types), asked: slices.Clone(l.asked)}
	for _, typ := range more.types {
		if !slices.Contains(both.types, typ) {
			both.types = append(both.types, typ)
		}
	}
	for _, h := range more.asked {
		if !slices.Contains(both.asked, h) {
			both.asked = append(both.asked, h)
		}
	}
	return both, true
}

// Without is what remains without a URI that was asked for; nil for nothing.
func (l *Listening) Without(uri string) *Listening {
	rest := *l
	rest.asked = slices.DeleteFunc(slices.Clone(l.asked), func(h heard) bool { return h.text == uri })
	if len(rest.asked) == 0 {
		return nil
	}
	return &rest
}
