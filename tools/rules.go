package tools

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"vault-mcp/fault"
)

// rule is one keyword of a schema, and what a caller is told who breaks it. The
// checker's own errors repeat the value, so it is asked about one keyword at a
// time and its texts are never read.
type rule struct {
	schema *jsonschema.Resolved
	want   string
}

// rules are what a schema wants of a value, of each item if it is a list, and
// of each member if it is an object of any names.
type rules struct {
	whole          []rule
	items, members *rules
}

// newRules takes a property's schema apart. It fails on a keyword that it has
// no words for: a rule that is published is one that is checked.
func newRules(property json.RawMessage, doc string) (*rules, error) {
	var s jsonschema.Schema
	if err := json.Unmarshal(property, &s); err != nil {
		return nil, err
	}
	return takeApart(&s, doc)
}

func takeApart(s *jsonschema.Schema, doc string) (*rules, error) {
	var (
		r    rules
		errs []error
		rest = *s
	)
	add := func(given bool, keyword jsonschema.Schema, want string) {
		if !given {
			return
		}
		resolved, err := keyword.Resolve(nil)
		errs = append(errs, err)
		r.whole = append(r.whole, rule{resolved, want})
	}
	add(s.Type != "", jsonschema.Schema{Type: s.Type}, "must be of type "+s.Type)
	add(s.Enum != nil, jsonschema.Schema{Enum: s.Enum}, "must be one of "+listed(s.Enum))
	add(s.Minimum != nil, jsonschema.Schema{Minimum: s.Minimum}, "must be at least "+shown(s.Minimum))
	add(s.Maximum != nil, jsonschema.Schema{Maximum: s.Maximum}, "must be at most "+shown(s.Maximum))
	add(s.MinLength != nil, jsonschema.Schema{MinLength: s.MinLength}, "must have at least "+shown(s.MinLength)+" characters")
	add(s.MaxLength != nil, jsonschema.Schema{MaxLength: s.MaxLength}, "must have at most "+shown(s.MaxLength)+" characters")
	add(s.Pattern != "", jsonschema.Schema{Pattern: s.Pattern}, "does not have the form that it must have. "+doc)
	add(s.MinItems != nil, jsonschema.Schema{MinItems: s.MinItems}, "must have at least "+shown(s.MinItems)+" items")
	add(s.MaxItems != nil, jsonschema.Schema{MaxItems: s.MaxItems}, "must have at most "+shown(s.MaxItems)+" items")
	add(s.UniqueItems, jsonschema.Schema{UniqueItems: true}, "must not have an item twice")
	var err error
	if s.Items != nil {
		r.items, err = takeApart(s.Items, doc)
		errs = append(errs, err)
	}
	if s.AdditionalProperties != nil {
		r.members, err = takeApart(s.AdditionalProperties, doc)
		errs = append(errs, err)
	}
	rest.Title, rest.Description, rest.Default, rest.Examples = "", "", nil, nil
	rest.Type, rest.Enum, rest.Minimum, rest.Maximum, rest.MinLength, rest.MaxLength, rest.Pattern = "", nil, nil, nil, nil, nil, ""
	rest.MinItems, rest.MaxItems, rest.UniqueItems, rest.Items, rest.AdditionalProperties = nil, nil, false, nil, nil
	if !reflect.DeepEqual(rest, jsonschema.Schema{}) {
		errs = append(errs, errors.New("the schema has a keyword that is not checked"))
	}
	return &r, errors.Join(errs...)
}

// listed are the words of an enum.
func listed(enum []any) string {
	words := make([]string, len(enum))
	for i := range enum {
		words[i] = fmt.Sprint(enum[i])
	}
	return strings.Join(words, ", ")
}

// shown is a bound in plain digits.
func shown[T int | float64](bound *T) string {
	if bound == nil {
		return ""
	}
	return strconv.FormatFloat(float64(*bound), 'f', -1, 64)
}

// check holds a value, as plainValue makes it, to the rules. The error names
// the place, which is pointer or an item below it, and what is wanted. No rules
// are broken by nothing.
func (r *rules) check(pointer string, value any) error {
	if r == nil {
		return nil
	}
	for _, rule := range r.whole {
		if rule.schema.Validate(value) != nil {
			return fault.Field(pointer, rule.want)
		}
	}
	switch v := value.(type) {
	case []any:
		for i := range v {
			if err := r.items.check(pointer+"/"+strconv.Itoa(i), v[i]); err != nil {
				return err
			}
		}
	case map[string]any:
		// The name of a member is the caller's, and not repeated.
		for name := range v {
			if err := r.members.check(pointer, v[name]); err != nil {
				return err
			}
		}
	}
	return nil
}
