package tools_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/secret"
	"vault-mcp/tools"
)

// What a rule keeps of a secret is as secret as the argument.
func TestDecodedBytesStaySecret(t *testing.T) {
	for tool, args := range map[string]string{
		"transit.encrypt": `{"key":"k","plaintext":"` + b64(canary) + `","context":"` + b64(canary) + `","associated_data":"` + b64(canary) + `"}`,
		"transit.sign":    `{"key":"k","encoding":"utf8","input":"` + canary + `"}`,
	} {
		in, err := lookup(t, tool).Decode(json.RawMessage(args))
		require.NoError(t, err)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			said := fmt.Sprintf(verb, in)
			require.NotContains(t, said, canary, verb)
			require.NotContains(t, said, b64(canary), verb)
			require.NotContains(t, said, fmt.Sprintf("%x", canary), verb)
		}
	}
}

// A result that is empty is there; one that never was is not.
func TestEmptyContentIsEncoded(t *testing.T) {
	type out struct {
		Body secret.Content `json:"body,omitzero" doc:"Body."`
		Text secret.Text    `json:"text,omitzero" doc:"Text."`
	}
	for want, o := range map[string]out{
		`{}`:           {Text: secret.NewText("")},
		`{"body":""}`:  {Body: secret.Content{Text: secret.NewText("")}},
		`{"body":"x"}`: {Body: secret.Content{Text: secret.NewText("x")}},
	} {
		got, err := tools.EncodeResult(o)
		require.NoError(t, err)
		require.JSONEq(t, want, string(got))
	}
}
