package tools

import (
	"strconv"
	"strings"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// ResourceUse says how a tool serves MCP resources, if it does. Each use is of
// one tool, see newCatalog.
type ResourceUse string

// The uses.
const (
	ResourceRead     ResourceUse = "read"     // the tool reads one: its input has a path and a version
	ResourceList     ResourceUse = "list"     // the tool lists a folder of them: its input has a prefix
	ResourceDescribe ResourceUse = "describe" // the tool says which versions of one there are: its input has a path
)

// ResourceTemplate is the URI template of resources, RFC 6570.
const ResourceTemplate = "kv://{subject}/{+path}{?version}"

const resourceScheme = "kv://"

// MaxResourceURI bounds a resource's URI, in bytes.
const MaxResourceURI = 1024

// Resource is what a resource's URI names: a secret of a subject, one version of
// it, or a folder. The path is relative to the subject's part of the tree.
type Resource struct {
	Subject string // a slug
	Path    string // without a slash at either end; empty: everything of the subject
	Folder  bool   // the URI ends in a slash
	Version int    // 0: the newest
}

// String is the resource's URI.
func (r Resource) String() string {
	uri := resourceScheme + r.Subject + "/" + r.Path
	switch {
	case r.Folder && r.Path != "":
		uri += "/"
	case r.Version > 0:
		uri += "?version=" + strconv.Itoa(r.Version)
	}
	return uri
}

// ParseResource reads a resource's URI, strictly: what is not one is an error of
// kind Invalid, which says what is wanted.
func ParseResource(uri string) (Resource, error) {
	rest, ok := strings.CutPrefix(uri, resourceScheme)
	subject, path, found := strings.Cut(rest, "/")
	subject = unescapeSubject(subject)
	if !ok || !found || len(uri) > MaxResourceURI || !isSegment(subject) {
		return Resource{}, wantResource()
	}
	r := Resource{Subject: subject}
	path, query, versioned := strings.Cut(path, "?")
	if versioned {
		digits, ok := strings.CutPrefix(query, "version=")
		n, err := strconv.ParseInt(digits, 10, 32)
		if !ok || err != nil || n < 1 || strconv.FormatInt(n, 10) != digits {
			return Resource{}, wantResource()
		}
		r.Version = int(n)
	}
	r.Path, r.Folder = strings.TrimSuffix(path, "/"), path == "" || strings.HasSuffix(path, "/")
	check := vaultx.CheckPath
	if r.Folder {
		check = vaultx.CheckListPrefix
	}
	if check(path) != nil || r.Folder && versioned {
		return Resource{}, wantResource()
	}
	return r, nil
}

// unescapeSubject undoes what expanding the template does to a slug: of its
// characters, it escapes these two.
var unescapeSubject = strings.NewReplacer("%40", "@", "%3D", "=", "%3d", "=").Replace

// isSegment reports whether a text is one part of a path, as every slug is.
func isSegment(s string) bool {
	return vaultx.CheckPath(s) == nil && !strings.Contains(s, "/")
}

func wantResource() *fault.Error {
	return fault.Field("/uri", "must be kv://SUBJECT/PATH, with ?version=N for one version of the secret, or with a slash at the end for a folder; "+
		"the subject is the one that whoami shows, and the path is as in kv.read")
}

// locate finds a resource in a principal's part of the tree: the path relative to
// its prefix. A principal names its own by its own slug, and one whose prefix
// holds those of others names theirs by their slugs, too.
func (r *Runner) locate(p *auth.Principal, res Resource) (relative string, err error) {
	if res.Subject == p.Slug {
		return res.Path, nil
	}
	whole := join(join(r.opt.Prefix, res.Subject), res.Path)
	if r.opt.Prefix == "" || !events.Contains(p.Prefix, whole) {
		return "", notOwn()
	}
	relative = strings.TrimPrefix(strings.TrimPrefix(whole, p.Prefix), "/")
	switch {
	case relative == "" && !res.Folder: // a secret with the name of the caller's prefix is beside it
		return "", notOwn()
	case vaultx.CheckListPrefix(relative) != nil: // the path alone was not too long
		return "", wantResource()
	}
	return relative, nil
}

// resourceAt is the URI of a secret or folder at a whole path, as a principal
// names it that sees it: see locate.
func (r *Runner) resourceAt(p *auth.Principal, whole string) Resource {
	if r.opt.Prefix != "" && events.Contains(p.Prefix, r.opt.Prefix) {
		rest, ok := strings.CutPrefix(whole, r.opt.Prefix+"/")
		subject, path, found := strings.Cut(rest, "/")
		if ok && found && subject != p.Slug && isSegment(subject) {
			return Resource{Subject: subject, Path: path}
		}
	}
	return Resource{Subject: p.Slug, Path: strings.TrimPrefix(strings.TrimPrefix(whole, p.Prefix), "/")}
}

// join joins two paths of which either may be empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "/" + b
}
