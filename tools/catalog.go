// Package tools is the catalogue of operations and the pipeline that runs them.
//
// A tool is a value, declared once with Define in its engine's file: its name,
// words, scope, effect, needs, REST route, typed input and output, and a
// handler of a few lines. Runner.Run runs every tool, whatever surface the
// call came from; its comment lists the stages. Surfaces (MCP, REST, documents,
// policies) loop over the catalogue and hold no tool's name and no rule.
//
// A new tool is one declaration in its engine's file and one row in the
// conformance table. It needs: argument and result types whose `json`, `doc`
// and `jsonschema` tags become the schemas; secret.Text or secret.JSON for
// every result field that is a secret, so that wrapping and redaction find it
// (secret.Content where an empty one is there all the same).
package tools

import (
	"fmt"
	"slices"

	"vault-mcp/fault"
)

// Catalog is the set of tools of a server.
type Catalog struct {
	tools  []*Tool
	byName map[string]*Tool // both spellings

	resources map[ResourceUse]*Tool // the one that serves each use
	prompts   []*Prompt
}

// NewCatalog is the whole catalogue.
func NewCatalog() *Catalog {
	c := newCatalog(kvTools(), transitTools(), dbTools(), sshTools(), kmsTools(), whoamiTools())
	c.definePrompts(rotateSecret(), requestDatabaseAccess(), signArtifact())
	return c
}

func newCatalog(groups ...[]*Tool) *Catalog {
	c := &Catalog{byName: make(map[string]*Tool), resources: make(map[ResourceUse]*Tool)}
	for _, group := range groups {
		for _, t := range group {
			for _, name := range []string{t.Name, t.Underscored()} {
				if other := c.byName[name]; other != nil && other != t {
					panic(fmt.Sprintf("tools: %s and %s share a name", other.Name, t.Name))
				}
				c.byName[name] = t
			}
			if t.Resource != "" {
				mustDeclare(t.Name, c.resources[t.Resource] == nil, "serves resources in the same way as another")
				c.resources[t.Resource] = t
			}
			c.tools = append(c.tools, t)
		}
	}
	return c
}

// Tools lists the catalogue in the order of declaration. The slice is shared.
func (c *Catalog) Tools() []*Tool { return c.tools }

// Lookup finds a tool by its dotted or underscored name.
func (c *Catalog) Lookup(name string) (*Tool, bool) {
	t, ok := c.byName[name]
	return t, ok
}

// Match returns the tools that an entry of a configured list means: a tool's
// name in either spelling, an engine's, or a toolset's.
func (c *Catalog) Match(entry string) []*Tool {
	return slices.DeleteFunc(slices.Clone(c.tools), func(t *Tool) bool { return !t.meant(entry) })
}

// On lists the tools that are not switched off.
func (c *Catalog) On(off map[*Tool]*fault.Error) []*Tool {
	return slices.DeleteFunc(slices.Clone(c.tools), func(t *Tool) bool { return off[t] != nil })
}

// Names lists the dotted names of tools.
func Names(ts []*Tool) []string {
	names := make([]string, len(ts))
	for i, t := range ts {
		names[i] = t.Name
	}
	slices.Sort(names)
	return names
}
