package tools_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/tools"
)

func handler[In, Out any](context.Context, *tools.Env, In) (out Out, err error) { return out, nil }

// A mistake in a declaration is found when the program starts.
func TestDefineRefuses(t *testing.T) {
	good := tools.Tool{Name: "test.do", Title: "Do", Doc: "Does.", Scope: auth.Read, Effect: tools.Reads, Route: "GET /test"}
	change := func(f func(*tools.Tool)) tools.Tool { c := good; f(&c); return c }
	type none struct{}
	type named struct {
		Key string `json:"key" doc:"Key."`
	}
	type wrapping struct {
		tools.WrapTTL
	}
	type plainSecret struct {
		Value secret.Text `json:"value,omitzero" doc:"Value."`
	}
	for want, define := range map[string]func(){
		"wants a title and a doc": func() { tools.Define(change(func(t *tools.Tool) { t.Doc = "" }), handler[none, none]) },
		"wants an effect":         func() { tools.Define(change(func(t *tools.Tool) { t.Effect = "" }), handler[none, none]) },
		"wants a route":           func() { tools.Define(change(func(t *tools.Tool) { t.Route = "" }), handler[none, none]) },
		"wants a scope": func() {
			tools.Define(change(func(t *tools.Tool) {
				t.Scope = ""
				t.Needs = []tools.Need{{Path: "sys/x", Capabilities: []string{"read"}}}
			}), handler[none, none])
		},
		"wants a capability in each need": func() {
			tools.Define(change(func(t *tools.Tool) { t.Needs = []tools.Need{{Path: "sys/x"}} }), handler[none, none])
		},
		"has a hole in its need that no argument fills: role": func() {
			tools.Define(change(func(t *tools.Tool) {
				t.Needs = []tools.Need{{Path: "{database}/creds/{role}", Capabilities: []string{"read"}}}
			}), handler[named, none])
		},
		"has several needs and an input that does not choose": func() {
			tools.Define(change(func(t *tools.Tool) {
				n := tools.Need{Path: "{transit}/encrypt/{key}", Capabilities: []string{"update"}}
				t.Needs = []tools.Need{n, n}
			}), handler[named, none])
		},
		"template ../x": func() {
			tools.Define(change(func(t *tools.Tool) { t.Needs = []tools.Need{{Path: "../x", Capabilities: []string{"read"}}} }), handler[none, none])
		},
		"has a granted name that is not the last in its path: key": func() {
			tools.Define(change(func(t *tools.Tool) {
				t.Needs = []tools.Need{{Path: "{transit}/keys/{key}/config", Capabilities: []string{"update"}}}
			}), handler[named, none])
		},
		"is about a lease that its input does not name": func() {
			tools.Define(change(func(t *tools.Tool) {
				t.Needs = []tools.Need{{Path: "sys/leases/revoke", Capabilities: []string{"update"}, Lease: tools.GivesLeaseUp}}
			}), handler[named, none])
		},
		"gives a lease that is no Lease": func() {
			tools.Define(good, handler[none, struct {
				ID string `json:"lease_id" doc:"Vault's own."`
			}])
		},
		"wants a doc tag on key": func() {
			tools.Define(good, handler[struct {
				Key string `json:"key"`
			}, none])
		},
		"wants a doc tag on value": func() {
			tools.Define(good, handler[none, struct {
				Value string `json:"value"`
			}])
		},
		"has no such grammar: pth": func() {
			tools.Define(good, handler[struct {
				Key string `json:"key" grammar:"pth" doc:"Key."`
			}, none])
		},
		"has a default that is not of its type": func() {
			tools.Define(good, handler[struct {
				Key json.RawMessage `json:"key" jsonschema:"type=string,default={" doc:"Key."`
				N   uint8           `json:"n" jsonschema:"default=300" doc:"N."`
			}, none])
		},
		"wants wrap_ttl in its input and wrap in its output, or neither": func() { tools.Define(good, handler[wrapping, plainSecret]) },
		"takes wrap_ttl but has no secret in its output": func() {
			tools.Define(good, handler[wrapping, struct{ tools.Wrapped }])
		},
		"wants its secret value optional": func() {
			tools.Define(good, handler[wrapping, struct {
				Value secret.Text `json:"value" doc:"Value."`
				tools.Wrapped
			}])
		},
		"has a secret below the first level, in list": func() {
			tools.Define(good, handler[none, struct {
				List []plainSecret `json:"list" doc:"List."`
			}])
		},
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				said, _ := recover().(string)
				require.Contains(t, said, want)
			}()
			define()
		})
	}
	require.PanicsWithValue(t, "tools: a.b_c and a_b.c share a name", func() {
		name := func(n string) *tools.Tool {
			return tools.Define(change(func(t *tools.Tool) { t.Name = n }), handler[none, none])
		}
		tools.NewCatalogOf(name("a.b_c"), name("a_b.c"))
	})
}

// What schemas of later tools will say, and how it is enforced.
func TestDecodeOfEveryKindOfArgument(t *testing.T) {
	type in struct {
		Bytes   int               `json:"bytes,omitzero" jsonschema:"minimum=1,maximum=1024,default=32" doc:"How many."`
		Format  string            `json:"format,omitzero" jsonschema:"enum=base64,enum=hex,default=base64" doc:"How."`
		Context map[string]string `json:"context,omitzero" doc:"Pairs."`
		Names   []string          `json:"names,omitzero" jsonschema:"maxItems=3,uniqueItems=true,minLength=2,maxLength=5" doc:"Names."`
		Raw     bool              `json:"raw,omitzero" jsonschema:"default=true" doc:"Raw."`
		Share   float64           `json:"share,omitzero" jsonschema:"maximum=1" doc:"Share."`
		Secret  secret.Text       `json:"secret,omitzero" doc:"Secret."`
	}
	tool := tools.Define(tools.Tool{Name: "test.do", Title: "Do", Doc: "Does.", Effect: tools.Reads, Route: "GET /test"}, handler[in, struct{}])
	got, err := tool.Decode(nil)
	require.NoError(t, err)
	require.Equal(t, in{Bytes: 32, Format: "base64", Raw: true}, got, "defaults")
	got, err = tool.Decode(json.RawMessage(`{"raw":false,"share":0.5,"names":["ab","\u0063d"],"context":{"12345678":"v"},"secret":"s","bytes":1e1}`))
	require.NoError(t, err)
	require.Equal(t, in{Bytes: 10, Format: "base64", Names: []string{"ab", "cd"}, Context: map[string]string{"12345678": "v"}, Share: 0.5, Secret: secret.NewText("s")}, got)

	for args, want := range map[string]string{
		`{"format":"` + canary + `"}`:                       "/format: must be one of base64, hex",
		`{"bytes":1025}`:                                    "/bytes: must be at most 1024",
		`{"share":1.5}`:                                     "/share: must be at most 1",
		`{"raw":"` + canary + `"}`:                          "/raw: must be of type boolean",
		`{"names":"` + canary + `"}`:                        "/names: must be of type array",
		`{"names":["ab","` + canary + `"]}`:                 "/names/1: must have at most 5 characters",
		`{"names":["a"]}`:                                   "/names/0: must have at least 2 characters",
		`{"names":["ab","ab"]}`:                             "/names: must not have an item twice",
		`{"names":["ab","cd","ef","gh"]}`:                   "/names: must have at most 3 items",
		`{"context":{"12345678":1}}`:                        "/context: must be of type string",
		`{"context":{"` + canary + `":["` + canary + `"]}}`: "/context: must be of type string",
		`{"context":[1]}`:                                   "/context: must be of type object",
		`{"secret":{"` + canary + `":1}}`:                   "/secret: must be of type string",
		`{"context":{"a":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}}`: "/context: is nested too deeply",
		`{"bytes":0,"format":"x","names":1,"share":2,"raw":1}`:                        "/bytes: must be at least 1",
	} {
		for range 5 { // the first in order of declaration, always
			_, err := tool.Decode(json.RawMessage(args))
			require.Error(t, err)
			require.Equal(t, want, fault.From(err).Msg)
		}
	}
}
