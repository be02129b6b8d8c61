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
		return g.dec.SkipValue()
	case `"inputResponses"`:
		g.params.responses = g.dec.PeekKind() != '{'
		return g.dec.SkipValue()
	case `"requestState"`:
		g.params.state = g.dec.PeekKind() != '"'
		return g.dec.SkipValue()
	case `"uri"`:
		v, err := g.value()
		g.uri = err == nil && isString(v) && len(v) <= tools.MaxResourceURI+2
		return err
	case `"cursor"`:
		v, err := g.value()
		g.params.cursor = err == nil && (!isString(v) || len(v) > tools.MaxCursor+2)
		return err
	case `"_meta"`:
		if g.dec.PeekKind() == '{' {
			return g.object(g.metaMember)
		}
		g.params.meta = true
		return g.dec.SkipValue()
	}
	g.params.lookalike = g.params.lookalike || isLookalike(name, callMembers)
	g.params.resourceLookalike = g.params.resourceLookalike || isLookalike(name, resourceMembers)
	return g.dec.SkipValue()
}

func (g *gate) metaMember(name []byte) error {
	if string(name) == `"io.modelcontextprotocol/protocolVersion"` {
		g.frame.Modern = true
	}
	return g.dec.SkipValue()
}

// The members of params that count, by the methods that have them.
var (
	callMembers     = []string{"name", "arguments", "_meta", "inputResponses", "requestState"}
	resourceMembers = []string{"uri", "cursor", "_meta", "inputResponses", "requestState"}
)

// isLookalike reports whether a name of the params is one of those that count, in
// another case or written with an escape.
func isLookalike(raw []byte, members []string) bool {
	if bytes.IndexByte(raw, '\\') >= 0 {
		return true
	}
	name := string(raw[1 : len(raw)-1])
	for _, known := range members {
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
	case g.params.resourceLookalike:
		g.fail(codeInvalidParams, "the params have a member that resembles one of the protocol's")
	case m.takes == aCursor && g.params.cursor:
		g.fail(codeInvalidParams, "params.cursor must be a string, and not too long")
	case m.takes == aURI && !g.uri:
		g.fail(codeInvalidParams, "params.uri must be a string, and not too long")
	case g.params.responses, g.params.state:
		g.fail(codeInvalidParams, "params.inputResponses must be an object, params.requestState a string")
	}
}
