package tools

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/invopop/jsonschema"

	"vault-mcp/kmsx"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

var (
	textType = reflect.TypeFor[secret.Text]()
	bodyType = reflect.TypeFor[secret.Content]()
	jsonType = reflect.TypeFor[secret.JSON]()
	leaseOut = reflect.TypeFor[Lease]()
	dataType = reflect.TypeFor[vaultx.KVData]()
	wrapIn   = reflect.TypeFor[WrapTTL]()
	wrapOut  = reflect.TypeFor[Wrapped]()
	wrapPtr  = reflect.TypeFor[*Wrap]()
)

// inputType is what Define knows of a tool's arguments.
type inputType struct {
	typ   reflect.Type
	raw   json.RawMessage
	args  []argument      // in order of declaration
	holes map[string]hole // by name
	wraps []int           // index of the embedded WrapTTL, if there is one
}

// argument is one argument of a tool.
type argument struct {
	name     string
	pointer  string             // JSON pointer of it
	doc      string             // its description
	index    []int              // the field that takes it
	rules    func() *rules      // its part of the tool's schema, made when first asked for
	accepts  func(string) error // the grammar that a string must fit, if it has one
	required bool
	opaque   bool           // a caller's own JSON object
	fallback jsontext.Value // its default, where that is not what Go gives anyway
}

// hole is an argument that fills a hole of the same name in a need.
type hole struct {
	index   []int
	pointer string
}

// outputType is what Define knows of a tool's result.
type outputType struct {
	typ     reflect.Type
	raw     json.RawMessage
	secrets [][]int // indexes of the fields that are secret
	wraps   []int   // index of the embedded Wrapped, if there is one
}

func newInputType(tool string, typ reflect.Type) *inputType {
	schema := reflectSchema(typ)
	in := &inputType{typ: typ, raw: encodeSchema(schema), holes: make(map[string]hole)}
	for _, field := range reflect.VisibleFields(typ) {
		if field.Type == wrapIn {
			in.wraps = field.Index
		}
		name := jsonName(field)
		if name == "" {
			continue
		}
		property, ok := schema.Properties.Get(name)
		mustDeclare(tool, ok, "has a field without a schema: "+name)
		a := argument{
			name: name, pointer: "/" + name, doc: field.Tag.Get("doc"), index: field.Index,
			required: slices.Contains(schema.Required, name), opaque: field.Type == dataType || field.Type == jsonType,
			fallback: fallback(tool, field.Type, property.Default),
		}
		a.rules = sync.OnceValue(func() *rules {
			// Later than the rest, since most calls do with grammars alone and
			// compiling patterns is a good part of a start.
			r, err := newRules(encodeSchema(property), a.doc)
			mustDeclare(tool, err == nil, "cannot check "+name)
			return r
		})
		mustDeclare(tool, a.doc != "", "wants a doc tag on "+name)
		if g := field.Tag.Get("grammar"); g != "" {
			a.accepts = grammars[g].accepts
			mustDeclare(tool, a.accepts != nil && field.Type.Kind() == reflect.String, "has no such grammar: "+g)
		}
		in.args = append(in.args, a)
		if field.Type.Kind() == reflect.String {
			fills := field.Tag.Get("hole")
			if fills == "" {
				fills = name
			}
			in.holes[fills] = hole{field.Index, a.pointer}
		}
	}
	mustDeclare(tool, len(in.args) == schema.Properties.Len(), "has a schema for what is no field")
	return in
}

// grammar is a form of strings that has a function of its own. The pattern is
// published, for clients to know beforehand; the function decides, since it is
// exact, says what is wanted, and costs a fraction.
type grammar struct {
	pattern string
	accepts func(string) error
}

// segment is one segment of a path: anything but "." and "..". Patterns keep to
// what both ECMA-262 and RE2 know, for clients use either, so there is no
// looking ahead; and RE2 does not count to 128 within a count to 32, so the
// length of a segment stands in the description alone.
const segment = `([.]?[.]?[A-Za-z0-9_@=-][A-Za-z0-9._@=-]*|[.][.][.][A-Za-z0-9._@=-]*)`

// grammars by the name that a `grammar` tag gives.
var grammars = map[string]grammar{
	"name":       {`^([.]?[.]?[A-Za-z0-9_-][A-Za-z0-9._-]*|[.][.][.][A-Za-z0-9._-]*)$`, vaultx.CheckName},
	"ciphertext": {`^vault:v[1-9][0-9]{0,9}:[A-Za-z0-9+/]+={0,2}$`, vaultx.CheckCiphertext},
	"kms-key":    {kmsx.KeyIDPattern, kmsx.CheckKeyID},
	"path":       {`^` + segment + `(/` + segment + `){0,31}$`, vaultx.CheckPath},
	"folder":     {`^(` + segment + `(/` + segment + `){0,31}/?)?$`, vaultx.CheckListPrefix},
}

// fallback is a default as JSON; nil where Go's zero value is the same.
func fallback(tool string, typ reflect.Type, value any) jsontext.Value {
	if value == nil {
		return nil
	}
	text, err := json.Marshal(value)
	zero := reflect.New(typ)
	mustDeclare(tool, err == nil && jsonv2.Unmarshal(text, zero.Interface()) == nil, "has a default that is not of its type")
	if zero.Elem().IsZero() {
		return nil
	}
	return text
}

func newOutputType(tool string, typ reflect.Type) *outputType {
	schema := reflectSchema(typ)
	out := &outputType{typ: typ, raw: encodeSchema(schema)}
	for _, field := range reflect.VisibleFields(typ) {
		if field.Type == wrapOut {
			out.wraps = field.Index
		}
		name := jsonName(field)
		if name == "" {
			continue
		}
		mustDeclare(tool, field.Tag.Get("doc") != "", "wants a doc tag on "+name)
		mustDeclare(tool, name != leaseArgument || field.Type == leaseOut, "gives a lease that is no Lease")
		switch {
		case isSecret(field.Type):
			out.secrets = append(out.secrets, field.Index)
		case field.Type != wrapPtr:
			// Wrapping takes whole fields: a secret further down would stay.
			mustDeclare(tool, !holdsSecret(field.Type), "has a secret below the first level, in "+name)
		}
	}
	if out.wraps != nil {
		for _, index := range out.secrets {
			name := jsonName(typ.FieldByIndex(index))
			mustDeclare(tool, !slices.Contains(schema.Required, name),
				"wants its secret "+name+" optional, since a wrapped result has none")
		}
	}
	return out
}

func isSecret(t reflect.Type) bool { return t == textType || t == bodyType || t == jsonType }

// holdsSecret reports whether values of a type can have a secret in them.
func holdsSecret(t reflect.Type) bool {
	if isSecret(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsSecret(t.Elem())
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(t) {
			if holdsSecret(field.Type) {
				return true
			}
		}
	}
	return false
}

// jsonName is the name of a field in JSON, empty for one that has none.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" || f.Anonymous {
		return ""
	}
	return name
}

// reflectSchema makes the schema of a struct: one flat object without
// references, unions or unknown members. Descriptions come from `doc` tags,
// which unlike `jsonschema` ones may contain commas.
func reflectSchema(typ reflect.Type) *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous: true, DoNotReference: true, ExpandedStruct: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch t {
			case textType, leaseOut, bodyType:
				return &jsonschema.Schema{Type: "string"}
			case jsonType, dataType:
				return &jsonschema.Schema{Type: "object"}
			}
			return nil
		},
		LookupComment: func(t reflect.Type, name string) string {
			if name == "" || t.Kind() != reflect.Struct {
				return ""
			}
			field, _ := t.FieldByName(name)
			return field.Tag.Get("doc")
		},
	}
	schema := r.ReflectFromType(typ)
	for _, field := range reflect.VisibleFields(typ) {
		if property, ok := schema.Properties.Get(jsonName(field)); ok && field.Tag.Get("grammar") != "" {
			property.Pattern = grammars[field.Tag.Get("grammar")].pattern
		}
	}
	schema.Version = "" // 2020-12 is MCP's default; clients' mappers stumble over $schema
	return schema
}

func encodeSchema(s *jsonschema.Schema) json.RawMessage {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(buf.Bytes())
}
