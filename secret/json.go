package secret

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Revealed are the marshalers that show secrets: of a result to its caller, and
// of a request to Vault, and nowhere else.
var Revealed = json.JoinMarshalers(
	json.MarshalToFunc(func(e *jsontext.Encoder, t Text) error { return e.WriteToken(jsontext.String(t.Reveal())) }),
	json.MarshalToFunc(func(e *jsontext.Encoder, c Content) error { return e.WriteToken(jsontext.String(c.Reveal())) }),
	json.MarshalToFunc(func(e *jsontext.Encoder, j JSON) error { return e.WriteValue(j.Reveal()) }),
)

// JSONError is what may be logged of an error of the JSON package: kind and
// place. Its own text may quote values and names.
func JSONError(err error) error {
	var syntax *jsontext.SyntacticError
	var meaning *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON, or a name given twice, at byte %d", syntax.ByteOffset)
	case errors.As(err, &meaning):
		return fmt.Errorf("JSON of kind %q at byte %d and Go type %v do not fit", meaning.JSONKind, meaning.ByteOffset, meaning.GoType)
	}
	return fmt.Errorf("an error of type %T", err)
}
