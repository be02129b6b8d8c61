package server_test

import (
	"bytes"
	"encoding/json"
	"testing"

	segmentio "github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// sdkToolName reads a tools/call's params as the SDK does: with the same
// decoder, told the same, into the same type.
func sdkToolName(t *testing.T, params json.RawMessage) string {
	t.Helper()
	var p *mcp.CallToolParamsRaw
	dec := segmentio.NewDecoder(bytes.NewReader(params))
	dec.DontMatchCaseInsensitiveStructFields()
	require.NoError(t, dec.Decode(&p))
	require.NotNil(t, p)
	return p.Name
}
