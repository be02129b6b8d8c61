package tools

import (
	"encoding/json"
	"reflect"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/auth"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// NewCatalogOf is a catalogue of a test's own tools.
func NewCatalogOf(ts ...*Tool) *Catalog { return newCatalog(ts) }

// Decode runs stage 5 alone.
func (t *Tool) Decode(raw json.RawMessage) (any, error) {
	in, _, err := t.input.decode(raw)
	return in, err
}

// EncodeResult is what writes results.
var EncodeResult = encodeResult

// Encode writes a decoded input back.
func Encode(in any) (json.RawMessage, error) {
	return jsonv2.Marshal(in, jsonv2.WithMarshalers(jsonv2.JoinMarshalers(
		jsonv2.MarshalToFunc(func(e *jsontext.Encoder, d vaultx.KVData) error { return e.WriteValue(d.Value().Reveal()) }),
		secret.Revealed,
	)))
}

// MakeRules does at once what the first calls would: it panics on a schema that
// cannot be checked.
func (t *Tool) MakeRules() {
	for i := range t.input.args {
		t.input.args[i].rules()
	}
}

// OutputField is the type of a result's field, by its name in JSON.
func (t *Tool) OutputField(name string) reflect.Type {
	for _, field := range reflect.VisibleFields(t.output.typ) {
		if jsonName(field) == name {
			return field.Type
		}
	}
	return nil
}

// Locate finds what a URI names for a principal: the path relative to its prefix.
func (r *Runner) Locate(p *auth.Principal, uri string) (string, error) {
	res, err := ParseResource(uri)
	if err != nil {
		return "", err
	}
	return r.locate(p, res)
}

// URIAt is how a principal names what is at a whole path.
func (r *Runner) URIAt(p *auth.Principal, whole string) string {
	return r.resourceAt(p, whole).String()
}

// Bounds of a page of resources.
const (
	PageResources = pageResources
	PageLists     = pageLists
)
