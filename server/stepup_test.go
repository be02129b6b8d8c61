package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// A call for which a further scope would do is answered with 403 over HTTP and
// with isError over stdio; in each case once, with one record, and Vault is not
// asked.
func TestStepUp(t *testing.T) {
	s := withTokens(listen(t, withIssuer))
	for _, way := range everyWay() {
		t.Run(way.name, func(t *testing.T) {
			before := len(s.records(t, audit.Outcome))
			c := way.open(t, s, readerToken, "test")
			r := call(t, c, "kv_write", object{"path": "a", "data": object{"k": marked}})
			require.Equal(t, "forbidden", r.refusal(t).Code)
			recs := s.records(t, audit.Outcome)
			require.Len(t, recs, before+1)
			rec := recs[before]
			require.Equal(t, "forbidden", rec.Outcome)
			require.Equal(t, []string{"kv.write", "write", "reader", "jwt"}, []string{rec.Tool, rec.Scope, rec.Subject, rec.AuthMethod})
			require.Equal(t, r.refusal(t).RequestID, rec.RequestID)
			require.Contains(t, rec.Args, "*", "what was asked for is on the record")
			if strings.HasSuffix(way.name, "stdio") {
				require.Nil(t, r.Error)
			} else {
				requireStepUp(t, s, r, "write")
			}
			require.Equal(t, c.transport(), rec.Transport)
			// And it goes on.
			require.NotEqual(t, true, call(t, c, "kv.read", object{"path": "a"}).result(t)["isError"])
		})
	}
	require.Empty(t, s.records(t, audit.Reject))
	require.Equal(t, len(everyWay()), s.vault.requests(), "reads")
}

// requireStepUp wants the answer to a call for which a further scope would do.
func requireStepUp(t *testing.T, s *stack, r reply, scope string) {
	t.Helper()
	require.Equal(t, http.StatusForbidden, r.status, r.raw)
	require.Equal(t, map[string]string{
		"realm": "vault-mcp", "error": "insufficient_scope", "scope": scope,
		"resource_metadata": s.url + "/.well-known/oauth-protected-resource/mcp",
	}, challengeOf(t, r))
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	require.NotNil(t, r.Error, r.raw)
	require.Equal(t, -32600, r.Error.Code)
	require.NotEmpty(t, r.ID)
	require.NotContains(t, r.raw, marked)
}

// Every other refusal stays in the result of the call.
func TestNoStepUp(t *testing.T) {
	s := withTokens(listen(t, withIssuer, func(_ *server.Options, o *tools.Options) { o.Exclude = []string{"kv.destroy"} }))
	for name, tc := range map[string]struct {
		key, tool string
		args      object
		code      string
	}{
		"beyond the ceiling":         {cappedToken, "kv.write", object{"path": "a", "data": object{}}, "forbidden"},
		"beyond a ceiling of one":    {kvOnlyToken, "kv.delete", object{"path": "a"}, "forbidden"},
		"beyond a ceiling of others": {kvOnlyToken, "transit.encrypt", object{"key": "a", "plaintext": "eA=="}, "forbidden"},
		"an API key":                 {bobKey, "kv.write", object{"path": "a", "data": object{}}, "forbidden"},
		"no grant":                   {readerToken, "transit.decrypt", object{"key": "other", "ciphertext": "vault:v1:eA=="}, "forbidden"},
		"switched off":               {readerToken, "kv.destroy", object{"path": "a", "versions": []int{1}}, "forbidden"},
		"bad argument":               {readerToken, "kv.read", object{"path": "../a"}, "invalid"},
	} {
		for _, way := range everyWay() {
			t.Run(name+" "+way.name, func(t *testing.T) {
				before := len(s.records(t, audit.Outcome))
				r := call(t, way.open(t, s, tc.key, "test"), tc.tool, tc.args)
				require.Equal(t, tc.code, r.refusal(t).Code, r.raw)
				require.Nil(t, r.Error)
				require.Empty(t, r.header["Www-Authenticate"])
				require.Len(t, s.records(t, audit.Outcome), before+1)
			})
		}
	}
}

// A ceiling that is narrowed to the tool's engine permits its scope there.
func TestStepUpWithinANarrowCeiling(t *testing.T) {
	s := withTokens(listen(t, withIssuer))
	for _, way := range everyWay()[:3] {
		c := way.open(t, s, kvOnlyToken, "test")
		requireStepUp(t, s, call(t, c, "kv.read", object{"path": "a"}), "read")
		requireStepUp(t, s, call(t, c, "kv.write", object{"path": "a", "data": object{}}), "write")
	}
}

// Without an authorization server the challenge still says which scope.
func TestStepUpWithoutMetadata(t *testing.T) {
	s := withTokens(listen(t))
	r := call(t, &rpcHTTP{s: s, key: readerToken}, "kv.write", object{"path": "a", "data": object{}})
	require.Equal(t, http.StatusForbidden, r.status)
	require.Equal(t, map[string]string{"realm": "vault-mcp", "error": "insufficient_scope", "scope": "write"}, challengeOf(t, r))
}

// A call that wants more scope counts against the limit like any other, and one
// beyond the limit is told so.
func TestStepUpCounts(t *testing.T) {
	for _, way := range everyWay()[:3] {
		t.Run(way.name, func(t *testing.T) {
			s := withTokens(listen(t, withIssuer))
			c := way.open(t, s, limitedToken, "test")
			for range 3 {
				requireStepUp(t, s, call(t, c, "kv.write", object{"path": "a", "data": object{}}), "write")
			}
			require.Equal(t, "rate_limited", call(t, c, "kv.write", object{"path": "a", "data": object{}}).refusal(t).Code)
			require.Equal(t, "rate_limited", call(t, c, "kv.read", object{"path": "a"}).refusal(t).Code)
			require.Len(t, s.records(t, audit.Outcome), 5)
		})
	}
}

// What a peek into the message, or trust in its headers, would let pass or would
// take for something else: no frame makes a call that its token has no scope for,
// and none is told to step up for another tool than it names.
func TestStepUpCannotBeBypassed(t *testing.T) {
	s := withTokens(listen(t, withIssuer))
	const args = `"arguments":{"path":"a","data":{"k":"v"}}`
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"` + modern + `","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}`
	write := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv.write",` + args + `}}`
	old := openSession(t, s, readerToken, "test", legacy)
	for name, tc := range map[string]struct {
		body    string
		headers []string
		stepsUp bool
	}{
		"method twice in other case": {`{"jsonrpc":"2.0","id":7,"method":"tools/call","Method":"ping","params":{"name":"kv.write",` + args + `}}`, old.headers(), false},
		"name twice in other case":   {`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv.write","Name":"kv.read",` + args + `}}`, old.headers(), false},
		"name twice":                 {`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv.read","name":"kv.write",` + args + `}}`, old.headers(), false},
		"batch":                      {`[` + write + `]`, old.headers(), false},
		"batch without a version":    {`[` + write + `]`, posted(readerToken, "Mcp-Session-Id", old.id), false},
		"no version":                 {write, posted(readerToken, "Mcp-Session-Id", old.id), true},
		"harmless Mcp-Name":          {write, append(old.headers(), "Mcp-Name", "kv.read", "Mcp-Method", "ping"), true},
		"escaped name":               {`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv\u002ewrite",` + args + `}}`, old.headers(), true},
		"other spelling":             {`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"kv_write",` + args + `}}`, old.headers(), true},
		"params first":               {`{"params":{` + args + `,"name":"kv.write"},"method":"tools/call","id":7,"jsonrpc":"2.0"}`, old.headers(), true},
		"modern, harmless Mcp-Name":  {strings.Replace(write, args, args+","+meta, 1), modernHeaders(readerToken, "tools/call", "kv.read"), false},
		"modern, no Mcp-Name":        {strings.Replace(write, args, args+","+meta, 1), modernHeaders(readerToken, "tools/call", ""), false},
		"modern, other Mcp-Method":   {strings.Replace(write, args, args+","+meta, 1), modernHeaders(readerToken, "ping", "kv.write"), false},
		"modern":                     {strings.Replace(write, args, args+","+meta, 1), modernHeaders(readerToken, "tools/call", "kv.write"), true},
		"old header, modern body":    {strings.Replace(write, args, args+","+meta, 1), old.headers(), false},
		"session of another":         {write, posted(aliceKey, "Mcp-Session-Id", old.id), false},
	} {
		t.Run(name, func(t *testing.T) {
			outcomes, rejects := len(s.records(t, audit.Outcome)), len(s.records(t, audit.Reject))
			r := s.do(t, http.MethodPost, "/mcp", tc.body, tc.headers...)
			if tc.stepsUp {
				requireStepUp(t, s, r, "write")
				require.Equal(t, "7", string(r.ID))
			} else {
				require.GreaterOrEqual(t, r.status, 400, r.raw)
				require.Empty(t, r.header["Www-Authenticate"])
			}
			written := len(s.records(t, audit.Outcome)) - outcomes + len(s.records(t, audit.Reject)) - rejects
			require.Equal(t, 1, written, "records")
		})
	}
	require.Zero(t, s.vault.requests())
}

// Calls of many at once get each their own answer.
func TestStepUpSideBySide(t *testing.T) {
	s := withTokens(listen(t, withIssuer))
	old := openSession(t, s, readerToken, "test", legacy)
	type got struct {
		wrote bool
		r     reply
	}
	all := make(chan got, 40)
	for i := range cap(all) {
		go func() {
			tool, args := "kv.read", object{"path": "a"}
			if i%2 == 0 {
				tool, args = "kv.write", object{"path": "a", "data": object{}}
			}
			all <- got{i%2 == 0, call(t, old, tool, args)}
		}()
	}
	for range cap(all) {
		if g := <-all; g.wrote {
			requireStepUp(t, s, g.r, "write")
		} else {
			require.Equal(t, http.StatusOK, g.r.status)
		}
	}
}
