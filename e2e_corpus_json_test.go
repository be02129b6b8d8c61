package main_test

import (
	"encoding/json"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
)

// TestHostileJSON sends the corpus of JSON over every surface. What is no call
// is refused by the frame gate, and bad arguments by the decoder, both before
// Vault is asked; the rest reaches Vault and is kept exactly. Each message has
// one record, and the session goes on after it.
func TestHostileJSON(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	trail := readTrail(env)
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			seen.Reset()
			lives := func(after string) {
				t.Helper()
				require.Equal(t, "ok", judge(t, call(t, toolCall(`"whoami"`, `{}`))).code, "after %s", after)
				trail.more(t)
				seen.Reset()
			}
			for _, about := range slices.Sorted(maps.Keys(brokenMessages())) {
				row := brokenMessages()[about]
				got := judge(t, call(t, row.frame))
				require.Equal(t, "invalid", got.code, about)
				if got.rpc != 0 || len(row.frame) <= 4<<20 { // HTTP refuses by length with a problem
					require.Equal(t, row.rpc, got.rpc, about)
				}
				require.Equal(t, audit.Reject, trail.ended(t, got, about).Kind, about)
				require.Empty(t, seen.Requests(), about)
				lives(about)
			}
			for _, about := range slices.Sorted(maps.Keys(refusedArguments())) {
				frame := refusedArguments()[about]
				got := judge(t, call(t, frame))
				want, kind := 0, audit.Outcome
				if surface == "modern" && beyondFloat(frame) {
					// The SDK reads all arguments for the name beside them, and fails.
					want, kind = mcp.CodeHeaderMismatch, audit.Reject
				}
				require.Equal(t, verdict{code: "invalid", rpc: want, id: got.id}, got, about)
				require.Equal(t, kind, trail.ended(t, got, about).Kind, about)
				require.Empty(t, seen.Requests(), about)
				lives(about)
			}
			for _, about := range slices.Sorted(maps.Keys(keptData())) {
				got := judge(t, call(t, writeOf(keptData()[about])))
				require.Equal(t, "ok", got.code, about)
				trail.ended(t, got, about)
				require.Equal(t, []string{"POST /v1/secret/data/mcp/dev/j"}, seen.Requests(), about)
				read := judge(t, call(t, toolCall(`"kv.read"`, `{"path":"j"}`)))
				var answer struct{ Data json.RawMessage }
				require.NoError(t, json.Unmarshal(read.content, &answer), about)
				requireSameJSON(t, keptData()[about], string(answer.Data), about)
				lives(about)
			}
		})
	}
}

// beyondFloat reports whether a message, which is JSON, has a number that no
// float64 comes near to.
func beyondFloat(frame string) bool {
	return json.Unmarshal([]byte(strings.ReplaceAll(frame, metaHole, "")), new(any)) != nil
}

// requireSameJSON holds two values against one another, numbers by their exact
// value and not as a float64 would round them.
func requireSameJSON(t *testing.T, want, got, about string) {
	t.Helper()
	plain := func(s string) (v any) {
		dec := json.NewDecoder(strings.NewReader(s))
		dec.UseNumber()
		require.NoError(t, dec.Decode(&v), about)
		return exact(v)
	}
	if w, g := plain(want), plain(got); len(want) < 4096 {
		require.Equal(t, w, g, about)
	} else {
		require.True(t, reflect.DeepEqual(w, g), "%s came back altered", about)
	}
}

// exact brings the numbers of a value into one form.
func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		r, _ := new(big.Rat).SetString(v.String())
		return r.RatString()
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = exact(v[name])
		}
	}
	return v
}

// TestMessageOfTheLargestSize is the other side of the bound: 4 MiB are taken.
func TestMessageOfTheLargestSize(t *testing.T) {
	env := settings(t, devstacktest.Shared(t))
	for surface, call := range rawSurfaces(t, env, botKey) {
		size := 4 << 20
		if surface == "modern" {
			size -= len(modernMeta)
		}
		require.Equal(t, "ok", judge(t, call(t, sized(size))).code, surface)
		got := judge(t, call(t, sized(size+1)))
		require.Equal(t, "invalid", got.code, surface)
	}
}
