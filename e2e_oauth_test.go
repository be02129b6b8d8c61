package main_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// A client without a token learns from the product's own answers where to get
// one, and for what.
func TestProtectedResource(t *testing.T) {
	v := devstacktest.Shared(t)
	issuer := v.Addr + "/v1/identity/oidc/provider/default"
	p := startHTTP(t, settings(t, v, "OAUTH_AUTHORIZATION_SERVERS="+issuer, "JWT_ISSUER="+issuer, "JWT_AUDIENCE=x", "JWT_HS256_SECRET=0123456789abcdef0123456789abcdef"))
	r := exchange(t, p.url+"/mcp", "", hello, nil)
	require.Equal(t, http.StatusUnauthorized, r.status)
	where := p.url + "/.well-known/oauth-protected-resource/mcp"
	require.Equal(t, `Bearer realm="vault-mcp", resource_metadata="`+where+`", scope="read list"`, r.header.Get("WWW-Authenticate"))
	status, text := probe(t, where)
	require.Equal(t, http.StatusOK, status)
	var is obj
	require.NoError(t, json.Unmarshal([]byte(text), &is))
	has("resource", p.url+"/mcp", "authorization_servers", []any{issuer}, "scopes_supported", []any{"read", "write", "delete", "list"})(t, is)

	without := startHTTP(t, settings(t, v))
	status, _ = probe(t, without.url+"/.well-known/oauth-protected-resource")
	require.Equal(t, http.StatusNotFound, status)
}
