package server_test

import (
	"bytes"
	"encoding/json"
	"testing"

	segmentio "github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// sdkName reads the params of a tools/call, a prompts/get or a completion/complete
// as the SDK does: with the same decoder, told the same, into the same type.
func sdkName(t *testing.T, method string, params json.RawMessage) string {
	t.Helper()
	decode := func(into any) {
		dec := segmentio.NewDecoder(bytes.NewReader(params))
		dec.DontMatchCaseInsensitiveStructFields()
		require.NoError(t, dec.Decode(into))
	}
	switch method {
	case "prompts/get":
		var p *mcp.GetPromptParams
		decode(&p)
		require.NotNil(t, p)
		return p.Name
	case "completion/complete":
		var p *mcp.CompleteParams
		decode(&p)
		require.NotNil(t, p)
		require.NotEmpty(t, p.Ref.Name+p.Ref.URI)
		require.NotEmpty(t, p.Argument.Name)
		return ""
	}
	var p *mcp.CallToolParamsRaw
	decode(&p)
	require.NotNil(t, p)
	return p.Name
}
