package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
)

// maxArguments bounds the arguments of one call, in bytes.
const maxArguments = 2 << 20

// checked is implemented by a pointer to an input that has rules which neither
// a schema nor one argument's type can say. It is asked before anything is
// recorded as attempted, and may keep what it has parsed in fields that are not
// exported, for the handler.
type checked interface{ check() error }

// decode turns raw arguments into the tool's input type: strict JSON (no
// duplicate or unknown member, nothing after the object, valid UTF-8), then
// each argument against its part of the schema, then the Go type, whose own
// decoding may refuse what a schema cannot say, and last the rules across
// arguments. Absent arguments (no bytes, or null in place of the object) are an
// empty object.
//
// A null in place of an optional argument is refused, as the schema says: it
// would have to mean something, and clients differ in what. The error says to
// leave the argument out. A whole number may be written as 1.0 or 1e0, which
// JSON Schema takes for an integer.
//
// No error contains a value, nor a member's name that the schema does not know:
// a caller who puts a secret in the wrong place must not find it in a log.
//
// The second result is the arguments as they came, in order of declaration; it
// is nil where raw is not an object of this tool's arguments.
func (in *inputType) decode(raw json.RawMessage) (any, []jsontext.Value, error) {
	values, err := in.split(raw)
	if err != nil {
		return nil, nil, err
	}
	input := reflect.New(in.typ).Elem()
	for i := range in.args {
		if err := in.args[i].decode(values[i], input); err != nil {
			return nil, values, err
		}
	}
	if c, ok := input.Addr().Interface().(checked); ok {
		if err := c.check(); err != nil {
			return nil, values, err
		}
	}
	return input.Interface(), values, nil
}

// split divides an object into the tool's arguments, which alias raw, refusing
// what strict JSON refuses.
func (in *inputType) split(raw json.RawMessage) ([]jsontext.Value, error) {
	if len(raw) > maxArguments {
		return nil, fault.Newf(fault.Invalid, "the arguments are larger than %d bytes", maxArguments)
	}
	values := make([]jsontext.Value, len(in.args))
	if len(raw) == 0 {
		return values, nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw))
	switch dec.PeekKind() {
	case 'n':
		if _, err := dec.ReadToken(); err != nil {
			return nil, malformed(err)
		}
		return values, ended(dec)
	case '{':
	default:
		return nil, fault.New(fault.Invalid, "the arguments must be one JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	for i := 1; dec.PeekKind() != '}'; i++ {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, malformed(err)
		}
		at := in.place(name)
		value, err := dec.ReadValue()
		if err != nil {
			return nil, malformed(err)
		}
		if at < 0 {
			return nil, fault.Newf(fault.Invalid, "argument %d is not one of this tool's: %s", i, in.takes())
		}
		// The decoder's own slice is good only until it reads on.
		end := dec.InputOffset()
		values[at] = jsontext.Value(raw[end-int64(len(value)) : end : end])
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, malformed(err)
	}
	return values, ended(dec)
}

func ended(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "there is something after the arguments' object")
	}
	return nil
}

// place is the index of the argument of a name, or -1.
func (in *inputType) place(name jsontext.Token) int {
	called := name.String()
	for i := range in.args {
		if in.args[i].name == called {
			return i
		}
	}
	return -1
}

func (in *inputType) takes() string {
	if len(in.args) == 0 {
		return "it takes none"
	}
	names := make([]string, len(in.args))
	for i := range in.args {
		names[i] = in.args[i].name
	}
	return "it takes " + strings.Join(names, ", ")
}

func malformed(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return fault.New(fault.Invalid, "a JSON object in the arguments has the same name twice")
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return fault.Newf(fault.Invalid, "the arguments are not valid JSON (at byte %d)", syntactic.ByteOffset)
	}
	return fault.New(fault.Invalid, "the arguments are not valid JSON")
}

// decode checks one argument and puts it into its field of the input.
func (a *argument) decode(value jsontext.Value, input reflect.Value) error {
	switch {
	case value == nil && a.required:
		return fault.Field(a.pointer, "is required")
	case value == nil && a.fallback == nil:
		return nil
	case value == nil:
		value = a.fallback
	case value.Kind() == 'n' && !a.required:
		return fault.Field(a.pointer, "must not be null; leave it out instead")
	case a.opaque && value.Kind() == '{':
		// A caller's own object: that it is one is all that the schema says, and
		// that it is valid was seen when the arguments were divided.
		if err := input.FieldByIndex(a.index).Addr().Interface().(json.Unmarshaler).UnmarshalJSON(value); err != nil {
			return fault.Field(a.pointer, fault.From(err).Msg)
		}
		return nil
	case a.accepts != nil && value.Kind() == '"':
		return a.decodeText(value, input)
	default:
		plain, text, err := plainValue(value)
		if err != nil {
			return fault.Field(a.pointer, err.Error())
		}
		if err := a.rules().check(a.pointer, plain); err != nil {
			return err
		}
		value = text
	}
	field := input.FieldByIndex(a.index).Addr().Interface()
	if jsonv2.Unmarshal(value, field, jsonv2.RejectUnknownMembers(true)) != nil {
		return fault.Field(a.pointer, "does not have the type that the tool's schema gives")
	}
	return nil
}

// decodeText is decode for a string that has a grammar, which says all that the
// schema says.
func (a *argument) decodeText(value jsontext.Value, input reflect.Value) error {
	text, ok := simpleString(value)
	if !ok {
		var err error
		if text, err = unquoted(value); err != nil {
			return fault.Field(a.pointer, err.Error())
		}
	}
	if err := a.accepts(text); err != nil {
		return fault.Field(a.pointer, fault.From(err).Msg)
	}
	input.FieldByIndex(a.index).SetString(text)
	return nil
}

// decode makes the tool's input.
func (r *run) decode() (in any, err error) {
	if r.call.makeArgs != nil {
		args, err := r.call.makeArgs(r.call.Principal)
		if err != nil {
			return nil, err
		}
		r.call.Args = args
	}
	in, r.values, err = r.tool.input.decode(r.call.Args)
	return in, err
}
