package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// CVE-2026-52869: a session's id is no credential. Whoever else sends it gets
// nothing, in any method, and the session's owner loses nothing.
func TestCVE_2026_52869_session_of_another(t *testing.T) {
	s := listen(t)
	alices := openSession(t, s, aliceKey, "test", legacy)
	stolen := posted(bobKey, "Mcp-Session-Id", alices.id, "MCP-Protocol-Version", legacy)
	for method, body := range map[string]string{
		http.MethodPost: message(t, 1, "tools/call", object{"name": "kv.read", "arguments": object{"path": "a"}}),
		http.MethodGet:  "", http.MethodDelete: "",
	} {
		before := len(s.records(t, audit.Reject))
		r := s.do(t, method, "/mcp", body, stolen...)
		require.Equal(t, http.StatusForbidden, r.status, r.raw)
		rec := s.rejected(t, before)
		require.Equal(t, "bob", rec.Subject)
		require.Equal(t, "forbidden", rec.Outcome)
		require.Equal(t, r.refusal(t).RequestID, rec.RequestID)
		s.unheard(t, alices.id)
	}
	require.Zero(t, s.vault.requests())
	require.Nil(t, alices.request(t, "ping", nil).Error)
	require.Zero(t, s.rejectedWithout(t, "Mcp-Session-Id", alices.id))
}

// rejectedWithout sends a request of a session without a credential.
func (s *stack) rejectedWithout(t *testing.T, header ...string) int {
	t.Helper()
	r := s.do(t, http.MethodPost, "/mcp", message(t, 1, "ping", nil), append([]string{"Content-Type", "application/json", "Accept", "*/*"}, header...)...)
	require.Equal(t, http.StatusUnauthorized, r.status)
	return s.vault.requests()
}

// The contexts of a session are those of the request that opened it; what a
// call is recorded with must be its own.
func TestCallsAreOfTheirOwnCredential(t *testing.T) {
	s := listen(t)
	c := openSession(t, s, aliceKey, "test", legacy)
	require.NotContains(t, call(t, c, "kv.read", object{"path": "a"}).result(t), "isError")
	c.key = alice2Key
	require.NotContains(t, call(t, c, "kv.read", object{"path": "a"}).result(t), "isError")
	var used []string
	for _, rec := range append(s.records(t, audit.Attempt), s.records(t, audit.Outcome)...) {
		used = append(used, rec.CredentialID)
	}
	require.Equal(t, []string{"cred-1", "cred-2", "cred-1", "cred-2"}, used)

	// Rights are those of now as well, and so is their end.
	s.keys.set(alice2Key, principal("alice", "cred-2", auth.Scopes{auth.List}))
	require.Equal(t, "forbidden", call(t, c, "kv.read", object{"path": "a"}).refusal(t).Code)
	_, names := toolsOf(t, c.request(t, "tools/list", nil))
	require.Equal(t, []string{"kv.list", "whoami"}, names)
	s.keys.set(alice2Key, nil)
	require.Equal(t, http.StatusUnauthorized, c.request(t, "tools/list", nil).status)
}

// Over stdio the launch credential is asked on every call.
func TestLaunchCredentialOfNow(t *testing.T) {
	s := newStack(t)
	c := openStdio(t, s, aliceKey, "test")
	c.initialize(t, legacy)
	require.NotContains(t, call(t, c, "kv.read", object{"path": "a"}).result(t), "isError")
	expired := principal("alice", "cred-1", auth.AllScopes())
	expired.ExpiresAt = time.Now().Add(-time.Second)
	s.keys.set(aliceKey, expired)
	require.Equal(t, "unauthenticated", call(t, c, "kv.read", object{"path": "a"}).refusal(t).Code)
	r := c.request(t, "tools/list", nil)
	require.NotNil(t, r.Error)
	require.Equal(t, "unauthenticated", r.refusal(t).Code)
	s.keys.set(aliceKey, nil)
	require.Equal(t, "unauthenticated", call(t, c, "kv.read", object{"path": "a"}).refusal(t).Code)
	require.Equal(t, "unauthenticated", call(t, c, "no.such.tool", nil).refusal(t).Code, "who is nobody learns nothing of tools")
	require.Len(t, s.records(t, audit.Reject), 3)
	require.Equal(t, 1, s.vault.requests())
}

func TestBoundsOfSessions(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.MaxSessions, o.MaxSessionsPerPrincipal = 3, 2 })
	open := func(key string) reply {
		return s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted(key)...)
	}
	first := openSession(t, s, aliceKey, "test", legacy)
	openSession(t, s, alice2Key, "test", legacy)

	before := len(s.records(t, audit.Reject))
	r := open(aliceKey)
	require.Equal(t, http.StatusTooManyRequests, r.status, "two keys of a principal share its bound")
	require.NotEmpty(t, r.header.Get("Retry-After"))
	require.Equal(t, "rate_limited", s.rejected(t, before).Outcome)

	openSession(t, s, bobKey, "test", legacy)
	s.keys.set("carol", principal("carol", "cred-4", auth.AllScopes()))
	before = len(s.records(t, audit.Reject))
	r = open("carol")
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Equal(t, "unavailable", s.rejected(t, before).Outcome)

	// Requests that open nothing go on; an end makes room.
	require.NotContains(t, call(t, &modernHTTP{s: s, key: "carol"}, "kv.list", nil).result(t), "isError")
	require.Equal(t, http.StatusNoContent, s.do(t, http.MethodDelete, "/mcp", "", first.headers()...).status)
	require.Equal(t, http.StatusNotFound, first.request(t, "ping", nil).status, "a session that was ended")
	require.Equal(t, http.StatusOK, open("carol").status)
	require.Equal(t, http.StatusServiceUnavailable, open(aliceKey).status)
}

// An initialize that fails holds no place.
func TestFailedInitializeTakesNoSeat(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.MaxSessions = 1 })
	for range 5 {
		r := s.do(t, http.MethodPost, "/mcp", message(t, 1, "initialize", object{"protocolVersion": 5}), posted(aliceKey)...)
		require.NotNil(t, r.Error, r.raw)
		r = s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "x"), posted(aliceKey, "MCP-Protocol-Version", "2020-01-01")...)
		require.Equal(t, http.StatusBadRequest, r.status)
	}
	openSession(t, s, aliceKey, "test", legacy)
}

func TestUnusedSessionsEnd(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) {
		o.SessionTimeout, o.MaxSessions = 50*time.Millisecond, 1
	})
	c := openSession(t, s, aliceKey, "test", legacy)
	eventually(t, "the session has ended", func() bool {
		return s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted(bobKey)...).status == http.StatusOK
	})
	require.Equal(t, http.StatusNotFound, c.request(t, "ping", nil).status)
}

func TestChallenges(t *testing.T) {
	addresses := &countingAddresses{}
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.Addresses = addresses })
	expired := principal("alice", "cred-1", auth.AllScopes())
	expired.ExpiresAt = time.Now().Add(-time.Second)
	s.keys.set("expired", expired)
	s.keys.set("hollow", &auth.Principal{})
	for name, tc := range map[string]struct {
		headers   []string
		challenge string
		failures  int
	}{
		"none":    {nil, `Bearer realm="vault-mcp"`, 0},
		"wrong":   {[]string{"X-API-Key", marked}, `Bearer realm="vault-mcp", error="invalid_token"`, 1},
		"expired": {[]string{"X-API-Key", "expired"}, `Bearer realm="vault-mcp", error="invalid_token"`, 1},
		"hollow":  {[]string{"X-API-Key", "hollow"}, `Bearer realm="vault-mcp", error="invalid_token"`, 1},
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
			before, failed := len(s.records(t, audit.Reject)), addresses.failed
			body := ""
			if method == http.MethodPost {
				body = initialize(t, legacy, "test")
			}
			r := s.do(t, method, "/mcp", body, append([]string{"Content-Type", "application/json", "Accept", "*/*"}, tc.headers...)...)
			require.Equal(t, http.StatusUnauthorized, r.status, name)
			require.Equal(t, tc.challenge, r.header.Get("Www-Authenticate"))
			require.Equal(t, "application/problem+json", r.header.Get("Content-Type"))
			require.Equal(t, "a valid credential is needed", r.refusal(t).Message, "what is wrong with it is not told")
			require.Equal(t, "unauthenticated", s.rejected(t, before).Outcome)
			require.Equal(t, failed+tc.failures, addresses.failed)
			s.unheard(t, marked)
		}
	}
}

// countingAddresses lets everybody in until it is told otherwise. Requests of
// these tests come one at a time.
type countingAddresses struct {
	failed  int
	refuses bool
}

func (a *countingAddresses) Allow(addr string) bool { return !a.refuses && addr == "127.0.0.1" }
func (a *countingAddresses) Failed(string)          { a.failed++ }

// An address over its limit is refused before its credential is looked at, and
// a flood of it leaves one record and not a thousand.
func TestLimitPerAddress(t *testing.T) {
	addresses := &countingAddresses{refuses: true}
	s := listen(t, func(o *server.Options, _ *tools.Options) { o.Addresses = addresses })
	for range 50 {
		r := s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted("panic")...)
		require.Equal(t, http.StatusTooManyRequests, r.status)
		require.Equal(t, "10", r.header.Get("Retry-After"))
	}
	recs := s.records(t, audit.Reject)
	require.Len(t, recs, 1)
	require.Equal(t, "rate_limited", recs[0].Outcome)
	require.NoError(t, s.waitStopped(t))
	recs = s.records(t, audit.Reject)
	require.Len(t, recs, 2, "how many were not recorded is recorded at the end")
	require.Contains(t, recs[1].Detail, "49 ")
}

// A flood of refusals is recorded one by one only so far, and counted beyond.
func TestFloodOfRefusals(t *testing.T) {
	s := listen(t)
	const flood = 600
	for range flood {
		require.Equal(t, http.StatusUnauthorized, s.do(t, http.MethodPost, "/mcp", "{}", posted("wrong")...).status)
	}
	require.NoError(t, s.waitStopped(t))
	recs := s.records(t, audit.Reject)
	require.Less(t, len(recs), flood)
	require.GreaterOrEqual(t, len(recs), 300)
	require.Contains(t, recs[len(recs)-1].Detail, "not recorded one by one")
}
