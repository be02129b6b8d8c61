// Package vaultx is a Vault client that reaches only validated paths.
//
// A Path is made by expanding a Template such as
//
//	{kv}/data/{prefix}/{path...}
//
// and by nothing else. Every segment that fills a hole is held against an
// allow-list; what does not fit is refused, never repaired. So whatever goes
// in, what comes out stays below the template's literal parts: the stock
// client, which joins paths and so resolves "..", never sees a caller's text.
//
// An Operation is a method on a Path. Client.Bind gives a Bound, which does
// that operation and has no parameter for another; beneath it a RoundTripper
// pins scheme, host, method, escaped path, query and token (guard.go). Vault's
// policies are a second line, not the first.
//
// Foreign errors are classified once, in errors.go. Only what both Vault and
// OpenBao return is relied on.
package vaultx

import (
	"net/url"
	"strings"

	"vault-mcp/fault"
)

// Limits of the grammar of paths.
const (
	maxPathBytes    = 512
	maxSegments     = 32
	maxSegmentBytes = 128
)

// Hole is a place in a template that is filled for each call: with one segment,
// or with one or more.
type Hole struct {
	Name  string
	Multi bool
}

// part is a literal or a hole.
type part struct {
	literal string
	hole    *Hole
}

// Template is a path with holes. One string has four uses: it is expanded at
// run time, rendered into policies, shown in documents, and used as it stands
// as a name for metrics and spans.
type Template struct {
	text  string
	parts []part
}

// parseTemplate reads a template: segments joined by slashes, each a literal,
// {name} for one segment, or {name...} for one or more. The holes {prefix} and
// those for mounts, which configuration fills, may hold several segments.
func parseTemplate(s string) (Template, error) {
	t := Template{text: s}
	for _, segment := range strings.Split(s, "/") {
		name, isHole := strings.CutPrefix(segment, "{")
		if !isHole {
			if err := checkSegment(segment); err != nil {
				return Template{}, fault.New(fault.Internal, "a template's literal segment is not canonical")
			}
			t.parts = append(t.parts, part{literal: segment})
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		name, multi := strings.CutSuffix(name, "...")
		if !closed || name == "" || strings.ContainsAny(name, "{}.") {
			return Template{}, fault.New(fault.Internal, "a template's hole is not {name} or {name...}")
		}
		t.parts = append(t.parts, part{hole: &Hole{Name: name, Multi: multi}})
	}
	return t, nil
}

// MustTemplate reads the template of a declaration, see parseTemplate; a mistake
// in one panics.
func MustTemplate(s string) Template {
	t, err := parseTemplate(s)
	if err != nil {
		panic("vaultx: template " + s + ": " + err.Error())
	}
	return t
}

// String is the template as it was written.
func (t Template) String() string { return t.text }

// Holes lists the holes in order.
func (t Template) Holes() []Hole {
	var holes []Hole
	for _, p := range t.parts {
		if p.hole != nil {
			holes = append(holes, *p.hole)
		}
	}
	return holes
}

// at reports whether paths of the template begin at an engine's mount.
func (t Template) at(mount string) bool {
	return len(t.parts) > 0 && t.parts[0].hole != nil && t.parts[0].hole.Name == mount
}

// names reports whether the literal after the mount is the given one.
func (t Template) names(operation string) bool {
	return len(t.parts) > 1 && t.parts[1].literal == operation
}

// Render replaces each hole by what f says, unchecked: for policies and
// documents, never for a request.
func (t Template) Render(f func(Hole) string) string {
	out := make([]string, len(t.parts))
	for i, p := range t.parts {
		if out[i] = p.literal; p.hole != nil {
			out[i] = f(*p.hole)
		}
	}
	return strings.Join(out, "/")
}

// Path is a canonical path of Vault's API, without "/v1/". The zero Path is
// refused by the guard.
type Path struct{ decoded, escaped string }

// String is the path, decoded.
func (p Path) String() string { return p.decoded }

// Expand fills every hole. {x...} takes a path by the grammar of CheckPath, {x}
// one name by CheckName, {prefix} and mounts a path.
//
// An error is a *fault.Error whose detail "hole" names the hole: of kind Invalid
// if the hole is the caller's to fill, else Internal.
func (t Template) Expand(values map[string]string) (Path, error) { return t.expand(values, false) }

// expand is Expand; if folder is set, a last part {x...} names a folder, by the
// grammar of CheckListPrefix.
func (t Template) expand(values map[string]string, folder bool) (Path, error) {
	segments := make([]string, 0, 12)
	for i, p := range t.parts {
		if p.hole == nil {
			segments = append(segments, p.literal)
			continue
		}
		value, ok := values[p.hole.Name]
		if !ok {
			return Path{}, fault.New(fault.Internal, "a template's hole was not filled")
		}
		var err error
		switch {
		case IsServerHole(p.hole.Name):
			if CheckPath(value) != nil {
				err = fault.New(fault.Internal, "the server's settings give no valid mount or prefix for this")
			}
		case p.hole.Multi && i == len(t.parts)-1 && folder:
			if err = CheckListPrefix(value); err == nil {
				value = strings.TrimSuffix(value, "/")
			}
		case p.hole.Multi:
			err = CheckPath(value)
		default:
			err = CheckName(value)
		}
		if err != nil {
			return Path{}, fault.From(err).With("hole", p.hole.Name)
		}
		if value != "" {
			segments = append(segments, strings.Split(value, "/")...)
		}
	}
	decoded := strings.Join(segments, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return Path{decoded: decoded, escaped: strings.Join(segments, "/")}, nil
}

// IsServerHole reports whether configuration or the principal fills a hole, and
// not an argument of the call.
func IsServerHole(name string) bool {
	switch name {
	case "prefix", "kv", "transit", "database", "ssh":
		return true
	}
	return false
}

// CheckPath holds a relative path against the grammar: 1 to 32 segments joined
// by single slashes, at most 512 bytes; each segment 1 to 128 of A–Z a–z 0–9
// . _ @ = - and neither "." nor "..". The error says what is wanted.
func CheckPath(s string) error {
	if len(s) > maxPathBytes {
		return fault.Newf(fault.Invalid, "a path has at most %d bytes", maxPathBytes)
	}
	segments := 1
	for rest, more := s, true; more; segments++ {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if segments > maxSegments {
			return fault.Newf(fault.Invalid, "a path has at most %d segments", maxSegments)
		}
		if err := checkSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

// CheckListPrefix is CheckPath for a folder: it may be empty, and may end in
// one slash.
func CheckListPrefix(s string) error {
	if s == "" {
		return nil
	}
	return CheckPath(strings.TrimSuffix(s, "/"))
}

// CheckName holds the name of a key or role against the grammar: 1 to 128 of
// A–Z a–z 0–9 . _ - and neither "." nor "..".
func CheckName(s string) error {
	if err := checkSegment(s); err != nil || strings.ContainsAny(s, "@=") {
		return fault.Newf(fault.Invalid,
			"a name has 1 to %d letters, digits, '.', '_' or '-', and is neither '.' nor '..'", maxSegmentBytes)
	}
	return nil
}

func checkSegment(s string) error {
	ok := s != "" && len(s) <= maxSegmentBytes && s != "." && s != ".."
	for i := 0; ok && i < len(s); i++ {
		ok = segmentByte[s[i]]
	}
	if !ok {
		return fault.Newf(fault.Invalid, "each segment of a path has 1 to %d letters, digits, '.', '_', '@', '=' or '-', "+
			"and is neither '.' nor '..'; segments are joined by single slashes, with none at the ends", maxSegmentBytes)
	}
	return nil
}

// segmentByte is the allow-list of bytes in a segment.
var segmentByte = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@=-") {
		set[c] = true
	}
	return set
}()

// NormalizeMount takes a mount's path from configuration, with or without
// slashes at its ends.
func NormalizeMount(s string) (string, error) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "/"), "/")
	return s, CheckPath(s)
}
