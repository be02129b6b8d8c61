package server

import (
	"bytes"
	"strings"
)

// appendEvent adds one event of a stream, as browsers and others read it (HTML,
// 9.2.6). An empty id, name or data is left out: a block with an id alone moves
// the place from which its reader resumes, and is no event. Whatever the parts
// hold, they stay parts of this event: where a line may end, id and name end, and
// data goes on in a line of its own.
func appendEvent(b []byte, id, name string, data []byte) []byte {
	b = appendField(b, "id: ", id)
	b = appendField(b, "event: ", name)
	for len(data) > 0 {
		line, rest, more := data, []byte(nil), false
		if end := bytes.IndexAny(data, "\r\n"); end >= 0 {
			line, rest, more = data[:end], data[end+1:], true
			if data[end] == '\r' && len(rest) > 0 && rest[0] == '\n' { // the two are one end
				rest = rest[1:]
			}
		}
		b = append(b, "data: "...)
		b = append(b, line...)
		b = append(b, '\n')
		if data = rest; more && len(data) == 0 {
			b = append(b, "data: \n"...)
		}
	}
	return append(b, '\n')
}

// appendField adds a field of one line. A zero byte would make an id no id.
func appendField(b []byte, field, value string) []byte {
	if end := strings.IndexAny(value, "\r\n\x00"); end >= 0 {
		value = value[:end]
	}
	if value == "" {
		return b
	}
	b = append(b, field...)
	b = append(b, value...)
	return append(b, '\n')
}
