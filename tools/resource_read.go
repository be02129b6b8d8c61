package tools

import (
	"context"
	"encoding/json"

	jsonv2 "github.com/go-json-experiment/json"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
)

// ReadResource reads what a URI names, for the principal of a call: a secret, one
// version of it, or a folder. It is a call of the tool that the catalogue declares
// for that, with arguments that the URI gives; so it is run, counted, recorded and
// refused like one, and a URI that is wrong is told only to who may use the tool.
// The canonical form of the URI is returned as well.
func (r *Runner) ReadResource(ctx context.Context, c Call, uri string) (canonical string, res Result, err error) {
	named, wrong := ParseResource(uri)
	use := ResourceRead
	if named.Folder {
		use = ResourceList
	}
	c.Tool, c.Args = r.catalog.serving(use), json.RawMessage(uri)
	c.makeArgs = func(p *auth.Principal) (json.RawMessage, error) {
		if wrong != nil {
			return nil, wrong
		}
		relative, err := r.locate(p, named)
		if err != nil {
			return nil, err
		}
		if named.Folder {
			return listArguments(relative), nil
		}
		return readArguments(relative, named.Version), nil
	}
	res, err = r.Run(ctx, c)
	return named.String(), res, err
}

// serving is the name of the tool that serves a use; empty where none does.
func (c *Catalog) serving(use ResourceUse) string {
	if t := c.resources[use]; t != nil {
		return t.Name
	}
	return ""
}

// readArguments and listArguments are the inputs of the tools that serve these
// uses, see ResourceUse.
func readArguments(path string, version int) json.RawMessage {
	return encodeArguments(struct {
		Path    string `json:"path"`
		Version int    `json:"version,omitzero"`
	}{path, version})
}

func listArguments(folder string) json.RawMessage {
	return encodeArguments(struct {
		Prefix string `json:"prefix,omitzero"`
	}{folder})
}

func encodeArguments(args any) json.RawMessage {
	b, _ := jsonv2.Marshal(args) // strings of the grammar and numbers always encode
	return b
}

// ResourceHelp is how a principal names resources, in words.
type ResourceHelp struct{ Title, Description string }

// ResourceHelp says how a principal names the resources that it may read; ok is
// false for one that may read none.
func (r *Runner) ResourceHelp(p *auth.Principal) (help ResourceHelp, ok bool) {
	t := r.catalog.resources[ResourceRead]
	if t == nil || !p.Valid(r.opt.Now()) || r.access.Permit(t, p) != nil {
		return ResourceHelp{}, false
	}
	text := "A secret as JSON, as " + t.Name + " gives it. subject is " + p.Slug + " for the caller's own part of the tree"
	if r.opt.Prefix != "" && events.Contains(p.Prefix, r.opt.Prefix) {
		text += ", another's for what is theirs"
	}
	text += "; path is as in " + t.Name + "; version is a number from 1, without it the newest. A path that ends with a slash lists a folder."
	return ResourceHelp{Title: "Secrets of " + p.Slug, Description: text}, true
}

// notOwn is the refusal of a resource in another's part of the tree.
func notOwn() *fault.Error {
	return fault.New(fault.Forbidden, "this resource is not in the caller's part of the tree; "+
		"its own are kv://SUBJECT/… with the subject that whoami shows").With("field", "/uri")
}
