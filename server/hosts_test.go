package server_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/server"
	"vault-mcp/tools"
)

func atExample(o *server.Options, _ *tools.Options) {
	o.AllowedHosts = []string{"Proxy.example", "ported.example:8443", "[2001:db8::1]:443"}
	o.AllowedOrigins = []string{"https://Good.example", "http://dev.example:3000"}
	o.PublicURL = "https://vault.example/base"
}

func TestHostsAndOrigins(t *testing.T) {
	s := listen(t, atExample)
	for name, tc := range map[string]struct {
		headers []string
		allowed bool
	}{
		"nothing said":         {nil, true},
		"localhost":            {[]string{"Host", "localhost:1"}, true},
		"LOCALHOST":            {[]string{"Host", "LOCALHOST"}, true},
		"IPv6 loopback":        {[]string{"Host", "[::1]:8089"}, true},
		"configured host":      {[]string{"Host", "proxy.EXAMPLE:99"}, true},
		"configured with port": {[]string{"Host", "ported.example:8443"}, true},
		"IPv6 with port":       {[]string{"Host", "[2001:db8::1]:443"}, true},
		"public URL's host":    {[]string{"Host", "vault.example"}, true},

		"rebinding host":              {[]string{"Host", "evil.example"}, false},
		"rebinding host and origin":   {[]string{"Host", "evil.example", "Origin", "http://evil.example"}, false},
		"other port":                  {[]string{"Host", "ported.example:1"}, false},
		"no port":                     {[]string{"Host", "ported.example"}, false},
		"other IPv6 port":             {[]string{"Host", "[2001:db8::1]:444"}, false},
		"subdomain":                   {[]string{"Host", "a.proxy.example"}, false},
		"suffix":                      {[]string{"Host", "proxy.example.evil"}, false},
		"trailing dot":                {[]string{"Host", "proxy.example."}, false},
		"127.0.0.1 in a name":         {[]string{"Host", "127.0.0.1.evil.example"}, false},
		"loopback by another address": {[]string{"Host", "127.0.0.2"}, false},

		"allowed origin":        {[]string{"Origin", "https://good.example"}, true},
		"allowed, other case":   {[]string{"Origin", "https://GOOD.example"}, true},
		"allowed with port":     {[]string{"Origin", "http://dev.example:3000"}, true},
		"public URL's origin":   {[]string{"Origin", "https://vault.example"}, true},
		"port that goes unsaid": {[]string{"Origin", "https://good.example:443"}, true},
		"own page":              {[]string{"Origin", "http://" + s.addr}, true},
		"typed in":              {[]string{"Sec-Fetch-Site", "none"}, true},
		"same origin":           {[]string{"Sec-Fetch-Site", "same-origin"}, true},
		"allowed and elsewhere": {[]string{"Origin", "https://good.example", "Sec-Fetch-Site", "cross-site"}, true},

		"null":                  {[]string{"Origin", "null"}, false},
		"empty":                 {[]string{"Origin", ""}, false},
		"evil":                  {[]string{"Origin", "https://evil.example"}, false},
		"suffixed":              {[]string{"Origin", "https://good.example.evil"}, false},
		"prefixed":              {[]string{"Origin", "https://evilgood.example"}, false},
		"user":                  {[]string{"Origin", "https://good.example@evil.example"}, false},
		"other scheme":          {[]string{"Origin", "http://good.example"}, false},
		"other port of origin":  {[]string{"Origin", "https://good.example:444"}, false},
		"path":                  {[]string{"Origin", "https://good.example/x"}, false},
		"other port at home":    {[]string{"Origin", "http://127.0.0.1:9"}, false},
		"https at home":         {[]string{"Origin", "http://localhost"}, false},
		"file":                  {[]string{"Origin", "file://"}, false},
		"two":                   {[]string{"Origin", "https://good.example", "Origin", "https://evil.example"}, false},
		"two in one":            {[]string{"Origin", "https://good.example, https://evil.example"}, false},
		"cross-site, no origin": {[]string{"Sec-Fetch-Site", "cross-site"}, false},
		"same-site, no origin":  {[]string{"Sec-Fetch-Site", "same-site"}, false},
	} {
		for _, path := range []string{"/mcp", "/mcp/rpc"} {
			t.Run(name+" "+path, func(t *testing.T) {
				before := len(s.records(t, audit.Reject))
				r := s.do(t, http.MethodPost, path, initialize(t, legacy, "test"), append(posted(bobKey), tc.headers...)...)
				if tc.allowed {
					require.Equal(t, http.StatusOK, r.status, r.raw)
					require.Len(t, s.records(t, audit.Reject), before)
					return
				}
				require.Equal(t, http.StatusForbidden, r.status, r.raw)
				require.Empty(t, r.header.Get("Access-Control-Allow-Origin"))
				rec := s.rejected(t, before)
				require.Equal(t, "forbidden", rec.Outcome)
				require.Equal(t, r.refusal(t).RequestID, rec.RequestID)
				require.Equal(t, "127.0.0.1", rec.Remote)
				require.NotContains(t, r.raw, "evil")
				s.unheard(t, "evil")
			})
		}
	}
}

func TestBadHostSettings(t *testing.T) {
	s := newStack(t)
	for _, change := range []change{
		func(o *server.Options, _ *tools.Options) { o.AllowedHosts = []string{"*"} },
		func(o *server.Options, _ *tools.Options) { o.AllowedHosts = []string{"http://a"} },
		func(o *server.Options, _ *tools.Options) { o.AllowedHosts = []string{"a:b:c"} },
		func(o *server.Options, _ *tools.Options) { o.AllowedHosts = []string{""} },
		func(o *server.Options, _ *tools.Options) { o.AllowedOrigins = []string{"*"} },
		func(o *server.Options, _ *tools.Options) { o.AllowedOrigins = []string{"null"} },
		func(o *server.Options, _ *tools.Options) { o.AllowedOrigins = []string{"https://*.example"} },
		func(o *server.Options, _ *tools.Options) { o.AllowedOrigins = []string{"https://a.example/"} },
		func(o *server.Options, _ *tools.Options) { o.PublicURL = "vault.example" },
		func(o *server.Options, _ *tools.Options) { o.PublicURL = "::" },
	} {
		opt := s.opt
		change(&opt, nil)
		_, err := server.New(opt)
		require.Error(t, err)
	}
}

// A browser asks first, without a credential, and needs the marks on errors too.
func TestCORS(t *testing.T) {
	s := listen(t, atExample)
	preflight := func(origin, method, headers string) reply {
		return s.do(t, http.MethodOptions, "/mcp", "", "Origin", origin,
			"Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers)
	}
	for _, headers := range []string{
		"accept,authorization,content-type,last-event-id,mcp-method,mcp-name,mcp-protocol-version,mcp-session-id,x-api-key",
		"content-type,x-api-key",
	} {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			r := preflight("https://good.example", method, headers)
			require.Equal(t, http.StatusNoContent, r.status, r.raw)
			require.Equal(t, "https://good.example", r.header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, method, r.header.Get("Access-Control-Allow-Methods"))
			require.Equal(t, headers, r.header.Get("Access-Control-Allow-Headers"))
			require.Empty(t, r.header.Get("Access-Control-Allow-Credentials"))
			require.Contains(t, r.header.Values("Vary")[0], "Origin")
		}
	}
	for _, r := range []reply{
		preflight("https://good.example", "PUT", ""),
		preflight("https://good.example", "POST", "cookie"),
	} {
		require.Empty(t, r.header.Get("Access-Control-Allow-Origin"))
	}
	before := len(s.records(t, audit.Reject))
	r := preflight("https://evil.example", "POST", "content-type")
	require.Equal(t, http.StatusForbidden, r.status)
	require.Empty(t, r.header.Get("Access-Control-Allow-Origin"))
	s.rejected(t, before)

	for key, status := range map[string]int{bobKey: 200, "wrong": 401} {
		r := s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted(key, "Origin", "https://good.example")...)
		require.Equal(t, status, r.status)
		require.Equal(t, "https://good.example", r.header.Get("Access-Control-Allow-Origin"))
		for _, exposed := range []string{"Mcp-Session-Id", "Www-Authenticate", "Retry-After", "X-Request-Id"} {
			require.Contains(t, r.header.Get("Access-Control-Expose-Headers"), exposed)
		}
	}
}

// An empty list of origins means nobody, not everybody.
func TestNoCORSUnlessConfigured(t *testing.T) {
	s := listen(t)
	r := s.do(t, http.MethodOptions, "/mcp", "", "Origin", "http://"+s.addr, "Access-Control-Request-Method", "POST")
	require.Equal(t, http.StatusMethodNotAllowed, r.status)
	r = s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted(bobKey, "Origin", "http://"+s.addr)...)
	require.Equal(t, http.StatusOK, r.status)
	for name := range r.header {
		require.NotContains(t, name, "Access-Control")
	}
}
