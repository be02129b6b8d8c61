package tools

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

// crossIn has a rule across its arguments, and keeps what it has parsed.
type crossIn struct {
	Low  int `json:"low,omitzero" doc:"Low."`
	High int `json:"high,omitzero" doc:"High."`

	between int
	asked   int
}

func (in *crossIn) check() error {
	in.asked++
	if in.High < in.Low {
		return fault.Field("/high", "must not be lower than low")
	}
	in.between = in.High - in.Low
	return nil
}

// Rules across arguments are asked once, after those of each argument; what they
// keep, the handler has, and no schema shows it.
func TestRulesAcrossArguments(t *testing.T) {
	type out struct {
		Between int `json:"between" doc:"Between."`
		Asked   int `json:"asked" doc:"Asked."`
	}
	tool := Define(Tool{Name: "test.cross", Title: "Cross", Doc: "Crosses.", Effect: Reads, Route: "GET /test"},
		func(_ context.Context, _ *Env, in crossIn) (out, error) { return out{in.between, in.asked}, nil })
	require.NotContains(t, string(tool.InputSchema), "between")

	in, err := tool.Decode(json.RawMessage(`{"low":2,"high":7}`))
	require.NoError(t, err)
	got, err := tool.handle(t.Context(), nil, in)
	require.NoError(t, err)
	require.Equal(t, out{Between: 5, Asked: 1}, got)

	for args, want := range map[string]string{
		`{"low":2,"high":1}`:   "/high: must not be lower than low",
		`{"low":2,"high":"1"}`: "/high: must be of type integer",
		`{"low":2}`:            "/high: must not be lower than low",
	} {
		_, values, err := tool.input.decode(json.RawMessage(args))
		require.ErrorIs(t, err, fault.Invalid)
		require.Equal(t, want, fault.From(err).Msg)
		require.Equal(t, "/high", fault.From(err).Details["field"])
		require.NotNil(t, values, "for the record")
	}
}
