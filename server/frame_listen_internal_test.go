package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/tools"
)

// What subscriptions are asked for with is bounded and of the right types before
// anything reads it.
func TestFramesOfSubscriptions(t *testing.T) {
	frame := func(method, params string) error {
		_, err := CheckFrame([]byte(`{"jsonrpc":"2.0","id":1,"params":{` + params + `},"method":"` + method + `"}`))
		return err
	}
	long := `"` + strings.Repeat("x", tools.MaxResourceURI+1) + `"`
	for _, params := range []string{
		`"uri":1`, `"uri":null`, `"uri":{}`, `"uri":` + long,
	} {
		for _, method := range []string{methodSubscribe, methodUnsubscribe} {
			var refused *FrameError
			require.ErrorAs(t, frame(method, params), &refused, "%.40s", params)
			require.Equal(t, codeInvalidParams, refused.Code)
			require.NotContains(t, refused.Msg, "x")
		}
		require.NoError(t, frame("ping", params))
	}
	list := func(n int) string { return `[` + strings.TrimSuffix(strings.Repeat(`"kv://a/b",`, n), ",") + `]` }
	for _, name := range []string{`Notifications`, `notification\u0073`} {
		var refused *FrameError
		require.ErrorAs(t, frame(methodListen, `"`+name+`":{}`), &refused, name)
	}
	for _, notifications := range []string{
		`1`, `null`, `[]`, `{"toolsListChanged":1}`, `{"toolsListChanged":"yes"}`, `{"resourceSubscriptions":"kv://a/b"}`,
		`{"resourceSubscriptions":null}`, `{"resourceSubscriptions":[1]}`, `{"resourceSubscriptions":[["kv://a/b"]]}`,
		`{"resourceSubscriptions":[` + long + `]}`, `{"resourceSubscriptions":` + list(101) + `}`,
	} {
		var refused *FrameError
		require.ErrorAs(t, frame(methodListen, `"notifications":`+notifications), &refused, "%.60s", notifications)
		require.Equal(t, codeInvalidParams, refused.Code)
		require.NoError(t, frame("ping", `"notifications":`+notifications))
	}
	for _, notifications := range []string{
		`{}`, `{"toolsListChanged":true}`, `{"resourceSubscriptions":[]}`, `{"resourceSubscriptions":` + list(100) + `,"promptsListChanged":false}`,
	} {
		require.NoError(t, frame(methodListen, `"notifications":`+notifications))
	}
	require.NoError(t, frame(methodSubscribe, `"uri":"kv://a/b"`))
	require.Error(t, frame(methodListen, `"notifications":{"resourceSubscriptions":["a",`))
}
