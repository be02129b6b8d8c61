package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// handle is what a page gets.
type handle struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires_at"`
	URL     string    `json:"url"`
}

func makeHandle(t testing.TB, s *stack, key, body string) handle {
	t.Helper()
	r := s.do(t, http.MethodPost, "/events/tokens", body, "X-API-Key", key, "Content-Type", "application/json")
	require.Equal(t, http.StatusCreated, r.status, r.raw)
	require.Equal(t, "no-store", r.header.Get("Cache-Control"))
	var h handle
	require.NoError(t, json.Unmarshal([]byte(r.raw), &h))
	require.Regexp(t, `^events_[A-Za-z0-9_-]{43}$`, h.Token)
	require.Equal(t, s.url+"/events?token="+h.Token, h.URL)
	return h
}

// wantNoStream wants a handle to open nothing, and nothing to be told of why.
func wantNoStream(t testing.TB, s *stack, token string) audit.Record {
	t.Helper()
	before := len(s.records(t, audit.Reject))
	r := s.do(t, http.MethodGet, "/events?"+url.Values{"token": {token}}.Encode(), "")
	require.Equal(t, http.StatusUnauthorized, r.status, r.raw)
	require.Equal(t, "a valid credential is needed", r.refusal(t).Message)
	require.Contains(t, r.header.Get("Www-Authenticate"), "invalid_token")
	return s.rejected(t, before)
}

func TestEventToken(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	h := makeHandle(t, s, aliceKey, `{"uri":["kv://alice/app/"],"type":["resource.changed"]}`)
	require.WithinDuration(t, time.Now().Add(5*time.Minute), h.Expires, patience)
	rec := s.records(t, audit.Outcome)[0]
	require.Equal(t, []string{"events.token", "alice", "cred-1"}, []string{rec.Tool, rec.Subject, rec.CredentialID})
	require.Equal(t, []string{"listen mcp/alice/app/"}, rec.Needs)

	// It opens what it was made for, again and again.
	var last string
	for range 3 {
		f := follow(t, s, "", "token="+h.Token).placed(t)
		s.write(t, aliceKey, "other")
		s.write(t, aliceKey, "app/x")
		require.Equal(t, "kv://alice/app/x", f.event(t).fields(t)["uri"])
		last = f.lastID
		f.close()
	}
	s.write(t, aliceKey, "app/between")
	f := follow(t, s, "", "token="+h.Token, "Last-Event-ID", last)
	require.Equal(t, "kv://alice/app/between", f.event(t).fields(t)["uri"])
	f.close()
	f = follow(t, s, "", "last_event_id="+last+"&token="+h.Token)
	require.Equal(t, "kv://alice/app/between", f.event(t).fields(t)["uri"])

	// The stream ends with the credential of the handle, and the handle with it.
	s.keys.set(aliceKey, nil)
	f.ends(t)
	rej := wantNoStream(t, s, h.Token)
	require.NotContains(t, rej.Detail, h.Token)
	s.unheard(t, h.Token)
	s.unheard(t, strings.TrimPrefix(h.Token, "events_"))
}

func TestEventTokenOfNobody(t *testing.T) {
	addresses := &countingAddresses{}
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) { o.Addresses = addresses })
	h := makeHandle(t, s, aliceKey, `{}`)
	other := h.Token[:len(h.Token)-5] + "AAAAA"
	for i, token := range []string{
		other, marked, h.Token + "A", h.Token[:49], "lease_" + h.Token[7:], h.Token[7:], h.Token + "\n", " " + h.Token, strings.ToUpper(h.Token),
		strings.Repeat("A", 10_000), aliceKey,
	} {
		wantNoStream(t, s, token)
		require.Equal(t, i+1, addresses.failed)
		s.unheard(t, token)
	}
	// The principal of the credential is another by now.
	for _, now := range []*auth.Principal{principal("bob", "cred-1", auth.AllScopes()), {Slug: "alice", Prefix: "mcp", Scopes: auth.AllScopes()}} {
		s.keys.set(aliceKey, now)
		wantNoStream(t, s, h.Token)
	}
	// It may no longer list.
	s.keys.set(aliceKey, principal("alice", "cred-1", auth.Scopes{auth.Read}))
	require.Equal(t, http.StatusForbidden, s.do(t, http.MethodGet, "/events?token="+h.Token, "").status)
}

// A handle does not live longer than the credential that it was made with.
func TestEventTokenExpires(t *testing.T) {
	keepsAll := &peeking{stored: map[string]string{}}
	s := listen(t, withStreams(t, events.Options{}), func(o *server.Options, _ *tools.Options) { o.Tokens = keepsAll })
	dying := principal("alice", "cred-9", auth.AllScopes())
	dying.ExpiresAt = time.Now().Add(1100 * time.Millisecond)
	s.keys.set("dying", dying)
	h := makeHandle(t, s, "dying", `{}`)
	require.Equal(t, dying.ExpiresAt.Unix(), h.Expires.Unix())
	follow(t, s, "", "token="+h.Token).placed(t).ends(t)
	dying = principal("alice", "cred-9", auth.AllScopes()) // a longer life of the credential is none of the handle
	s.keys.set("dying", dying)
	wantNoStream(t, s, h.Token)
}

func TestEventTokenRefused(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	s.keys.set("writer", principal("writer", "cred-w", auth.Scopes{"kv:write"}))
	h := makeHandle(t, s, aliceKey, `{}`)
	const isJSON = "application/json"
	for name, tc := range map[string]struct {
		method, path, body string
		header             []string
		status             int
	}{
		"beside a key":        {http.MethodGet, "/events?token=" + h.Token, "", []string{"X-API-Key", aliceKey}, 400},
		"beside a bearer":     {http.MethodGet, "/events?token=" + h.Token, "", []string{"Authorization", "Bearer " + aliceKey}, 400},
		"beside a URI":        {http.MethodGet, "/events?uri=kv://alice/x&token=" + h.Token, "", nil, 400},
		"beside a type":       {http.MethodGet, "/events?type=resource.changed&token=" + h.Token, "", nil, 400},
		"twice":               {http.MethodGet, "/events?token=" + h.Token + "&token=" + h.Token, "", nil, 400},
		"empty":               {http.MethodGet, "/events?token=", "", nil, 400},
		"to make another":     {http.MethodPost, "/events/tokens?token=" + h.Token, "{}", []string{"Content-Type", isJSON}, 401},
		"GET":                 {http.MethodGet, "/events/tokens", "", []string{"X-API-Key", aliceKey}, 405},
		"without credential":  {http.MethodPost, "/events/tokens", "{}", []string{"Content-Type", isJSON}, 401},
		"a form":              {http.MethodPost, "/events/tokens", "uri=x", []string{"X-API-Key", aliceKey, "Content-Type", "application/x-www-form-urlencoded"}, 415},
		"no JSON":             {http.MethodPost, "/events/tokens", marked, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 400},
		"nothing":             {http.MethodPost, "/events/tokens", "", []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 400},
		"a member too many":   {http.MethodPost, "/events/tokens", `{"uri":[],"` + marked + `":1}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 400},
		"a member twice":      {http.MethodPost, "/events/tokens", `{"uri":[],"uri":["kv://alice/x"]}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 400},
		"another spelling":    {http.MethodPost, "/events/tokens", `{"URI":["kv://alice/x"]}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 400},
		"no list":             {http.MethodPost, "/events/tokens", `{"uri":"kv://alice/x"}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 400},
		"another's":           {http.MethodPost, "/events/tokens", `{"uri":["kv://bob/x"]}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 403},
		"may not":             {http.MethodPost, "/events/tokens", `{}`, []string{"X-API-Key", "writer", "Content-Type", isJSON}, 403},
		"too many URIs":       {http.MethodPost, "/events/tokens", `{"uri":["kv://alice/x"` + strings.Repeat(`,"kv://alice/x"`, 100) + `]}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 400},
		"too large":           {http.MethodPost, "/events/tokens", `{"uri":["` + strings.Repeat("x", 200<<10) + `"]}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON}, 413},
		"a page of elsewhere": {http.MethodPost, "/events/tokens", `{}`, []string{"X-API-Key", aliceKey, "Content-Type", isJSON, "Origin", "https://evil.example"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.records(t, audit.Reject)) + len(s.records(t, audit.Outcome))
			r := s.do(t, tc.method, tc.path, tc.body, tc.header...)
			require.Equal(t, tc.status, r.status, r.raw)
			require.NotContains(t, r.raw, marked)
			require.NotContains(t, r.raw, h.Token)
			require.Equal(t, before+1, len(s.records(t, audit.Reject))+len(s.records(t, audit.Outcome)), "one record")
			s.unheard(t, marked)
			s.unheard(t, h.Token)
		})
	}
}

func TestEventTokensAreBounded(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	for range 64 {
		makeHandle(t, s, aliceKey, `{}`)
	}
	before := len(s.records(t, audit.Reject))
	r := s.do(t, http.MethodPost, "/events/tokens", "{}", "X-API-Key", alice2Key, "Content-Type", "application/json")
	require.Equal(t, http.StatusTooManyRequests, r.status)
	require.NotEmpty(t, r.header.Get("Retry-After"))
	require.Equal(t, "rate_limited", s.rejected(t, before).Outcome)
	makeHandle(t, s, bobKey, `{}`)
}

// What handles take is bounded by principal as well: a few of the largest leave room
// for those of others.
func TestEventTokensOfOneAreBoundedInBytes(t *testing.T) {
	s := listen(t, withStreams(t, events.Options{}))
	long := `"kv://alice/` + strings.Repeat(strings.Repeat("x", 100)+"/", 4) + `x",`
	body := `{"uri":[` + strings.TrimSuffix(strings.Repeat(long, 75), ",") + `]}`
	status, made := 0, 0
	for ; made < 64; made++ {
		status = s.do(t, http.MethodPost, "/events/tokens", body, "X-API-Key", aliceKey, "Content-Type", "application/json").status
		if status != http.StatusCreated {
			break
		}
	}
	require.Equal(t, http.StatusTooManyRequests, status)
	require.LessOrEqual(t, made*len(body), 1<<20)
	require.Greater(t, made, 10)
	makeHandle(t, s, bobKey, `{}`)
}

// peeking is a TokenStore that shows what is stored.
type peeking struct {
	mu     sync.Mutex
	stored map[string]string
}

func (p *peeking) Put(_ context.Context, name, _ string, record []byte, _ time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored[name] = string(record)
	return nil
}

func (p *peeking) Get(_ context.Context, name string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []byte(p.stored[name]), nil
}

// What is stored tells nothing, not even to another server with another key, and
// is good on one with the same.
func TestEventTokenRecord(t *testing.T) {
	const spelled = "a-telling-name"
	store := &peeking{stored: map[string]string{}}
	shared := func(o *server.Options, _ *tools.Options) { o.Tokens = store }
	var h handle
	t.Run("made", func(t *testing.T) {
		s := listen(t, withStreams(t, events.Options{}), shared)
		h = makeHandle(t, s, aliceKey, `{"uri":["kv://alice/`+spelled+`"]}`)
		for name, record := range store.stored {
			for _, text := range []string{spelled, aliceKey, "alice", h.Token[7:]} {
				require.NotContains(t, name, text)
				require.NotContains(t, record, text)
			}
		}
	})
	t.Run("used elsewhere", func(t *testing.T) {
		s := listen(t, withStreams(t, events.Options{}), shared)
		f := follow(t, s, "", "token="+h.Token).placed(t)
		s.write(t, aliceKey, "other")
		s.write(t, aliceKey, spelled)
		require.Equal(t, "kv://alice/"+spelled, f.event(t).fields(t)["uri"])
	})
	t.Run("another key", func(t *testing.T) {
		s := listen(t, withStreams(t, events.Options{}), shared, func(o *server.Options, _ *tools.Options) { o.Key = []byte("another") })
		wantNoStream(t, s, h.Token)
	})
	t.Run("tampered with", func(t *testing.T) {
		s := listen(t, withStreams(t, events.Options{}), shared)
		follow(t, s, "", "token="+h.Token).close()
		for name, record := range store.stored {
			store.stored[name] = string(record[0]^1) + record[1:]
		}
		wantNoStream(t, s, h.Token)
	})
}

// A caller by certificate makes a handle, which others use without one.
func TestEventTokenByCertificate(t *testing.T) {
	callers := devstacktest.NewCA(t, "callers")
	file := writeFile(t, devstacktest.CertPEM(callers.Cert))
	s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, withStreams(t, events.Options{}),
		knows(t, auth.MTLSOptions{Identity: "cn", CAFile: file}))
	carol := s.as(t, callers.Issue(t, "carol"))
	r := carol.do(t, http.MethodPost, "/events/tokens", "{}", "Content-Type", "application/json")
	require.Equal(t, http.StatusCreated, r.status, r.raw)
	var h handle
	require.NoError(t, json.Unmarshal([]byte(r.raw), &h))
	f := follow(t, s.stack, "", "token="+h.Token).placed(t)
	change := message(t, 1, "tools/call", object{"name": "kv.write", "arguments": object{"path": "x", "data": object{}}})
	require.Equal(t, http.StatusOK, carol.do(t, http.MethodPost, "/mcp/rpc", change, "Content-Type", "application/json").status)
	require.Equal(t, "kv://carol/x", f.event(t).fields(t)["uri"])
}
