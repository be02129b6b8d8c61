package audit

import (
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// encoder turns records into the start of a line, without prev and mac. It
// keeps buffers, so it serves one goroutine at a time. It is written by hand
// because it stands in the path of every call, twice.
type encoder struct {
	buf   []byte
	names []string // scratch: argument names in order
	cut   bool     // something of the current record was too long
}

// record appends r's members, from `{"v":1` on, to the buffer.
func (e *encoder) record(r *Record) {
	e.cut = r.Truncated
	e.buf = append(e.buf, `{"v":1,"seq":`...)
	e.buf = strconv.AppendUint(e.buf, r.Seq, 10)
	e.buf = append(e.buf, `,"time":"`...)
	e.buf = r.Time.UTC().AppendFormat(e.buf, time.RFC3339Nano)
	e.buf = append(e.buf, '"')
	e.member("kind", string(r.Kind), 64)

	e.optional("request_id", r.RequestID, 256)
	e.optional("transport", r.Transport, 64)
	e.optional("remote", r.Remote, 256)
	e.optional("subject", r.Subject, 768)
	e.optional("auth_method", r.AuthMethod, 64)
	e.optional("credential_id", r.CredentialID, 256)
	e.optional("issuer", r.Issuer, 256)
	e.optional("rule", r.Rule, 80)
	e.optional("tool", r.Tool, 256)
	e.optional("scope", r.Scope, 64)
	e.list("needs", r.Needs, maxNeed, maxNeeds)
	e.args(r.Args)
	e.optional("result", r.Result, maxArg)
	e.optional("outcome", r.Outcome, 64)
	e.optional("detail", r.Detail, 1536)
	if r.DurationUS != 0 {
		e.name("duration_us")
		e.buf = strconv.AppendInt(e.buf, r.DurationUS, 10)
	}
	e.optional("vault_request_id", r.VaultRequestID, 512)
	e.optional("aws_request_id", r.AWSRequestID, 256)
	if e.cut {
		e.buf = append(e.buf, `,"truncated":true`...)
	}

	e.optional("chain", r.Chain, 64)
	e.optional("key", r.Key, 64)
	e.number("part", r.Part)
	e.optional("file", r.File, 512)
	e.list("chains", r.Chains, maxName+2, maxBesides)
	e.number("count", r.Count)
	e.number("cut", r.Cut)
	e.number("torn", r.Torn)
	e.number("unsynced", r.Unsynced)
	e.number("refused", r.Refused)
}

func (e *encoder) name(name string) {
	e.buf = append(e.buf, ',', '"')
	e.buf = append(e.buf, name...)
	e.buf = append(e.buf, '"', ':')
}

func (e *encoder) member(name, value string, limit int) {
	e.name(name)
	e.quote(value, limit)
}

func (e *encoder) optional(name, value string, limit int) {
	if value != "" {
		e.member(name, value, limit)
	}
}

func (e *encoder) number(name string, n uint64) {
	if n != 0 {
		e.name(name)
		e.buf = strconv.AppendUint(e.buf, n, 10)
	}
}

// list appends texts, each of at most most bytes, quotes included, and all of
// them of at most all.
func (e *encoder) list(name string, texts []string, most, all int) {
	if len(texts) == 0 {
		return
	}
	e.name(name)
	e.buf = append(e.buf, '[')
	start := len(e.buf)
	for i, text := range texts {
		room := min(most, all-(len(e.buf)-start))
		if room < 16 {
			e.cut = true
			break
		}
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.quote(text, room)
	}
	e.buf = append(e.buf, ']')
}

func (e *encoder) args(args map[string]string) {
	if len(args) == 0 {
		return
	}
	e.names = e.names[:0]
	for name := range args {
		e.names = append(e.names, name)
	}
	slices.Sort(e.names)
	e.name("args")
	e.buf = append(e.buf, '{')
	start := len(e.buf)
	for i, name := range e.names {
		if len(e.buf)-start > maxArgs-2*maxArg-8 {
			e.cut = true
			break
		}
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		// A name that cannot stand as it is gets a number instead, so that
		// no two members of the object can have one name.
		at, was := len(e.buf), e.cut
		e.cut = name != "" && name[0] == '~' || !utf8.ValidString(name)
		e.quote(name, maxArg)
		if e.cut {
			e.buf = append(e.buf[:at], `"~`...)
			e.buf = strconv.AppendInt(e.buf, int64(i), 10)
			e.buf = append(e.buf, '"')
		}
		e.cut = e.cut || was
		e.buf = append(e.buf, ':')
		e.quote(args[name], maxArg)
	}
	e.buf = append(e.buf, '}')
	clear(e.names)
}

const hexDigits = "0123456789abcdef"

// quote appends s as a JSON string of at most limit bytes, quotes included.
// All that is not printable is escaped: a record is one line to every program
// that reads it, and does nothing to a terminal. Bytes that are not UTF-8
// become U+FFFD.
func (e *encoder) quote(s string, limit int) {
	b := e.buf
	b = append(b, '"')
	end := len(e.buf) + limit - 1 // one byte is for the closing quote
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			if len(b) >= end {
				e.cut = true
				break
			}
			b = append(b, c)
			i++
			continue
		}
		at := len(b)
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case unicode.IsPrint(r) && r != utf8.RuneError:
			b = append(b, s[i:i+size]...)
		case r >= 0x10000:
			r -= 0x10000
			b = appendEscape(b, 0xd800+r>>10)
			b = appendEscape(b, 0xdc00+r&0x3ff)
		default:
			b = appendEscape(b, r)
		}
		if len(b) > end {
			b, e.cut = b[:at], true
			break
		}
		i += size
	}
	b = append(b, '"')
	e.buf = b
}

func appendEscape(b []byte, r rune) []byte {
	return append(b, '\\', 'u',
		hexDigits[r>>12&0xf], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}
