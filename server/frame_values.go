package server

import (
	"bytes"
	"strings"
)

// isLookalike reports whether a name of the params is one of those that some method
// has in another case, or written with an escape.
func isLookalike(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') >= 0 {
		return true
	}
	name := string(raw[1 : len(raw)-1])
	for _, known := range []string{"name", "arguments", "_meta", "inputResponses", "requestState", "ref", "argument", "context"} {
		if strings.EqualFold(name, known) {
			return true
		}
	}
	return false
}

func isString(v []byte) bool { return len(v) > 1 && v[0] == '"' }

// isID accepts strings, and integers that survive a float64.
func isID(v []byte) bool {
	return len(v) <= maxNameLength+2 && (isString(v) || isInteger(v))
}

// isInteger accepts an integer without fraction or exponent within ±(2^53-1).
func isInteger(v []byte) bool {
	digits := bytes.TrimPrefix(v, []byte("-"))
	if len(digits) == 0 || len(digits) > 16 || string(v) == "-0" {
		return false
	}
	n := uint64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + uint64(c-'0')
	}
	return n < 1<<53
}

func isMethod(v []byte) bool {
	if !isString(v) || len(v) < 3 || len(v) > maxNameLength+2 {
		return false
	}
	for _, c := range v[1 : len(v)-1] {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '/' || c == '_' || c == '.' || c == '-' || c == '$':
		default:
			return false
		}
	}
	return true
}

// tooDeep looks at a message before it is parsed: the parser's own stack is
// bounded only at 10 000 levels. Few brackets cannot nest deeply, which settles
// nearly every message with one fast count.
func tooDeep(data []byte) bool {
	if bytes.Count(data, []byte("{"))+bytes.Count(data, []byte("[")) <= maxDepth {
		return false
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
