package vaultx

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Vault's own limits on JSON, which it answers with a 500; that on depth is held
// a little lower, so that the envelope around the data fits as well.
const (
	maxDataDepth   = 256
	maxDataString  = 1 << 20
	maxDataMembers = 10_000
)

// KVData is an object that the KV engine keeps unaltered; only decoding makes one.
// Vault keeps numbers as float64, so one that a float64 cannot hold exactly is
// refused rather than altered. Names of members are the caller's and may be
// secret, so the error, Invalid, counts values instead of naming them.
type KVData struct{ json secret.JSON }

// UnmarshalJSON takes a value that can be stored unaltered. It copies.
func (d *KVData) UnmarshalJSON(b []byte) error {
	if err := checkKVData(b); err != nil {
		return err
	}
	return d.json.UnmarshalJSON(b)
}

// Value is the object, as it came.
func (d KVData) Value() secret.JSON { return d.json }

// MarshalJSON serves encoders of every kind, redacted.
func (d KVData) MarshalJSON() ([]byte, error) { return d.json.MarshalJSON() }

func checkKVData(data jsontext.Value) error {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if dec.PeekKind() != '{' {
		return notAnObject()
	}
	for nth := 0; ; {
		tok, err := dec.ReadToken()
		if err != nil {
			return notAnObject()
		}
		depth := dec.StackDepth()
		switch kind := tok.Kind(); {
		case (kind == '}' || kind == ']') && depth == 0:
			if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
				return notAnObject()
			}
			return nil
		case kind == '}' || kind == ']':
			continue
		case kind == '{' || kind == '[':
			if depth > maxDataDepth {
				return fault.New(fault.Invalid, "is nested deeper than "+strconv.Itoa(maxDataDepth))
			}
			depth-- // it is a member of what is around it
		case kind == '"' && tooLong(tok.String()):
			return fault.New(fault.Invalid, "holds a string longer than "+strconv.Itoa(maxDataString)+" bytes, written as JSON")
		}
		around, length := dec.StackIndex(depth)
		named := around == '{' && length%2 == 1 // tok is a member's name
		if around == '{' {
			length = (length + 1) / 2
		}
		if depth > 0 && length > maxDataMembers {
			return fault.New(fault.Invalid, "holds a list or object with more than "+strconv.Itoa(maxDataMembers)+" members")
		}
		if named || tok.Kind() == '{' || tok.Kind() == '[' {
			continue
		}
		nth++
		if tok.Kind() == '0' && !survives(tok.String()) {
			return fault.New(fault.Invalid, "its value number "+strconv.Itoa(nth)+" is a number that Vault would alter; send it as a string")
		}
	}
}

// tooLong counts as Vault does: a line end, written \n, is two bytes.
func tooLong(s string) bool {
	const longestEscape = len(`\u001b`)
	if len(s) <= maxDataString/longestEscape {
		return false
	}
	quoted, err := jsontext.AppendQuote(nil, s)
	return err != nil || len(quoted)-len(`""`) > maxDataString
}

func notAnObject() error {
	return fault.New(fault.Invalid, "must be a JSON object without a name twice, in valid UTF-8")
}

// survives reports whether a float64 holds a JSON number exactly, by its
// shortest decimal form.
func survives(number string) bool {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return false
	}
	digits, exponent, ok := decimal(number)
	kept, keptExponent, _ := decimal(strconv.FormatFloat(f, 'e', -1, 64))
	return ok && digits == kept && (exponent == keptExponent || digits == "")
}

// decimal brings a number into one form: its digits without zeros at the ends,
// and the power of ten of the last of them. Zero has no digits.
func decimal(number string) (digits string, exponent int, ok bool) {
	number = strings.TrimPrefix(number, "-")
	mantissa, power, _ := strings.Cut(strings.ToLower(number), "e")
	if power != "" {
		n, err := strconv.ParseInt(power, 10, 32)
		if err != nil {
			return "", 0, false
		}
		exponent = int(n)
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent -= len(fraction)
	digits = strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(digits, "0")
	return trimmed, exponent + len(digits) - len(trimmed), true
}
