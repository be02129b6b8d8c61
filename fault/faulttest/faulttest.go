// Package faulttest looks into errors as tests must: at all that they hold.
package faulttest

import (
	"errors"
	"fmt"
	"strings"

	"vault-mcp/fault"
)

// Text is all text of an error, and of the errors that it wraps, as a careless
// log would print it.
func Text(err error) string {
	var b strings.Builder
	for _, e := range flatten(err) {
		fmt.Fprintf(&b, "%v\n%+v\n%#v\n", e, e, e)
	}
	if f := (*fault.Error)(nil); errors.As(err, &f) {
		fmt.Fprintf(&b, "%s\n%v\n", f.Msg, f.Details)
	}
	return b.String()
}

func flatten(err error) []error {
	all := []error{err}
	switch e := err.(type) { //nolint:errorlint // each link is wanted
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			all = append(all, flatten(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, flatten(inner)...)
		}
	}
	return all
}
