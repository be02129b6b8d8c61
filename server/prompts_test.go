package server_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// promptNames are the names of a list of prompts.
func promptNames(res object) (names []string) {
	for _, p := range res["prompts"].([]any) {
		names = append(names, p.(object)["name"].(string))
	}
	return names
}

func getPrompt(t testing.TB, c client, name string, args object) reply {
	t.Helper()
	return c.request(t, "prompts/get", object{"name": name, "arguments": args})
}

// text is a prompt's text.
func promptText(t testing.TB, r reply) string {
	t.Helper()
	messages := r.result(t)["messages"].([]any)
	require.Len(t, messages, 1, r.raw)
	message := messages[0].(object)
	require.Equal(t, "user", message["role"])
	return message["content"].(object)["text"].(string)
}

func complete(t testing.TB, c client, ref object, name, value string, given object) reply {
	t.Helper()
	params := object{"ref": ref, "argument": object{"name": name, "value": value}}
	if given != nil {
		params["context"] = object{"arguments": given}
	}
	return c.request(t, "completion/complete", params)
}

func promptRef(name string) object { return object{"type": "ref/prompt", "name": name} }

// Prompts over every transport in every era: shown to whom they are of use, given
// with arguments in them, and refused as calls are, each with one record.
func TestPrompts(t *testing.T) {
	for _, open := range everyWay() {
		t.Run(open.name, func(t *testing.T) {
			s := listen(t)
			c := open.open(t, s, aliceKey, "test")
			listed := c.request(t, "prompts/list", nil).result(t)
			require.Equal(t, []string{"rotate_secret", "request_database_access", "sign_artifact"}, promptNames(listed))
			require.Equal(t, "private", listed["cacheScope"])
			require.InDelta(t, 0, listed["ttlMs"], 0)
			require.NotContains(t, listed, "nextCursor")
			path := listed["prompts"].([]any)[0].(object)["arguments"].([]any)[0].(object)
			require.Equal(t, "path", path["name"])
			require.Equal(t, true, path["required"])
			require.NotEmpty(t, path["description"])

			text := promptText(t, getPrompt(t, c, "rotate_secret", object{"path": "app/db"}))
			require.Contains(t, text, `"app/db"`)
			require.Contains(t, text, "kv.metadata")
			outcomes := s.records(t, audit.Outcome)
			require.Len(t, outcomes, 1)
			require.Equal(t, "prompts.get", outcomes[0].Tool)
			require.Equal(t, "alice", outcomes[0].Subject)
			require.Equal(t, c.transport(), outcomes[0].Transport)

			for about, refused := range map[string]reply{
				"no such prompt":   getPrompt(t, c, marked, object{}),
				"no path":          getPrompt(t, c, "rotate_secret", object{}),
				"no arguments":     c.request(t, "prompts/get", object{"name": "rotate_secret"}),
				"a bad path":       getPrompt(t, c, "rotate_secret", object{"path": "../" + marked}),
				"unknown argument": getPrompt(t, c, "rotate_secret", object{"path": "a", marked: marked}),
				"a name in error":  getPrompt(t, c, "rotate_secret", object{"path": "a", "how": marked}),
			} {
				require.NotNil(t, refused.Error, about)
				require.Equal(t, -32602, refused.Error.Code, about)
				require.NotContains(t, refused.raw, marked, about)
				id := refused.refusal(t).RequestID
				require.Len(t, slices.DeleteFunc(s.records(t, audit.Outcome), func(r audit.Record) bool { return r.RequestID != id }), 1, about)
			}
			s.unheard(t, marked)

			// Who may only read has no use for any of them.
			bob := open.open(t, s, bobKey, "test")
			require.Empty(t, promptNames(bob.request(t, "prompts/list", nil).result(t)))
			forbidden := getPrompt(t, bob, "rotate_secret", object{"path": "../x"})
			require.Equal(t, "forbidden", forbidden.refusal(t).Code)
			require.Equal(t, -32600, forbidden.Error.Code)
			require.Zero(t, s.vault.requests())
			require.Empty(t, s.records(t, audit.Reject))

			again := c.request(t, "prompts/list", object{"cursor": marked})
			require.Equal(t, -32602, again.Error.Code)
			require.NotContains(t, again.raw, marked)
			s.rejected(t, 0)
		})
	}
}

// Completion over every transport in every era.
func TestCompletion(t *testing.T) {
	for _, open := range everyWay() {
		t.Run(open.name, func(t *testing.T) {
			s := listen(t)
			s.keys.set(aliceKey, func() *auth.Principal {
				p := principal("alice", "cred-1", auth.AllScopes())
				p.Grants = auth.Grants{"database": {"ro", "rw", "alice--*"}}
				return p
			}())
			c := open.open(t, s, aliceKey, "test")
			completion := func(r reply) object { t.Helper(); return r.result(t)["completion"].(object) }

			require.Equal(t, object{"values": []any{"ro", "rw"}, "total": 2.0}, completion(complete(t, c, promptRef("request_database_access"), "role", "", nil)))
			require.Equal(t, object{"values": []any{"rw"}, "total": 1.0}, completion(complete(t, c, promptRef("request_database_access"), "role", "rw", nil)))
			require.Equal(t, []any{}, completion(complete(t, c, promptRef("test_prompt_with_arguments"), "arg1", "par", nil))["values"])
			require.Zero(t, s.vault.requests())

			require.Equal(t, []any{"app/a"}, completion(complete(t, c, promptRef("rotate_secret"), "path", "app/", nil))["values"])
			resource := object{"type": "ref/resource", "uri": tools.ResourceTemplate}
			require.Equal(t, []any{"a"}, completion(complete(t, c, resource, "path", "", object{"subject": "alice"}))["values"])
			require.Equal(t, []any{"alice"}, completion(complete(t, c, resource, "subject", "al", nil))["values"])
			require.Equal(t, 2, s.vault.requests())

			for about, want := range map[string]struct {
				reply
				kind string
				code int
			}{
				"a bad path":          {complete(t, c, promptRef("rotate_secret"), "path", "../"+marked, nil), "invalid", -32602},
				"another's resources": {complete(t, c, resource, "path", "", object{"subject": "bob"}), "forbidden", -32600},
				"a bad subject":       {complete(t, c, resource, "path", "", object{"subject": "../" + marked}), "invalid", -32602},
				"a long value":        {complete(t, c, promptRef("rotate_secret"), "how", string(make([]byte, 1025)), nil), "invalid", -32602},
			} {
				require.NotNil(t, want.Error, about)
				require.Equal(t, want.code, want.Error.Code, about)
				require.Equal(t, want.kind, want.refusal(t).Code, about)
				require.NotContains(t, want.raw, marked, about)
			}
			bob := open.open(t, s, bobKey, "test")
			require.Equal(t, "forbidden", complete(t, bob, promptRef("rotate_secret"), "path", "", nil).refusal(t).Code)
			require.Equal(t, []any{"a"}, completion(complete(t, bob, resource, "path", "", nil))["values"])
			require.Equal(t, 3, s.vault.requests())
			require.Empty(t, s.records(t, audit.Reject))
			s.unheard(t, marked)
		})
	}
}

// A text spells tools as the client takes them.
func TestPromptSpelling(t *testing.T) {
	for _, tc := range []struct {
		names  server.ToolNames
		client string
		want   string
	}{
		{server.NamesAuto, "claude-ai", "kv_metadata"},
		{server.NamesAuto, "test", "kv.metadata"},
		{server.NamesUnderscore, "test", "kv_metadata"},
		{server.NamesDotted, "claude-ai", "kv.metadata"},
	} {
		s := listen(t, func(o *server.Options, _ *tools.Options) { o.ToolNames = tc.names })
		for _, open := range everyWay() {
			if open.name == "rpc" { // where nobody says which client it is
				continue
			}
			text := promptText(t, getPrompt(t, open.open(t, s, aliceKey, tc.client), "rotate_secret", object{"path": "a"}))
			require.Contains(t, text, tc.want, open.name)
		}
	}
}

// What the frame gate refuses of these methods never reaches the SDK, which would
// repeat it; and leaves one record.
func TestPromptFrames(t *testing.T) {
	s := listen(t)
	good := object{"ref": promptRef("rotate_secret"), "argument": object{"name": "how", "value": ""}}
	but := func(name string, value any) object {
		o := object{}
		for k, v := range good {
			o[k] = v
		}
		o[name] = value
		return o
	}
	many := object{}
	for i := range 33 {
		many[string(rune('A'+i))] = "x"
	}
	for _, open := range everyWay() {
		c := open.open(t, s, aliceKey, "test")
		require.Nil(t, c.request(t, "completion/complete", good).Error)
		for _, bad := range []struct {
			method string
			params object
		}{
			{"prompts/get", object{}},
			{"prompts/get", object{"name": "rotate_secret", "arguments": []string{marked}}},
			{"prompts/get", object{"name": "rotate_secret", "arguments": object{"path": object{marked: marked}}}},
			{"prompts/get", object{"name": "rotate_secret", "arguments": object{"path": nil}}},
			{"prompts/get", object{"name": "rotate_secret", "arguments": many}},
			{"prompts/get", object{"name": "rotate_secret", "Arguments": object{}}},
			{"prompts/get", object{"name": "rotate_secret", "requestState": 5}},
			{"completion/complete", object{}},
			{"completion/complete", but("ref", nil)},
			{"completion/complete", but("ref", marked)},
			{"completion/complete", but("ref", object{"type": marked})},
			{"completion/complete", but("ref", object{"type": "ref/prompt"})},
			{"completion/complete", but("ref", object{"type": "ref/prompt", "name": ""})},
			{"completion/complete", but("ref", object{"type": "ref/prompt", "name": "rotate_secret", "uri": marked})},
			{"completion/complete", but("ref", object{"type": "ref/resource", "uri": string(make([]byte, 300))})},
			{"completion/complete", but("ref", object{"type": "ref/resource", "uri": 5})},
			{"completion/complete", but("argument", nil)},
			{"completion/complete", but("argument", object{"name": "how"})},
			{"completion/complete", but("argument", object{"name": 5, "value": marked})},
			{"completion/complete", but("argument", object{"name": "", "value": marked})},
			{"completion/complete", but("argument", object{"name": "how", "value": object{marked: 1}})},
			{"completion/complete", but("context", marked)},
			{"completion/complete", but("context", object{"arguments": marked})},
			{"completion/complete", but("context", object{"arguments": object{"path": 5}})},
			{"completion/complete", but("context", object{"arguments": many})},
			{"completion/complete", but("Ref", object{})},
		} {
			before := len(s.records(t, audit.Reject))
			r := c.request(t, bad.method, bad.params)
			require.NotNil(t, r.Error, "%v", bad)
			require.Equal(t, -32602, r.Error.Code, "%v: %s", bad, r.raw)
			require.NotContains(t, r.raw, marked)
			require.Equal(t, "invalid", r.refusal(t).Code)
			require.Equal(t, "invalid", s.rejected(t, before).Outcome, "%v", bad)
		}
		before := len(s.records(t, audit.Reject))
		r := c.request(t, "completion/complete", but("argument", object{"name": "how", "value": string(make([]byte, 20<<10))}))
		require.Equal(t, -32600, r.Error.Code, "a request of more than 64 KiB, with its escapes")
		require.Equal(t, "invalid", s.rejected(t, before).Outcome)
	}
	s.unheard(t, marked)
}

// A shut credential gets neither list nor prompt nor completion over HTTP.
func TestPromptsWantACredential(t *testing.T) {
	s := listen(t)
	for _, method := range []string{"prompts/list", "prompts/get", "completion/complete"} {
		r := (&rpcHTTP{s: s, key: "nosuch"}).request(t, method, object{"name": "rotate_secret"})
		require.Equal(t, http.StatusUnauthorized, r.status, method)
	}
}
