package tools

import "encoding/json"

// NewCatalogOf is a catalogue of a test's own tools.
func NewCatalogOf(ts ...*Tool) *Catalog { return newCatalog(ts) }

// Decode runs stage 5 alone.
func (t *Tool) Decode(raw json.RawMessage) (any, error) {
	in, _, err := t.input.decode(raw)
	return in, err
}

// Encode writes a decoded input back.
var Encode = encodeResult

// MakeRules does at once what the first calls would: it panics on a schema that
// cannot be checked.
func (t *Tool) MakeRules() {
	for i := range t.input.args {
		t.input.args[i].rules()
	}
}
