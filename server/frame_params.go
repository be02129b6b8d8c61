package server

import (
	"bytes"
	"strings"

	"vault-mcp/tools"
)

// paramsMember takes one member of the params.
func (g *gate) paramsMember(name []byte) error {
	switch string(name) {
	case `"name"`:
		v, err := g.value()
		if err == nil && isString(v) && len(v) <= maxNameLength+2 {
			g.name = v
		}
		g.params.name = g.name == nil
		return err
	case `"arguments"`:
		g.params.arguments = g.dec.PeekKind() != '{'
		return g.keep(&g.prompt.arguments)
	case `"ref"`:
		return g.keep(&g.prompt.ref)
	case `"argument"`:
		return g.keep(&g.prompt.argument)
	case `"context"`:
		return g.keep(&g.prompt.context)
	case `"inputResponses"`:
		g.params.responses = g.dec.PeekKind() != '{'
		return g.dec.SkipValue()
	case `"requestState"`:
		g.params.state = g.dec.PeekKind() != '"'
		return g.dec.SkipValue()
	case `"uri"`:
		v, err := g.value()
		g.uri = err == nil && isURI(v)
		return err
	case `"cursor"`:
		v, err := g.value()
		g.params.cursor = err == nil && (!isString(v) || len(v) > tools.MaxCursor+2)
		return err
	case `"notifications"`:
		return g.notifications()
	case `"_meta"`:
		if g.dec.PeekKind() == '{' {
			return g.object(g.metaMember)
		}
		g.params.meta = true
		return g.dec.SkipValue()
	}
	g.params.lookalike = g.params.lookalike || isLookalike(name)
	return g.dec.SkipValue()
}

func (g *gate) metaMember(name []byte) error {
	if string(name) == `"io.modelcontextprotocol/protocolVersion"` {
		g.frame.Modern = true
	}
	return g.dec.SkipValue()
}

// countingMembers are the members of params that count with some method.
var countingMembers = []string{"name", "arguments", "uri", "cursor", "ref", "argument", "context", "notifications", "_meta", "inputResponses", "requestState"}

// isLookalike reports whether a name of the params is one of those that count, in
// another case or written with an escape.
func isLookalike(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') >= 0 {
		return true
	}
	name := string(raw[1 : len(raw)-1])
	for _, known := range countingMembers {
		if strings.EqualFold(name, known) {
			return true
		}
	}
	return false
}

// concludeResource judges the params of a method of resources.
func (g *gate) concludeResource(m method) {
	switch {
	case m.older && g.frame.Modern: // see checkMethod
	case g.params.lookalike:
		g.fail(codeInvalidParams, msgLookalike)
	case m.takes == aCursor && g.params.cursor:
		g.fail(codeInvalidParams, "params.cursor must be a string, and not too long")
	case m.takes == aURI && !g.uri:
		g.fail(codeInvalidParams, "params.uri must be a string, and not too long")
	case g.params.responses, g.params.state:
		g.fail(codeInvalidParams, msgResponses)
	}
}
