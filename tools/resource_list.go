package tools

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// Bounds of one page of ListResources.
const (
	pageResources = 100
	pageLists     = 8 // folders that are listed for it, each of them a call
)

// MaxCursor bounds a cursor of ListResources, in bytes. The longest that is given
// is shorter.
const MaxCursor = 1024

// ResourcePage is a part of the list of a principal's resources.
type ResourcePage struct {
	Resources []ListedResource
	Next      string // cursor of what follows; empty: nothing does
}

// ListedResource is a secret in a ResourcePage.
type ListedResource struct {
	URI  string
	Path string // relative to the principal's prefix
}

// ListResources lists the secrets of a call's principal, a page at a time, by
// their names. It walks the tree depth first, by names in the order of their
// bytes; each folder is a call of the tool that the catalogue declares for that,
// and so counted and recorded. A page may be empty and not be the last. A call
// that is refused or fails ends the page there; the error is returned where it was
// the first one of the page.
//
// Who may not call that tool has an empty list: clients ask for it when they start,
// whether anybody wants it or not. Names that no path can have are left out, since
// nothing could read them.
func (r *Runner) ListResources(ctx context.Context, c Call, cursor string) (ResourcePage, error) {
	lister := r.catalog.resources[ResourceList]
	if c.RequestID == "" {
		c.RequestID = NewRequestID()
	}
	if c.Principal.Valid(r.opt.Now()) && (lister == nil || r.access.Permit(lister, c.Principal) != nil) {
		return ResourcePage{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.opt.CallTimeout) // of all the calls
	defer cancel()
	w := &walk{Runner: r, call: c}
	w.call.Tool = r.catalog.serving(ResourceList)
	start, wrong := parsePlace(cursor)
	w.call.makeArgs = func(*auth.Principal) (json.RawMessage, error) {
		if wrong != nil {
			return nil, wrong
		}
		return listArguments(w.at.folder), nil
	}
	if wrong != nil { // so that the record has a digest of it
		w.call.Args = json.RawMessage(cursor)
	}
	if err := w.walk(ctx, start); err != nil {
		return ResourcePage{}, err
	}
	return w.page, nil
}

// place is where a walk goes on: in a folder, after a name.
type place struct {
	folder string // without a slash at the end; empty: the root
	after  string // a folder's ends with a slash; empty: from the first
}

// cursor is a place as it travels through clients. It says nothing but what its
// client has seen, and what it makes of it can only be another place in the same
// principal's tree.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.folder + "\n" + p.after))
}

func parsePlace(cursor string) (p place, err error) {
	if cursor == "" {
		return place{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	folder, after, _ := strings.Cut(string(text), "\n")
	p = place{folder: folder, after: after}
	switch {
	case len(cursor) > MaxCursor, err != nil, p.cursor() != cursor,
		folder != "" && vaultx.CheckPath(folder) != nil,
		after != "" && !isEntry(after):
		return place{}, fault.Field("/cursor", "must be one that this server gave with the page before")
	}
	return p, nil
}

// isEntry reports whether a name in a folder is that of a secret, or, with a slash
// at its end, of a folder.
func isEntry(name string) bool { return isSegment(strings.TrimSuffix(name, "/")) }

// above is the place after a folder, in the one that holds it.
func above(folder string) place {
	i := strings.LastIndexByte(folder, '/')
	return place{folder: folder[:max(i, 0)], after: folder[i+1:] + "/"}
}

// walk is the making of a page.
type walk struct {
	*Runner
	call   Call
	page   ResourcePage
	levels []level // the folders that were listed and are not done, outermost first
	lists  int
	at     place // what is being listed
}

// level is a folder that was listed.
type level struct {
	folder string
	names  []string // what is left of it
	after  string   // the last that was taken
}

// walk makes the page from a place on.
func (w *walk) walk(ctx context.Context, start place) error {
	if err := w.enter(ctx, start); err != nil {
		return err
	}
	for w.page.Next == "" && len(w.levels) > 0 {
		here := &w.levels[len(w.levels)-1]
		if len(here.names) == 0 {
			folder := here.folder
			w.levels = w.levels[:len(w.levels)-1]
			if len(w.levels) == 0 && folder != "" { // a page before listed what is above
				w.enterLater(ctx, above(folder))
			}
			continue
		}
		name := here.names[0]
		path := join(here.folder, strings.TrimSuffix(name, "/"))
		switch {
		case strings.HasSuffix(name, "/"):
			here.names, here.after = here.names[1:], name
			w.enterLater(ctx, place{folder: path})
		case len(w.page.Resources) == pageResources:
			w.page.Next = place{folder: here.folder, after: here.after}.cursor()
		default:
			here.names, here.after = here.names[1:], name
			p := w.call.Principal
			w.page.Resources = append(w.page.Resources, ListedResource{URI: w.resourceAt(p, join(p.Prefix, path)).String(), Path: path})
		}
	}
	return nil
}

// enterLater is enter where the page has room for it; else, or where it fails, the
// next page begins with it.
func (w *walk) enterLater(ctx context.Context, at place) {
	full := w.lists == pageLists || len(w.page.Resources) == pageResources
	if full || w.enter(ctx, at) != nil {
		w.page.Next = at.cursor()
	}
}

// enter lists a folder, from a place on.
func (w *walk) enter(ctx context.Context, at place) error {
	w.at = at
	res, err := w.Run(ctx, w.call)
	if err != nil {
		return err
	}
	w.lists++
	var out struct {
		Keys []string `json:"keys"`
	}
	if err := jsonv2.Unmarshal(res.JSON, &out); err != nil {
		return fault.New(fault.Internal, fault.MsgInternal)
	}
	names := slices.DeleteFunc(out.Keys, func(name string) bool {
		return name <= at.after || !isEntry(name) || vaultx.CheckPath(join(at.folder, strings.TrimSuffix(name, "/"))) != nil
	})
	slices.Sort(names)
	w.levels = append(w.levels, level{folder: at.folder, names: names, after: at.after})
	return nil
}
