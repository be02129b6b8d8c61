package tools

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of what is handed to the schema checker, which has none of its own.
const (
	maxPlainValues = 4096 // in one argument
	maxPlainDepth  = 8
	maxNumber      = 64 // bytes
)

// What plainValue refuses. The texts are for callers.
var (
	errManyValues = errors.New("holds too many values")
	errDeepValue  = errors.New("is nested too deeply")
	errLongNumber = errors.New("is, or holds, a number with too many digits")
	errNotJSON    = errors.New("is not valid JSON")
)

// plainValue turns a value into what the schema checker takes, and into JSON in
// which whole numbers have neither point nor exponent, since Go does not take
// 1.0 for an integer as JSON Schema does.
func plainValue(value jsontext.Value) (any, jsontext.Value, error) {
	if s, ok := simpleString(value); ok {
		return s, value, nil
	}
	p := plainer{dec: jsontext.NewDecoder(bytes.NewBuffer(value)), left: maxPlainValues}
	v, err := p.value(0)
	return v, p.text, err
}

// simpleString is the content of a string without escapes, which most are.
func simpleString(value jsontext.Value) (string, bool) {
	if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
		return "", false
	}
	return string(value[1 : len(value)-1]), true
}

type plainer struct {
	dec  *jsontext.Decoder
	text jsontext.Value
	left int // values that may still come
}

func (p *plainer) value(depth int) (any, error) {
	if p.left--; p.left < 0 {
		return nil, errManyValues
	}
	if depth > maxPlainDepth {
		return nil, errDeepValue
	}
	switch p.dec.PeekKind() {
	case '[':
		return p.list(depth)
	case '{':
		return p.object(depth)
	}
	raw, err := p.dec.ReadValue()
	if err != nil {
		return nil, errNotJSON
	}
	switch raw.Kind() {
	case '0':
		number, ok := wholeNumber(string(raw))
		if !ok {
			return nil, errLongNumber
		}
		p.text = append(p.text, number...)
		return goNumber(number), nil
	case '"':
		p.text = append(p.text, raw...)
		return unquoted(raw)
	}
	p.text = append(p.text, raw...)
	if raw.Kind() == 'n' {
		return nil, nil
	}
	return raw.Kind() == 't', nil
}

func (p *plainer) list(depth int) (any, error) {
	if _, err := p.dec.ReadToken(); err != nil {
		return nil, errNotJSON
	}
	items := []any{}
	p.text = append(p.text, '[')
	for p.dec.PeekKind() != ']' {
		if len(items) > 0 {
			p.text = append(p.text, ',')
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	p.text = append(p.text, ']')
	_, err := p.dec.ReadToken()
	return items, err
}

func (p *plainer) object(depth int) (any, error) {
	if _, err := p.dec.ReadToken(); err != nil {
		return nil, errNotJSON
	}
	members := map[string]any{}
	p.text = append(p.text, '{')
	for p.dec.PeekKind() != '}' {
		if len(members) > 0 {
			p.text = append(p.text, ',')
		}
		raw, err := p.dec.ReadValue()
		if err != nil {
			return nil, errNotJSON
		}
		p.text = append(append(p.text, raw...), ':')
		name, err := unquoted(raw)
		if err != nil {
			return nil, err
		}
		if members[name], err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
	p.text = append(p.text, '}')
	_, err := p.dec.ReadToken()
	return members, err
}

func unquoted(raw jsontext.Value) (string, error) {
	b, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "", errNotJSON
	}
	return string(b), nil
}

// goNumber is a number as the schema checker takes it. It stays whole, or not
// whole, where float64 would make it the other; what is rounded otherwise is
// refused afterwards, by the Go type.
func goNumber(number string) any {
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		return n
	}
	f, _ := strconv.ParseFloat(number, 64)
	whole := !strings.ContainsAny(number, ".eE")
	switch {
	case math.IsInf(f, 0):
		return math.Copysign(math.MaxFloat64, f)
	case !whole && f == math.Trunc(f):
		return f + 0.5
	}
	return f
}

// wholeNumber writes a number that is a whole one without point and exponent.
// It is not ok for one so long, or with such an exponent, that the checker
// would be kept busy.
func wholeNumber(number string) (string, bool) {
	_, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	if len(number) > maxNumber || len(exponent) > len("-300") {
		return "", false
	}
	if !strings.ContainsAny(number, ".eE") && number != "-0" {
		return number, true
	}
	r, ok := new(big.Rat).SetString(number)
	if ok && r.IsInt() {
		return r.Num().String(), true
	}
	return number, ok
}
