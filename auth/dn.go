package auth

import (
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"vault-mcp/fault"
)

// maxDN is the longest distinguished name that is looked at, in bytes.
const maxDN = 2 << 10

// attribute is one of a distinguished name.
type attribute struct {
	kind  string // lower case
	value string
}

// errDN is the one answer to a name that is not well formed: what is wrong with
// it is of no use to who did not write it.
func errDN() error {
	return refuse("the certificate's subject is not a distinguished name as RFC 4514 has it, one attribute in each part")
}

// parseDN reads a distinguished name as RFC 4514 and RFC 2253 have it, which is
// what nginx, Apache and Envoy write: CN=a,O=b, with blanks after a comma. It is
// stricter than they are: no part may have several attributes (CN=a+UID=b), and
// there is no quoted form. Values in hexadecimal (#0C01..) are kept as they
// stand, and identify nobody.
func parseDN(s string) ([]attribute, error) {
	if s == "" || len(s) > maxDN || !utf8.ValidString(s) {
		return nil, errDN()
	}
	var list []attribute
	for {
		kind, rest, ok := strings.Cut(s, "=")
		if !ok || !isAttributeType(kind) {
			return nil, errDN()
		}
		value, rest, ok := dnValue(rest)
		if !ok {
			return nil, errDN()
		}
		list = append(list, attribute{strings.ToLower(kind), value})
		if rest == "" {
			return list, nil
		}
		s = strings.TrimLeft(rest[1:], " ") // after the comma
	}
}

// dnValue takes a value off the start of s; what remains is nothing, or begins
// with the comma.
func dnValue(s string) (value, rest string, ok bool) {
	var b strings.Builder
	end := 0 // of what an escape has made, which is not trimmed
	i := 0
	for ; i < len(s) && s[i] != ','; i++ {
		switch c := s[i]; {
		case c == '\\':
			char, width, ok := dnEscape(s[i+1:])
			if !ok {
				return "", "", false
			}
			b.WriteByte(char)
			i += width
			end = b.Len()
		case strings.IndexByte("+\"<>;", c) >= 0 || c < ' ' || c == 0x7f:
			return "", "", false
		case c == ' ' && b.Len() == 0:
			return "", "", false // a blank at the start is escaped
		default:
			b.WriteByte(c)
		}
	}
	value = b.String()
	if trimmed := strings.TrimRight(value, " "); len(trimmed) < len(value) && len(value) > end {
		return "", "", false // and so is one at the end
	}
	return value, s[i:], utf8.ValidString(value)
}

// dnEscape reads what follows a backslash: a special character, or a byte as two
// hexadecimal digits.
func dnEscape(s string) (char byte, width int, ok bool) {
	if s == "" {
		return 0, 0, false
	}
	if strings.IndexByte(" \"#+,;<=>\\", s[0]) >= 0 {
		return s[0], 1, true
	}
	if len(s) < 2 {
		return 0, 0, false
	}
	raw, err := hex.DecodeString(s[:2])
	if err != nil {
		return 0, 0, false
	}
	return raw[0], 2, true
}

// parseOneline reads the older form of OpenSSL: /C=US/CN=a. A slash within a
// value looks like one between two, so whoever can choose a value of a
// certificate can write further attributes into it; it is read only where the
// operator asks for it.
func parseOneline(s string) ([]attribute, error) {
	if len(s) > maxDN || !utf8.ValidString(s) || !strings.HasPrefix(s, "/") {
		return nil, errDN()
	}
	var list []attribute
	for part := range strings.SplitSeq(s[1:], "/") {
		kind, value, ok := strings.Cut(part, "=")
		// A part without a type is the rest of a value with a slash in it; a
		// backslash begins what OpenSSL could not print.
		if !ok || !isAttributeType(kind) || strings.ContainsRune(value, '\\') || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, errDN()
		}
		list = append(list, attribute{strings.ToLower(kind), value})
	}
	return list, nil
}

// isAttributeType takes names (CN, emailAddress) and numbers (2.5.4.3).
func isAttributeType(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	if s[0] >= '0' && s[0] <= '9' {
		return strings.Trim(s, "0123456789.") == "" && !strings.Contains(s, "..") && !strings.HasSuffix(s, ".")
	}
	for i := range len(s) {
		c := s[i] | 0x20
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || s[i] != '-' && (s[i] < '0' || s[i] > '9')) {
			return false
		}
	}
	return true
}

// typeNames are the other names of attribute types.
var typeNames = map[string]string{
	"commonname": "cn", "2.5.4.3": "cn",
	"userid": "uid", "0.9.2342.19200300.100.1.1": "uid",
	"email": "emailaddress", "e": "emailaddress", "1.2.840.113549.1.9.1": "emailaddress",
	"organizationalunitname": "ou", "2.5.4.11": "ou",
	"organizationname": "o", "2.5.4.10": "o",
	"2.5.4.5": "serialnumber",
}

func typeName(kind string) string {
	kind = strings.ToLower(kind)
	if name := typeNames[kind]; name != "" {
		return name
	}
	return kind
}

// only is the value of the one attribute of a kind.
func only(list []attribute, kind string) (string, error) {
	var found []string
	for _, a := range list {
		if typeName(a.kind) == typeName(kind) {
			found = append(found, a.value)
		}
	}
	if len(found) != 1 {
		return "", refuse("the certificate's subject has not exactly one attribute of the kind that names the caller")
	}
	if strings.HasPrefix(found[0], "#") {
		return "", refuse("the attribute that names the caller is not text")
	}
	return found[0], isName(found[0])
}

// isName holds a name out of a certificate against what may name a caller.
func isName(s string) error {
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable) {
		return fault.New(fault.Unauthenticated, "the name in the certificate is empty or not printable text")
	}
	return nil
}
