package tools

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
	checker "github.com/santhosh-tekuri/jsonschema/v6"

	"vault-mcp/secret"
)

var (
	textType  = reflect.TypeFor[secret.Text]()
	jsonType  = reflect.TypeFor[secret.JSON]()
	wrapIn    = reflect.TypeFor[WrapTTL]()
	wrapOut   = reflect.TypeFor[Wrapped]()
	emptyJSON = json.RawMessage(`{}`)
)

// inputType is what Define knows of a tool's arguments.
type inputType struct {
	typ      reflect.Type
	raw      json.RawMessage
	compiled *checker.Schema
	known    []string                   // argument names in order of declaration
	opaque   map[string]bool            // arguments that are a caller's own JSON object
	defaults map[string]json.RawMessage // arguments that have a default
	holes    map[string][]int           // hole name → field index
	pointers map[string]string          // hole name → JSON pointer of the argument
	wraps    bool
}

// outputType is what Define knows of a tool's result.
type outputType struct {
	typ     reflect.Type
	raw     json.RawMessage
	secrets [][]int // indexes of the fields that are secret
	wraps   bool
}

func newInputType(tool string, typ reflect.Type) *inputType {
	schema := reflectSchema(typ)
	in := &inputType{
		typ: typ, raw: encodeSchema(schema),
		opaque:   make(map[string]bool),
		defaults: make(map[string]json.RawMessage),
		holes:    make(map[string][]int),
		pointers: make(map[string]string),
	}
	in.compiled = compileSchema(tool, in.raw)
	for name, property := range schema.Properties.FromOldest() {
		in.known = append(in.known, name)
		if property.Default != nil {
			in.defaults[name], _ = json.Marshal(property.Default)
		}
	}
	for _, field := range reflect.VisibleFields(typ) {
		if field.Type == wrapIn {
			in.wraps = true
		}
		name := jsonName(field)
		if name == "" {
			continue
		}
		mustDeclare(tool, field.Tag.Get("doc") != "", "wants a doc tag on "+name)
		if field.Type == jsonType {
			in.opaque[name] = true
		}
		if field.Type.Kind() == reflect.String {
			hole := field.Tag.Get("hole")
			if hole == "" {
				hole = name
			}
			in.holes[hole], in.pointers[hole] = field.Index, "/"+name
		}
	}
	return in
}

func newOutputType(tool string, typ reflect.Type) *outputType {
	schema := reflectSchema(typ)
	out := &outputType{typ: typ, raw: encodeSchema(schema)}
	for _, field := range reflect.VisibleFields(typ) {
		if field.Type == wrapOut {
			out.wraps = true
		}
		name := jsonName(field)
		if name == "" {
			continue
		}
		mustDeclare(tool, field.Tag.Get("doc") != "", "wants a doc tag on "+name)
		if field.Type == textType || field.Type == jsonType {
			out.secrets = append(out.secrets, field.Index)
		}
	}
	if out.wraps {
		for _, index := range out.secrets {
			name := jsonName(typ.FieldByIndex(index))
			mustDeclare(tool, !strings.Contains(requiredList(schema), "\x00"+name+"\x00"),
				"wants its secret "+name+" optional, since a wrapped result has none")
		}
	}
	return out
}

func requiredList(s *jsonschema.Schema) string {
	return "\x00" + strings.Join(s.Required, "\x00") + "\x00"
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
			case textType:
				return &jsonschema.Schema{Type: "string"}
			case jsonType:
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

func compileSchema(tool string, raw json.RawMessage) *checker.Schema {
	doc, err := checker.UnmarshalJSON(bytes.NewReader(raw))
	mustDeclare(tool, err == nil, "has an unreadable schema")
	c := checker.NewCompiler()
	c.DefaultDraft(checker.Draft2020)
	if err := c.AddResource("arguments", doc); err != nil {
		panic(err)
	}
	return c.MustCompile("arguments")
}
