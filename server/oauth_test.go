package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	sdkoauth "github.com/modelcontextprotocol/go-sdk/oauthex"
	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/server"
	"vault-mcp/tools"
)

const issuer = "https://issuer.example/realms/a/"

// withIssuer has an authorization server.
func withIssuer(o *server.Options, _ *tools.Options) {
	o.OAuth.AuthorizationServers = []string{issuer}
}

// Credentials of the tests' tokens.
const (
	readerToken  = "reader-token"  // may read and list, and its principal all
	cappedToken  = "capped-token"  // the same, and its principal no more
	kvOnlyToken  = "kv-only-token" // has no scope, its principal may have kv:read and kv:write
	limitedToken = "limited-token" // as the reader, with a limit of three calls
)

func token(slug string, scopes, ceiling auth.Scopes) *auth.Principal {
	p := principal(slug, "jti-"+slug, scopes)
	p.Method, p.Ceiling = auth.MethodJWT, ceiling
	return p
}

// withTokens adds principals of tokens to a stack's keys. The keyring stands in
// for the verification of tokens, which is not what is tested here.
func withTokens(s *stack) *stack {
	readList := auth.Scopes{auth.Read, auth.List}
	s.keys.set(readerToken, token("reader", readList, auth.AllScopes()))
	s.keys.set(cappedToken, token("capped", readList, readList))
	s.keys.set(kvOnlyToken, token("kv-only", nil, auth.Scopes{"kv:read", "kv:write"}))
	limited := token("limited", readList, auth.AllScopes())
	limited.Limit = auth.Limit{Requests: 3, Window: time.Hour}
	s.keys.set(limitedToken, limited)
	return s
}

func TestResourceMetadata(t *testing.T) {
	for name, tc := range map[string]struct {
		public   string // PUBLIC_URL
		resource string
		metadata string
		more     string // a further path of the metadata
	}{
		"no public URL":    {"", "http://ADDR/mcp", "http://ADDR/.well-known/oauth-protected-resource/mcp", ""},
		"host":             {"https://vault.example", "https://vault.example/mcp", "https://vault.example/.well-known/oauth-protected-resource/mcp", ""},
		"not canonical":    {"HTTPS://Vault.Example:443/", "https://vault.example/mcp", "https://vault.example/.well-known/oauth-protected-resource/mcp", ""},
		"port":             {"https://vault.example:8443", "https://vault.example:8443/mcp", "https://vault.example:8443/.well-known/oauth-protected-resource/mcp", ""},
		"below a path":     {"https://vault.example/base/", "https://vault.example/base/mcp", "https://vault.example/base/.well-known/oauth-protected-resource/mcp", "/base/mcp"},
		"odd but harmless": {"https://vault.example/a%22b", "https://vault.example/a%22b/mcp", "https://vault.example/a%22b/.well-known/oauth-protected-resource/mcp", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, withIssuer, func(o *server.Options, _ *tools.Options) { o.PublicURL = tc.public })
			paths := []string{"", "/mcp"}
			if tc.more != "" {
				paths = append(paths, tc.more)
			}
			for _, path := range paths {
				r := s.do(t, http.MethodGet, "/.well-known/oauth-protected-resource"+path, "")
				require.Equal(t, http.StatusOK, r.status, r.raw)
				require.Equal(t, "application/json", r.header.Get("Content-Type"))
				var is sdkoauth.ProtectedResourceMetadata
				require.NoError(t, json.Unmarshal([]byte(r.raw), &is))
				require.Equal(t, sdkoauth.ProtectedResourceMetadata{
					Resource: strings.Replace(tc.resource, "ADDR", s.addr, 1), ResourceName: "vault-mcp",
					AuthorizationServers: []string{issuer}, BearerMethodsSupported: []string{"header"},
					ScopesSupported: []string{"read", "write", "delete", "list"},
				}, is)
				require.Equal(t, http.StatusOK, s.do(t, http.MethodHead, "/.well-known/oauth-protected-resource"+path, "").status)
			}
			if tc.public != "" {
				audience, err := server.Resource(tc.public)
				require.NoError(t, err)
				require.Equal(t, tc.resource, audience)
			}
			r := s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), "Content-Type", "application/json")
			require.Equal(t, http.StatusUnauthorized, r.status)
			challenge := challengeOf(t, r)
			require.Equal(t, strings.Replace(tc.metadata, "ADDR", s.addr, 1), challenge["resource_metadata"])
			require.Equal(t, "read list", challenge["scope"])
			require.NotContains(t, challenge, "error", "nothing is wrong with no token")
			r = s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted("wrong")...)
			require.Equal(t, "invalid_token", challengeOf(t, r)["error"])

			for _, path := range []string{"/mcp/rpc", "/other", "/base/mcp/x", "/mcp/"} {
				require.Equal(t, http.StatusNotFound, s.do(t, http.MethodGet, "/.well-known/oauth-protected-resource"+path, "").status, path)
			}
			r = s.do(t, http.MethodPost, "/.well-known/oauth-protected-resource", "{}")
			require.Equal(t, http.StatusMethodNotAllowed, r.status)
			require.Equal(t, "GET, HEAD", r.header.Get("Allow"))
			r = s.do(t, http.MethodGet, "/.well-known/oauth-protected-resource", "", "Host", "evil.example")
			require.Equal(t, http.StatusForbidden, r.status, "it is held against the hosts as all else")
		})
	}
}

// challengeOf reads a challenge as the SDK's clients do.
func challengeOf(t *testing.T, r reply) map[string]string {
	t.Helper()
	all, err := sdkoauth.ParseWWWAuthenticate(r.header["Www-Authenticate"])
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "bearer", all[0].Scheme)
	require.Equal(t, "vault-mcp", all[0].Params["realm"])
	return all[0].Params
}

// Pages of the allowed origins may read the metadata, and no others.
func TestResourceMetadataAcrossOrigins(t *testing.T) {
	s := listen(t, atExample, withIssuer)
	r := s.do(t, http.MethodGet, "/.well-known/oauth-protected-resource/mcp", "", "Origin", "https://good.example")
	require.Equal(t, http.StatusOK, r.status)
	require.Equal(t, "https://good.example", r.header.Get("Access-Control-Allow-Origin"))
	r = s.do(t, http.MethodGet, "/.well-known/oauth-protected-resource/mcp", "", "Origin", "https://evil.example")
	require.Equal(t, http.StatusForbidden, r.status)
	require.Empty(t, r.header.Get("Access-Control-Allow-Origin"))
}

// Without an issuer there is nothing to tell.
func TestNoResourceMetadata(t *testing.T) {
	s := listen(t)
	for _, path := range []string{"", "/mcp"} {
		require.Equal(t, http.StatusNotFound, s.do(t, http.MethodGet, "/.well-known/oauth-protected-resource"+path, "").status)
	}
	r := s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted("wrong")...)
	require.Equal(t, map[string]string{"realm": "vault-mcp", "error": "invalid_token"}, challengeOf(t, r))
}

func TestBadOAuthSettings(t *testing.T) {
	s := newStack(t)
	for _, bad := range []string{"", "issuer.example", "http://issuer.example", "ftp://issuer.example", "https://", "https://a@issuer.example", "https://issuer.example/?a", "https://issuer.example/#a", `https://issuer.example/"`} {
		opt := s.opt
		opt.OAuth.AuthorizationServers = []string{issuer, bad}
		_, err := server.New(opt)
		require.ErrorContains(t, err, "OAUTH_AUTHORIZATION_SERVERS: entry 2", bad)
	}
	for _, bad := range []string{`https://vault".example`, "https://a@vault.example", "https://vault.example?a=b", "ftp://vault.example", "/mcp"} {
		opt := s.opt
		opt.PublicURL = bad
		_, err := server.New(opt)
		require.ErrorContains(t, err, "PUBLIC_URL", bad)
	}
	opt := s.opt
	opt.OAuth.AuthorizationServers = []string{"http://127.0.0.1:8200/v1/identity/oidc"}
	_, err := server.New(opt)
	require.NoError(t, err, "an issuer of this machine")
}
