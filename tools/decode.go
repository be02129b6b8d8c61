package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	checker "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"vault-mcp/fault"
)

// maxArguments bounds the arguments of one call, in bytes.
const maxArguments = 2 << 20

// decode turns raw arguments into the tool's input type: strict JSON (no
// duplicate or unknown member, nothing after the object, valid UTF-8), then
// the schema's bounds, then the defaults, then the Go type. No error of it
// contains a value, nor a member's name that the schema does not know: a caller
// who puts a secret in the wrong place must not find it in a log.
func (in *inputType) decode(raw json.RawMessage) (any, error) {
	if len(raw) > maxArguments {
		return nil, fault.Newf(fault.Invalid, "the arguments are larger than %d bytes", maxArguments)
	}
	if len(raw) == 0 || string(raw) == "null" {
		raw = emptyJSON
	}
	members, err := in.members(raw)
	if err != nil {
		return nil, err
	}
	if err := in.check(members); err != nil {
		return nil, err
	}
	whole, err := in.withDefaults(raw, members)
	if err != nil {
		return nil, err
	}
	target := reflect.New(in.typ)
	if err := jsonv2.Unmarshal(whole, target.Interface(), jsonv2.RejectUnknownMembers(true)); err != nil {
		var semantic *jsonv2.SemanticError
		if errors.As(err, &semantic) && in.isKnownPointer(string(semantic.JSONPointer)) {
			return nil, fault.Field(string(semantic.JSONPointer), "does not have the type that the tool's schema gives")
		}
		return nil, fault.New(fault.Invalid, "the arguments do not have the types that the tool's schema gives")
	}
	return target.Elem().Interface(), nil
}

// withDefaults is raw with the defaults of absent members in it.
func (in *inputType) withDefaults(raw json.RawMessage, members map[string]jsontext.Value) (json.RawMessage, error) {
	added := false
	for name, value := range in.defaults {
		if _, ok := members[name]; !ok {
			members[name] = jsontext.Value(value)
			added = true
		}
	}
	if !added {
		return raw, nil
	}
	whole, err := jsonv2.Marshal(members)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the arguments are not valid JSON")
	}
	return whole, nil
}

// members splits an object into its members, refusing what strict JSON refuses.
func (in *inputType) members(raw json.RawMessage) (map[string]jsontext.Value, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if dec.PeekKind() != '{' {
		return nil, fault.New(fault.Invalid, "the arguments must be one JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	members := make(map[string]jsontext.Value, len(in.known))
	for i := 1; dec.PeekKind() != '}'; i++ {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, malformed(err)
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, malformed(err)
		}
		if !slices.Contains(in.known, name) {
			return nil, fault.Newf(fault.Invalid, "argument %d is not one of this tool's: %s", i, in.takes())
		}
		members[name] = value.Clone()
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "there is something after the arguments' object")
	}
	return members, nil
}

func (in *inputType) takes() string {
	if len(in.known) == 0 {
		return "it takes none"
	}
	return "it takes " + strings.Join(in.known, ", ")
}

func malformed(err error) error {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fault.New(fault.Invalid, "a JSON object in the arguments has the same name twice")
	default:
		var syntactic *jsontext.SyntacticError
		if errors.As(err, &syntactic) {
			return fault.Newf(fault.Invalid, "the arguments are not valid JSON (at byte %d)", syntactic.ByteOffset)
		}
		return fault.New(fault.Invalid, "the arguments are not valid JSON")
	}
}

// check holds the members against the schema. A caller's own object is looked
// at no deeper than that it is one: its inside is not ours.
func (in *inputType) check(members map[string]jsontext.Value) error {
	doc := make(map[string]any, len(members))
	for name, value := range members {
		if in.opaque[name] && value.Kind() == '{' {
			doc[name] = map[string]any{}
			continue
		}
		v, err := checker.UnmarshalJSON(bytes.NewReader(value))
		if err != nil {
			return fault.Field("/"+name, "is not valid JSON")
		}
		doc[name] = v
	}
	err := in.compiled.Validate(doc)
	if err == nil {
		return nil
	}
	var invalid *checker.ValidationError
	if !errors.As(err, &invalid) {
		return fault.Wrap(fault.Internal, "the arguments could not be checked", nil)
	}
	return in.explain(firstCause(invalid))
}

func firstCause(e *checker.ValidationError) *checker.ValidationError {
	for len(e.Causes) > 0 {
		e = e.Causes[0]
	}
	return e
}

// explain renders a schema violation as place and want, without the value.
func (in *inputType) explain(e *checker.ValidationError) error {
	at := pointer(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		return fault.Field("/"+k.Missing[0], "is required")
	case *kind.Type:
		return fault.Field(at, "must be of type "+strings.Join(k.Want, " or "))
	case *kind.Enum:
		words := make([]string, len(k.Want))
		for i, w := range k.Want {
			words[i] = fmt.Sprint(w)
		}
		return fault.Field(at, "must be one of "+strings.Join(words, ", "))
	case *kind.Minimum:
		want, _ := k.Want.Float64()
		return fault.Field(at, "must be at least "+number(want))
	case *kind.Maximum:
		want, _ := k.Want.Float64()
		return fault.Field(at, "must be at most "+number(want))
	case *kind.MinLength:
		return fault.Field(at, fmt.Sprintf("must have at least %d characters", k.Want))
	case *kind.MaxLength:
		return fault.Field(at, fmt.Sprintf("must have at most %d characters", k.Want))
	case *kind.MinItems:
		return fault.Field(at, fmt.Sprintf("must have at least %d items", k.Want))
	case *kind.MaxItems:
		return fault.Field(at, fmt.Sprintf("must have at most %d items", k.Want))
	case *kind.UniqueItems:
		return fault.Field(at, "must not have an item twice")
	case *kind.Pattern:
		return fault.Field(at, "does not have the form that the tool's schema describes")
	default:
		return fault.Field(at, "is not what the tool's schema wants")
	}
}

// pointer names an argument, or an item of a list in one. Any other part of a
// location is a name that the caller made up, and is left out.
func pointer(location []string) string {
	if len(location) == 0 {
		return "/"
	}
	p := "/" + location[0]
	for _, part := range location[1:] {
		if _, err := strconv.ParseUint(part, 10, 32); err != nil {
			break
		}
		p += "/" + part
	}
	return p
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func (in *inputType) isKnownPointer(p string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	return slices.Contains(in.known, name) && !in.opaque[name]
}
