package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/server"
	"vault-mcp/tools"
)

var olderVersions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"}

// offered are the tools of a server on which AWS KMS is not enabled.
func offered() []*tools.Tool {
	return slices.DeleteFunc(tools.NewCatalog().Tools(), (*tools.Tool).UsesKMS)
}

func TestInitialize(t *testing.T) {
	s := listen(t)
	for _, version := range olderVersions {
		t.Run("http "+version, func(t *testing.T) {
			c := openSession(t, s, aliceKey, "test", version)
			require.Equal(t, version, c.init.result(t)["protocolVersion"])
			require.Len(t, c.request(t, "tools/list", nil).result(t)["tools"], len(offered()))
			require.Nil(t, c.request(t, "ping", nil).Error)
		})
		t.Run("stdio "+version, func(t *testing.T) {
			c := openStdio(t, newStack(t), aliceKey, "test")
			require.Equal(t, version, c.initialize(t, version).result(t)["protocolVersion"])
			require.Len(t, c.request(t, "tools/list", nil).result(t)["tools"], len(offered()))
			require.Nil(t, c.request(t, "ping", nil).Error)
		})
	}
}

// A client that asks for a version which does not exist gets the newest that
// initialize can give, as the protocol has it.
func TestInitializeUnknownVersion(t *testing.T) {
	s := listen(t)
	for _, version := range []string{"1999-01-01", "2999-01-01", "x", modern} {
		require.Equal(t, "2025-11-25", openSession(t, s, aliceKey, "test", version).init.result(t)["protocolVersion"], version)
	}
	c := openStdio(t, s, aliceKey, "test")
	require.Equal(t, "2025-11-25", c.initialize(t, "1999-01-01").result(t)["protocolVersion"])
}

func TestVersionHeaders(t *testing.T) {
	s := listen(t)
	old := openSession(t, s, aliceKey, "test", legacy)
	list := message(t, 1, "tools/list", nil)
	modernList := message(t, 1, "tools/list", modernParams(nil, "test"))
	strange := modernParams(nil, "test")
	strange["_meta"].(object)["io.modelcontextprotocol/protocolVersion"] = "3000-" + marked
	named := message(t, 1, "tools/call", modernParams(object{"name": "kv.list"}, "test"))
	for name, tc := range map[string]struct {
		body    string
		headers []string
		status  int
		code    int
	}{
		"unknown old version":           {list, append(posted(aliceKey), "Mcp-Session-Id", old.id, "MCP-Protocol-Version", "2020-01-01"), 400, 0},
		"unknown later version":         {message(t, 1, "tools/list", strange), posted(aliceKey, "MCP-Protocol-Version", "3000-"+marked, "Mcp-Method", "tools/list"), 400, mcp.CodeUnsupportedProtocolVersion},
		"body without meta":             {list, modernHeaders(aliceKey, "tools/list", ""), 400, -32602},
		"meta without header":           {modernList, posted(aliceKey), 400, mcp.CodeHeaderMismatch},
		"meta and another":              {modernList, posted(aliceKey, "MCP-Protocol-Version", "2027-"+marked, "Mcp-Method", "tools/list"), 400, mcp.CodeHeaderMismatch},
		"other Mcp-Method":              {modernList, modernHeaders(aliceKey, "tools/"+marked, ""), 400, mcp.CodeHeaderMismatch},
		"no Mcp-Method":                 {modernList, posted(aliceKey, "MCP-Protocol-Version", modern), 400, mcp.CodeHeaderMismatch},
		"other Mcp-Name":                {named, modernHeaders(aliceKey, "tools/call", "kv.destroy"), 400, mcp.CodeHeaderMismatch},
		"Mcp-Name as base64, bad":       {named, modernHeaders(aliceKey, "tools/call", "=?base64?"+marked+"?="), 400, mcp.CodeHeaderMismatch},
		"Mcp-Name twice":                {named, append(modernHeaders(aliceKey, "tools/call", "kv.list"), "Mcp-Name", "kv.destroy"), 400, 0},
		"version twice":                 {modernList, append(modernHeaders(aliceKey, "tools/list", ""), "MCP-Protocol-Version", legacy), 400, 0},
		"session twice":                 {list, append(posted(aliceKey), "Mcp-Session-Id", old.id, "Mcp-Session-Id", "x"), 400, 0},
		"no session":                    {list, posted(aliceKey), 400, 0},
		"unknown session":               {list, posted(aliceKey, "Mcp-Session-Id", marked), 404, 0},
		"Accept without events":         {initialize(t, legacy, "x"), []string{"Content-Type", "application/json", "Accept", "application/json", "X-API-Key", aliceKey}, 400, 0},
		"method of other era":           {message(t, 1, "ping", modernParams(nil, "test")), modernHeaders(aliceKey, "ping", ""), 404, -32601},
		"notification, unknown version": {message(t, nil, "notifications/initialized", nil), posted(aliceKey, "Mcp-Session-Id", old.id, "MCP-Protocol-Version", "3000-"+marked), 400, mcp.CodeHeaderMismatch},
		"discover, older":               {message(t, 1, "server/discover", nil), old.headers(), 200, -32601},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.records(t, audit.Reject))
			r := s.do(t, http.MethodPost, "/mcp", tc.body, tc.headers...)
			require.Equal(t, tc.status, r.status, r.raw)
			require.NotContains(t, r.raw, marked)
			if tc.code != 0 {
				require.NotNil(t, r.Error, r.raw)
				require.Equal(t, tc.code, r.Error.Code, r.raw)
			} else {
				require.Equal(t, "application/problem+json", r.header.Get("Content-Type"))
			}
			rec := s.rejected(t, before)
			require.Equal(t, "alice", rec.Subject)
			require.Equal(t, r.header.Get("X-Request-Id"), rec.RequestID)
			s.unheard(t, marked)
		})
	}
	require.Zero(t, s.vault.requests())
}

func TestUnsupportedVersionNamesTheSupported(t *testing.T) {
	s := listen(t)
	for asked, repeated := range map[string]string{"2030-01-01": "2030-01-01", "v999.0.0": "v999.0.0", "2030-" + marked: "", "9234-5678-9012-3456-7890": ""} {
		params := modernParams(nil, "test")
		params["_meta"].(object)["io.modelcontextprotocol/protocolVersion"] = asked
		c := openStdio(t, s, aliceKey, "test")
		c.send(t, message(t, 1, "tools/list", params))
		r := c.line(t)
		require.NotNil(t, r.Error)
		require.Equal(t, mcp.CodeUnsupportedProtocolVersion, r.Error.Code)
		var data mcp.UnsupportedProtocolVersionData
		require.NoError(t, json.Unmarshal(r.Error.Data, &data))
		require.Equal(t, server.ProtocolVersions(), data.Supported)
		require.Equal(t, repeated, data.Requested)
	}
}

func TestDiscover(t *testing.T) {
	for _, open := range everyWay() {
		if open.name != "modern http" && open.name != "modern stdio" {
			continue
		}
		t.Run(open.name, func(t *testing.T) {
			s := listen(t)
			res := open.open(t, s, bobKey, "test").request(t, "server/discover", nil).result(t)
			require.Equal(t, []any{modern, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}, res["supportedVersions"])
			require.Equal(t, "private", res["cacheScope"])
			require.InDelta(t, 0, res["ttlMs"], 0)
			require.Equal(t, object{"tools": object{}, "prompts": object{}, "completions": object{}}, res["capabilities"])
			require.NotEmpty(t, res["instructions"])
			require.Zero(t, s.vault.requests(), "discovery needs no Vault")
		})
	}
}

func TestCapabilitiesOfOlderRevisions(t *testing.T) {
	s := listen(t)
	res := openSession(t, s, aliceKey, "test", legacy).init.result(t)
	require.Equal(t, object{"tools": object{}, "prompts": object{}, "completions": object{}}, res["capabilities"])
	require.Equal(t, "vault-mcp", res["serverInfo"].(object)["name"])
	require.Equal(t, "test", res["serverInfo"].(object)["version"])
}

// What a client of the SDK makes of the server, in both eras.
func TestSDKClient(t *testing.T) {
	s := listen(t)
	for _, version := range []string{modern, legacy} {
		t.Run(version, func(t *testing.T) {
			transport := &mcp.StreamableClientTransport{
				Endpoint: s.url + "/mcp", MaxRetries: -1,
				HTTPClient: &http.Client{Transport: withKey{s.http.Transport, bobKey}},
			}
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			session, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
			require.NoError(t, err)
			defer func() { require.NoError(t, session.Close()) }()
			require.Equal(t, version, session.InitializeResult().ProtocolVersion)
			var names []string
			for tool, err := range session.Tools(t.Context(), nil) {
				require.NoError(t, err)
				names = append(names, tool.Name)
			}
			require.Equal(t, []string{"kv.list", "kv.metadata", "kv.read", "whoami"}, names)
			res, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "kv_read", Arguments: object{"path": "a/b"}})
			require.NoError(t, err)
			require.False(t, res.IsError)
			require.Equal(t, object{"k": marked}, res.StructuredContent.(object)["data"])
		})
	}
}

type withKey struct {
	next http.RoundTripper
	key  string
}

func (w withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(context.WithoutCancel(r.Context())).WithContext(r.Context())
	r.Header.Set("X-Api-Key", w.key)
	return w.next.RoundTrip(r)
}

func toolsOf(t *testing.T, r reply) (list []object, names []string) {
	t.Helper()
	for _, tool := range r.result(t)["tools"].([]any) {
		list = append(list, tool.(object))
		names = append(names, tool.(object)["name"].(string))
	}
	return list, names
}

func TestListedTools(t *testing.T) {
	s := listen(t)
	for _, open := range everyWay() {
		t.Run(open.name, func(t *testing.T) {
			r := open.open(t, s, aliceKey, "test").request(t, "tools/list", nil)
			res := r.result(t)
			if open.name[0] == 'm' { // modern
				require.Equal(t, "private", res["cacheScope"])
				require.InDelta(t, 0, res["ttlMs"], 0)
			}
			list, names := toolsOf(t, r)
			require.True(t, slices.IsSorted(names), names)
			require.Equal(t, tools.Names(offered()), names)
			for _, tool := range list {
				require.NotEmpty(t, tool["title"])
				require.NotEmpty(t, tool["description"])
				for _, schema := range []string{"inputSchema", "outputSchema"} {
					require.Equal(t, "object", tool[schema].(object)["type"], schema)
				}
				require.NotEmpty(t, tool["outputSchema"].(object)["properties"])
				hints := tool["annotations"].(object)
				for _, hint := range []string{"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} {
					require.IsType(t, true, hints[hint], "%s of %s", hint, tool["name"])
				}
				require.Equal(t, tool["title"], hints["title"])
				require.Equal(t, false, hints["openWorldHint"])
			}
		})
	}
	require.Zero(t, s.vault.requests(), "a list needs no Vault")
	require.Empty(t, s.records(t, audit.Reject))
}

func TestToolNames(t *testing.T) {
	for _, tc := range []struct {
		setting    server.ToolNames
		client     string
		underscore bool
	}{
		{"", "claude-ai", true},
		{server.NamesAuto, "Claude-AI", true},
		{server.NamesAuto, "cursor-vscode", true},
		{server.NamesAuto, "cursor", true},
		{server.NamesAuto, "codex-mcp-client", true},
		{server.NamesAuto, "github-copilot-developer", true},
		{server.NamesAuto, "GitHub Copilot CLI", true},
		{server.NamesAuto, "copilot-coding-agent", true},
		{server.NamesAuto, "claude-code", false},
		{server.NamesAuto, "mcp-inspector", false},
		{server.NamesAuto, "Visual Studio Code", false},
		{server.NamesDotted, "claude-ai", false},
		{server.NamesUnderscore, "claude-code", true},
	} {
		s := listen(t, func(o *server.Options, _ *tools.Options) { o.ToolNames = tc.setting })
		want := []string{"kv.list", "kv.metadata", "kv.read", "whoami"}
		if tc.underscore {
			want = []string{"kv_list", "kv_metadata", "kv_read", "whoami"}
		}
		for _, open := range everyWay() {
			if open.name == "rpc" { // says no name
				continue
			}
			_, names := toolsOf(t, open.open(t, s, bobKey, tc.client).request(t, "tools/list", nil))
			require.Equal(t, want, names, "%s for %s over %s", tc.setting, tc.client, open.name)
		}
	}
	_, err := server.New(server.Options{ToolNames: "snake"})
	require.Error(t, err)
}

func TestEitherSpellingIsCalled(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.ToolNames = server.NamesDotted })
	for _, open := range everyWay() {
		c := open.open(t, s, aliceKey, "test")
		for _, name := range []string{"kv.read", "kv_read"} {
			before := len(s.records(t, audit.Outcome))
			res := call(t, c, name, object{"path": "app/config"}).result(t)
			require.NotContains(t, res, "isError", open.name)
			require.Equal(t, object{"k": marked}, res["structuredContent"].(object)["data"])
			text := res["content"].([]any)[0].(object)["text"].(string)
			structured, err := json.Marshal(res["structuredContent"])
			require.NoError(t, err)
			require.JSONEq(t, string(structured), text)
			outcomes := s.records(t, audit.Outcome)
			require.Len(t, outcomes, before+1)
			require.Equal(t, "kv.read", outcomes[before].Tool)
			require.Equal(t, c.transport(), outcomes[before].Transport)
			require.Equal(t, "cred-1", outcomes[before].CredentialID)
		}
	}
}

func TestHiddenToolsAreRefused(t *testing.T) {
	s := listen(t, func(_ *server.Options, o *tools.Options) { o.Exclude = []string{"kv.destroy"} })
	for _, open := range everyWay() {
		t.Run(open.name, func(t *testing.T) {
			for key, hidden := range map[string]string{aliceKey: "kv.destroy", bobKey: "kv.write"} {
				c := open.open(t, s, key, "test")
				_, names := toolsOf(t, c.request(t, "tools/list", nil))
				require.NotContains(t, names, hidden)
				before := len(s.records(t, audit.Outcome))
				r := call(t, c, hidden, object{"path": "a", "nonsense": marked})
				require.Equal(t, "forbidden", r.refusal(t).Code)
				require.NotContains(t, r.raw, marked)
				outcomes := s.records(t, audit.Outcome)
				require.Len(t, outcomes, before+1)
				require.Equal(t, "forbidden", outcomes[before].Outcome)
				require.Equal(t, r.refusal(t).RequestID, outcomes[before].RequestID)
			}
		})
	}
	require.Zero(t, s.vault.requests())
}

func TestUnknownTool(t *testing.T) {
	s := listen(t)
	for _, open := range everyWay() {
		c := open.open(t, s, aliceKey, "test")
		before := len(s.records(t, audit.Reject))
		r := call(t, c, marked, object{"path": marked})
		require.NotNil(t, r.Error, r.raw)
		require.Equal(t, -32602, r.Error.Code)
		require.NotContains(t, r.raw, marked)
		rec := s.rejected(t, before)
		require.Equal(t, "not_found", rec.Outcome)
		require.Equal(t, "alice", rec.Subject)
		require.Equal(t, c.transport(), rec.Transport)
		require.Equal(t, r.refusal(t).RequestID, rec.RequestID)
		s.unheard(t, marked)
	}
}

func TestUnknownMethods(t *testing.T) {
	s := listen(t)
	for _, open := range everyWay() {
		for _, method := range []string{"resources/delete", "tasks/get", "sampling/createMessage", "x/" + marked, "Tools/call"} {
			c := open.open(t, s, aliceKey, "test")
			before := len(s.records(t, audit.Reject))
			r := c.request(t, method, nil)
			require.NotNil(t, r.Error, r.raw)
			require.Equal(t, -32601, r.Error.Code, "%s over %s", method, open.name)
			require.NotContains(t, r.raw, marked)
			require.Equal(t, "not_found", s.rejected(t, before).Outcome)
			if open.name == "modern http" {
				require.Equal(t, http.StatusNotFound, r.status)
			}
		}
	}
}

// One curl, no handshake: what the prototype's users are used to.
func TestPlainRPC(t *testing.T) {
	s := listen(t)
	c := &rpcHTTP{s: s, key: bobKey}
	r := c.request(t, "tools/list", nil)
	require.Equal(t, http.StatusOK, r.status)
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	require.Equal(t, "no-store", r.header.Get("Cache-Control"))
	require.Empty(t, r.header.Get("Mcp-Session-Id"))
	r = call(t, c, "kv.read", object{"path": "a/b"})
	require.Equal(t, object{"k": marked}, r.result(t)["structuredContent"].(object)["data"])
	r = s.do(t, http.MethodGet, "/mcp/rpc", "", "X-API-Key", bobKey)
	require.Equal(t, http.StatusMethodNotAllowed, r.status)
	require.Equal(t, "POST", r.header.Get("Allow"))
}
