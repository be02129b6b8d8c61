package tools

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Encoding is embedded in the input of a tool with binary arguments or results
// that may be text as well.
type Encoding struct {
	Form string `json:"encoding,omitzero" jsonschema:"enum=base64,enum=utf8,default=base64" doc:"How binary data are written in this call: base64 (standard alphabet, with padding) or utf8 (the text itself)."`
}

const formUTF8 = "utf8"

// bytes are those that an argument stands for, at most so many. They stay
// secret: a Text holds any bytes.
func (e Encoding) bytes(pointer string, argument secret.Text, longest int) (secret.Text, error) {
	if e.Form != formUTF8 {
		return base64Bytes(pointer, argument, longest)
	}
	if len(argument.Reveal()) > longest {
		return secret.Text{}, fault.Field(pointer, tooLong(longest))
	}
	return argument, nil
}

// base64Bytes are the bytes of an argument that is always base64: strictly,
// since what one decoder lets pass another reads differently.
func base64Bytes(pointer string, argument secret.Text, longest int) (secret.Text, error) {
	if argument.IsZero() { // most are left out
		return argument, nil
	}
	text := argument.Reveal()
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // the decoder skips line ends
		return secret.Text{}, fault.Field(pointer, "must be base64: the standard alphabet, with padding, without spaces or line ends")
	}
	if len(raw) > longest {
		return secret.Text{}, fault.Field(pointer, tooLong(longest))
	}
	return secret.NewText(string(raw)), nil
}

func tooLong(longest int) string {
	return fmt.Sprintf("must be at most %d bytes", longest)
}

// text writes bytes of a result as the caller asked for them.
func (e Encoding) text(raw secret.Text) (secret.Text, error) {
	if e.Form != formUTF8 {
		return secret.NewText(base64.StdEncoding.EncodeToString([]byte(raw.Reveal()))), nil
	}
	if !utf8.ValidString(raw.Reveal()) {
		return secret.Text{}, fault.Field("/encoding", "the result is not UTF-8 text; call again with encoding base64")
	}
	return raw, nil
}
