package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzEvent holds the encoder to one event for each, with the same data, whatever
// its parts hold.
func FuzzEvent(f *testing.F) {
	f.Add("id", "resource.changed", `{"a":1}`)
	f.Add("1\nevent: x", "a\r\ndata: forged\n\nid: 2", "x\n\nid: 9\ndata: y\r\rz\r\n")
	f.Add("\x00", "", "\n")
	f.Fuzz(func(t *testing.T, id, name, data string) {
		text := string(appendEvent(nil, id, name, []byte(data)))
		body, ok := strings.CutSuffix(text, "\n\n")
		if !ok {
			require.Equal(t, "\n", text)
			require.Empty(t, data)
			return
		}
		require.NotContains(t, text, "\r")
		require.NotContains(t, body, "\n\n", "one block")
		var got []string
		for i, line := range strings.Split(body, "\n") {
			field, value, found := strings.Cut(line, ": ")
			require.True(t, found, line)
			switch field {
			case "id":
				require.Zero(t, i)
				require.True(t, strings.HasPrefix(id, value))
			case "event":
				require.Empty(t, got)
				require.True(t, strings.HasPrefix(name, value))
			case "data":
				got = append(got, value)
			default:
				t.Fatal(line)
			}
		}
		want := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data)
		require.Equal(t, want, strings.Join(got, "\n"))
	})
}
