package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/secret"
)

// decode turns a raw value, text from the environment or whatever a file held,
// into the Go value of a setting. Its errors say what is wanted.
func decode(s setting, raw any) (reflect.Value, error) {
	switch s.Kind {
	case KindString:
		text, err := decodeText(raw)
		for _, word := range s.Enum {
			if strings.EqualFold(word, text) {
				return reflect.ValueOf(word), nil
			}
		}
		if s.Enum != nil {
			return reflect.Value{}, errors.New("want one of " + strings.Join(s.Enum, ", "))
		}
		return reflect.ValueOf(text), err
	case KindSecret:
		text, err := decodeSecret(s, raw)
		return reflect.ValueOf(text), err
	case KindBool:
		b, err := decodeBool(raw)
		return reflect.ValueOf(b), err
	case KindInt:
		n, err := decodeInt(s, raw)
		return reflect.ValueOf(n), err
	case KindSeconds:
		n, err := decodeInt(s, raw)
		return reflect.ValueOf(time.Duration(n) * time.Second), err
	case KindDuration:
		d, err := decodeDuration(s, raw)
		return reflect.ValueOf(d), err
	case KindList:
		list, err := decodeList(raw)
		return reflect.ValueOf(list), err
	case KindTables:
		tables, err := decodeTables(raw)
		return reflect.ValueOf(tables), err
	case KindMap:
		m, err := decodeMap(raw)
		return reflect.ValueOf(m), err
	}
	panic("config: no decoder for " + s.Kind)
}

func decodeText(raw any) (string, error) {
	text, ok := raw.(string)
	if !ok {
		return "", errors.New("want a text (in quotes)")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '�' }) {
		return "", errors.New("want a text without control characters")
	}
	return text, nil
}

// decodeSecret also takes a table, or a list, where JSON is wanted, so that API
// keys and issuers can be written in the language of the file.
func decodeSecret(s setting, raw any) (secret.Text, error) {
	_, isTable := raw.(map[string]any)
	_, isText := raw.(string)
	if isTable && s.check == "json-object" || !isTable && !isText && s.check == "issuers" {
		text, err := json.Marshal(raw)
		if err != nil {
			return secret.Text{}, errors.New("want what can be written as JSON")
		}
		return secret.NewText(string(text)), nil
	}
	text, ok := raw.(string)
	if !ok {
		return secret.Text{}, errors.New("want a text (in quotes)")
	}
	return secret.NewText(text), nil
}

func decodeBool(raw any) (bool, error) {
	switch v := raw.(type) {
	case bool:
		return v, nil
	case string:
		switch strings.ToLower(v) {
		case "true", "1", "yes", "on":
			return true, nil
		case "false", "0", "no", "off":
			return false, nil
		}
	}
	return false, errors.New("want true or false")
}

// decodeInt takes whole numbers within the bounds, in the types in which the
// parsers give them.
func decodeInt(s setting, raw any) (int, error) {
	lowest, highest := atoi(s.Min), atoi(s.Max)
	want := fmt.Errorf("want a whole number from %d to %d", lowest, highest)
	if s.Kind == KindSeconds {
		want = fmt.Errorf("want a whole number of seconds from %d to %d", lowest, highest)
	}
	var n int64
	switch v := raw.(type) {
	case string:
		parsed, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, want
		}
		n = parsed
	case int:
		n = int64(v)
	case int64:
		n = v
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > 1<<53 {
			return 0, want
		}
		n = int64(v)
	default:
		return 0, want
	}
	if n < int64(lowest) || n > int64(highest) {
		return 0, want
	}
	return int(n), nil
}

// atoi reads a bound from a tag.
func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic("config: a whole number needs bounds")
	}
	return n
}

func decodeDuration(s setting, raw any) (time.Duration, error) {
	text, _ := raw.(string)
	d, err := time.ParseDuration(text)
	lowest, err1 := time.ParseDuration(s.Min)
	highest, err2 := time.ParseDuration(s.Max)
	if err1 != nil || err2 != nil {
		panic("config: a duration needs bounds")
	}
	if err != nil || d < lowest || d > highest {
		return 0, fmt.Errorf("want a duration from %s to %s, written like 10s or 5m", s.Min, s.Max)
	}
	return d, nil
}

// decodeList takes "a, b" or a list. An empty list is nil.
func decodeList(raw any) ([]string, error) {
	var parts []string
	switch v := raw.(type) {
	case string:
		parts = strings.Split(v, ",")
	case []any:
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return nil, errors.New("want a list of texts")
			}
			parts = append(parts, text)
		}
	default:
		return nil, errors.New("want a list of texts, or one text with commas")
	}
	var list []string
	for _, part := range parts {
		text, err := decodeText(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if text != "" {
			list = append(list, text)
		}
	}
	return list, nil
}

// decodeMap takes a JSON object in text, or a table, of lists. An empty one is
// nil.
func decodeMap(raw any) (map[string][]string, error) {
	want := errors.New("want a table, or a JSON object, whose values are lists of texts")
	if text, ok := raw.(string); ok {
		if text == "" {
			return nil, nil
		}
		var table map[string]any
		if json.Unmarshal([]byte(text), &table) != nil {
			return nil, want
		}
		raw = table
	}
	table, ok := raw.(map[string]any)
	if !ok {
		return nil, want
	}
	var m map[string][]string
	for key, value := range table {
		list, err := decodeList(value)
		if err != nil {
			return nil, want
		}
		if m == nil {
			m = map[string][]string{}
		}
		m[key] = list
	}
	return m, nil
}

// decodeTables takes a JSON list of objects in text, or a list of tables. An empty
// one is no text.
func decodeTables(raw any) (Tables, error) {
	want := errors.New("want a list of tables, or a JSON list of objects, no name given twice")
	text, ok := raw.(string)
	switch {
	case text != "":
	case ok:
		return "", nil
	default:
		// Lists come in the types that the parsers like.
		written, err := json.Marshal(raw, json.Deterministic(true))
		if err != nil {
			return "", want
		}
		text = string(written)
	}
	var tables []map[string]jsontext.Value
	if json.Unmarshal([]byte(text), &tables) != nil || tables == nil || slices.ContainsFunc(tables, func(t map[string]jsontext.Value) bool { return t == nil }) {
		return "", want
	}
	dec := jsontext.NewDecoder(strings.NewReader(text))
	// It is JSON, so the one error is the end.
	for token, err := dec.ReadToken(); err == nil; token, err = dec.ReadToken() {
		if token.Kind() == '"' {
			if _, err := decodeText(token.String()); err != nil {
				return "", errors.New("want tables without control characters")
			}
		}
	}
	value := jsontext.Value(text)
	if len(tables) == 0 {
		return "", nil
	}
	if value.Compact() != nil {
		return "", want
	}
	return Tables(value), nil
}
