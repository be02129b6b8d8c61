package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/server"
	"vault-mcp/tools"
)

func readURI(t testing.TB, c client, uri string) reply {
	t.Helper()
	return c.request(t, "resources/read", object{"uri": uri})
}

// A resource is what the tool gives, over every transport: with its record, its
// type and its canonical URI.
func TestReadResource(t *testing.T) {
	s := listen(t)
	for _, way := range everyWay() {
		t.Run(way.name, func(t *testing.T) {
			c := way.open(t, s, bobKey, "test")
			for uri, want := range map[string][3]string{
				"kv://bob/app/x":           {"kv.read", "kv://bob/app/x", "read secret/data/mcp/bob/app/x"},
				"kv://bob/app/x?version=3": {"kv.read", "kv://bob/app/x?version=3", "read secret/data/mcp/bob/app/x"},
				"kv://bob/app/":            {"kv.list", "kv://bob/app/", "list secret/metadata/mcp/bob/app"},
				"kv://bob/":                {"kv.list", "kv://bob/", "list secret/metadata/mcp/bob"},
			} {
				before := len(s.records(t, audit.Outcome))
				res := readURI(t, c, uri).result(t)
				contents := res["contents"].([]any)
				require.Len(t, contents, 1)
				one := contents[0].(object)
				require.Equal(t, want[1], one["uri"])
				require.Equal(t, "application/json", one["mimeType"])
				if want[0] == "kv.read" {
					require.Contains(t, one["text"], marked)
				} else {
					require.JSONEq(t, `{"keys":["a"]}`, one["text"].(string))
				}
				require.Equal(t, strings.HasPrefix(way.name, "modern"), res["resultType"] == "complete")
				require.Equal(t, "private", res["cacheScope"])
				require.InDelta(t, 0, res["ttlMs"], 0)
				recs := s.records(t, audit.Outcome)
				require.Len(t, recs, before+1)
				rec := recs[before]
				require.Equal(t, []string{want[0], "ok", "bob", c.transport()}, []string{rec.Tool, rec.Outcome, rec.Subject, rec.Transport})
				require.Equal(t, []string{want[2]}, rec.Needs)
			}
		})
	}
	require.Empty(t, s.records(t, audit.Reject))
}

// What is refused is a JSON-RPC error with our object, recorded once, and nothing
// upstream.
func TestReadResourceRefused(t *testing.T) {
	s := withTokens(listen(t, withIssuer, func(_ *server.Options, o *tools.Options) { o.Prefix = "mcp" }))
	for _, way := range everyWay() {
		for name, tc := range map[string]struct {
			key, uri, code string
			rpc            int
		}{
			"no URI of ours": {bobKey, "file:///etc/passwd", "invalid", -32602},
			"a way out":      {bobKey, "kv://bob/../alice/x", "invalid", -32602},
			"another's":      {bobKey, "kv://alice/x", "forbidden", -32600},
			"empty":          {bobKey, "", "invalid", -32602},
			"any":            {bobKey, "kv:any", "invalid", -32602},
		} {
			t.Run(way.name+" "+name, func(t *testing.T) {
				before := len(s.records(t, audit.Outcome)) + len(s.records(t, audit.Reject))
				r := readURI(t, way.open(t, s, tc.key, "test"), tc.uri)
				require.NotNil(t, r.Error, r.raw)
				require.Equal(t, tc.code, r.refusal(t).Code)
				if way.name != "modern http" || tc.uri != "" { // the SDK wants a name in the header
					require.Equal(t, tc.rpc, r.Error.Code)
				}
				if tc.uri != "" {
					require.NotContains(t, r.raw, tc.uri)
				}
				require.Equal(t, before+1, len(s.records(t, audit.Outcome))+len(s.records(t, audit.Reject)))
			})
		}
	}
	require.Zero(t, s.vault.requests())
}

// A further scope is asked for as for the tool.
func TestReadResourceStepsUp(t *testing.T) {
	s := withTokens(listen(t, withIssuer))
	s.keys.set("lister", func() *auth.Principal {
		p := principal("lister", "cred-9", auth.Scopes{auth.List})
		p.Method, p.Ceiling = auth.MethodJWT, auth.AllScopes()
		return p
	}())
	for _, way := range everyWay() {
		c := way.open(t, s, "lister", "test")
		r := readURI(t, c, "kv://lister/x")
		require.Equal(t, "forbidden", r.refusal(t).Code)
		if !strings.HasSuffix(way.name, "stdio") {
			requireStepUp(t, s, r, "read")
		}
		require.NotNil(t, readURI(t, c, "kv://lister/").result(t)["contents"])
	}
}

// The frame gate holds the params of these methods to their types.
func TestFramesOfResources(t *testing.T) {
	s := listen(t)
	c := &rpcHTTP{s: s, key: aliceKey}
	for method, all := range map[string][]object{
		"resources/read": {
			nil,
			{},
			{"uri": 5},
			{"uri": nil},
			{"uri": object{}},
			{"URI": "kv://alice/x"},
			{"uri": "kv://alice/x", "Uri": "kv://alice/y"},
			{"uri": "kv://alice/" + strings.Repeat("a", 1024)},
			{"uri": "kv://alice/x", "requestState": 1},
			{"uri": "kv://alice/x", "inputResponses": "x"},
		},
		"resources/subscribe":      {nil, {"uri": 5}, {"uri": "kv://alice/x", "URI": ""}},
		"resources/unsubscribe":    {nil, {"uri": []string{"x"}}},
		"resources/list":           {{"cursor": 5}, {"cursor": object{}}, {"cursor": strings.Repeat("a", 1025)}, {"Cursor": "x"}},
		"resources/templates/list": {{"cursor": 5}, {"cursor": nil}},
	} {
		for _, params := range all {
			before := len(s.records(t, audit.Reject))
			r := c.request(t, method, params)
			require.NotNil(t, r.Error, "%s %v", method, params)
			require.Equal(t, -32602, r.Error.Code, "%s %v", method, params)
			require.Equal(t, "invalid", s.rejected(t, before).Outcome)
		}
	}
	for _, method := range []string{"resources/subscribe", "resources/unsubscribe"} { // which newer revisions do not have
		for _, params := range []object{nil, {"uri": "kv://alice/x"}} {
			before := len(s.records(t, audit.Reject))
			r := (&modernHTTP{s: s, key: aliceKey, name: "test"}).request(t, method, params)
			require.Equal(t, http.StatusNotFound, r.status, r.raw)
			require.Equal(t, -32601, r.Error.Code)
			require.Equal(t, "not_found", s.rejected(t, before).Outcome)
		}
	}
	require.Zero(t, s.vault.requests())
}

func TestListTemplates(t *testing.T) {
	s := listen(t)
	s.keys.set("writer", principal("writer", "cred-8", auth.Scopes{auth.Write}))
	for _, way := range everyWay() {
		res := way.open(t, s, bobKey, "test").request(t, "resources/templates/list", nil).result(t)
		all := res["resourceTemplates"].([]any)
		require.Len(t, all, 1)
		one := all[0].(object)
		require.Equal(t, "kv://{subject}/{+path}{?version}", one["uriTemplate"])
		require.Equal(t, "application/json", one["mimeType"])
		require.Equal(t, "Secrets of bob", one["title"])
		require.Contains(t, one["description"], "subject is bob")
		require.Equal(t, "private", res["cacheScope"])
		require.Equal(t, []any{}, way.open(t, s, "writer", "test").request(t, "resources/templates/list", nil).result(t)["resourceTemplates"])
	}
	before := len(s.records(t, audit.Reject))
	r := (&rpcHTTP{s: s, key: bobKey}).request(t, "resources/templates/list", object{"cursor": "x"})
	require.Equal(t, "invalid", r.refusal(t).Code)
	s.rejected(t, before)
	require.Zero(t, s.vault.requests())
}

func TestListResources(t *testing.T) {
	s := listen(t)
	s.keys.set("writer", principal("writer", "cred-8", auth.Scopes{auth.Write}))
	for _, way := range everyWay() {
		c := way.open(t, s, bobKey, "test")
		res := c.request(t, "resources/list", nil).result(t)
		require.Equal(t, []any{object{"uri": "kv://bob/a", "name": "a", "mimeType": "application/json"}}, res["resources"])
		require.NotContains(t, res, "nextCursor")
		require.Equal(t, "private", res["cacheScope"])
		require.Equal(t, strings.HasPrefix(way.name, "modern"), res["resultType"] == "complete")
		before := len(s.records(t, audit.Outcome))
		r := c.request(t, "resources/list", object{"cursor": "bm9uc2Vuc2U"})
		require.Equal(t, "invalid", r.refusal(t).Code)
		require.Len(t, s.records(t, audit.Outcome), before+1)
		none := way.open(t, s, "writer", "test").request(t, "resources/list", nil)
		require.Equal(t, []any{}, none.result(t)["resources"])
		require.NotEqual(t, http.StatusForbidden, none.status)
	}
	require.Equal(t, len(everyWay()), s.vault.requests())
}
