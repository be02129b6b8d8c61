package server

import (
	"vault-mcp/tools"
)

func isURI(v []byte) bool { return isString(v) && len(v) <= tools.MaxResourceURI+2 }

// notifications reads what a subscriptions/listen asks for.
func (g *gate) notifications() error {
	if g.dec.PeekKind() != '{' {
		g.params.notifications = true
		return g.dec.SkipValue()
	}
	return g.object(func(name []byte) error {
		if string(name) == `"resourceSubscriptions"` {
			return g.resourceSubscriptions()
		}
		if kind := g.dec.PeekKind(); kind != 't' && kind != 'f' {
			g.params.notifications = true
		}
		return g.dec.SkipValue()
	})
}

func (g *gate) resourceSubscriptions() error {
	if g.dec.PeekKind() != '[' {
		g.params.notifications = true
		return g.dec.SkipValue()
	}
	if _, err := g.dec.ReadToken(); err != nil {
		return err
	}
	for n := 1; g.dec.PeekKind() != ']'; n++ {
		v, err := g.value()
		if err != nil {
			return err
		}
		if !isURI(v) || n > tools.MaxListenURIs {
			g.params.notifications = true
		}
	}
	_, err := g.dec.ReadToken()
	return err
}
