// Package secret holds values that must not be seen by accident.
//
// A Text or a JSON prints, logs and marshals as "[redacted]", whatever verb,
// encoder or struct it stands in. The one way out is Reveal, which is easy to
// find with grep. It is called where a value must leave: by the encoder of tool
// results, by what sends tokens and data to Vault, by the commands that show a
// key or token they have just made; and where a value must be looked at: by the
// checks of credentials, keys, settings and written data.
//
// The package also reads and makes the files in which secrets are kept, and
// their folders and locks, in one way for all.
package secret

import (
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Redacted is what stands in place of a secret wherever one is printed.
const Redacted = "[redacted]"

// Text is a secret string. The value stands behind a pointer, so that even
// printing a struct with an unexported Text field by reflection shows nothing.
type Text struct{ p *string }

// NewText wraps a string.
func NewText(s string) Text { return Text{&s} }

// Reveal is the way out.
func (t Text) Reveal() string {
	if t.p == nil {
		return ""
	}
	return *t.p
}

// IsZero reports whether there is no text at all, or an empty one.
func (t Text) IsZero() bool { return t.p == nil || *t.p == "" }

// String implements fmt.Stringer, redacted.
func (t Text) String() string { return Redacted }

// Format implements fmt.Formatter for every verb, redacted.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalText serves encoders of every kind, redacted.
func (t Text) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText lets configuration and arguments be decoded into a Text.
func (t *Text) UnmarshalText(b []byte) error {
	*t = NewText(string(b))
	return nil
}

// Content is a Text that is there even if it is empty, as what was encrypted may
// be: an encoder that leaves out what is zero leaves out only one that was never
// made.
type Content struct{ Text }

// IsZero reports whether there is no text at all.
func (c Content) IsZero() bool { return c.p == nil }

// JSON is a secret JSON value, kept as the bytes in which it came, so that
// numbers pass unaltered. One pointer is not enough here: fmt looks through a
// pointer to a slice when it complains of a wrong verb.
type JSON struct{ p **jsontext.Value }

// NewJSON wraps a JSON value. It does not copy.
func NewJSON(v []byte) JSON {
	j := (*jsontext.Value)(&v)
	return JSON{&j}
}

// Reveal is the way out.
func (j JSON) Reveal() jsontext.Value {
	if j.p == nil {
		return nil
	}
	return **j.p
}

// IsZero reports whether there is no value.
func (j JSON) IsZero() bool { return j.p == nil || len(**j.p) == 0 }

// String implements fmt.Stringer, redacted.
func (j JSON) String() string { return Redacted }

// Format implements fmt.Formatter for every verb, redacted.
func (j JSON) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalJSON serves encoders of every kind, redacted.
func (j JSON) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// UnmarshalJSON keeps the value as it came.
func (j *JSON) UnmarshalJSON(b []byte) error {
	*j = NewJSON(append([]byte(nil), b...))
	return nil
}
