package auth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// vaultIssuer makes Vault's own OpenID Connect provider an issuer: a key, a role
// whose tokens carry scopes, and an entity to hand them to.
func vaultIssuer(t *testing.T, v *devstack.Vault, algorithm string) (name, audience string, issue func(ctx context.Context) (string, error)) {
	t.Helper()
	key := strings.ToLower(algorithm)
	write := func(path string, body obj) obj {
		var answer struct{ Data obj }
		require.NoError(t, v.Request(t.Context(), http.MethodPost, path, body, &answer))
		return answer.Data
	}
	write("identity/oidc/key/"+key, obj{"algorithm": algorithm, "rotation_period": "24h", "verification_ttl": "24h", "allowed_client_ids": "*"})
	write("identity/oidc/role/"+key, obj{"key": key, "ttl": "10m", "template": `{"scope": "kv:read list"}`})
	var role struct {
		Data struct {
			ID string `json:"client_id"`
		}
	}
	require.NoError(t, v.Request(t.Context(), http.MethodGet, "identity/oidc/role/"+key, nil, &role))

	// A token is handed to an entity, and a root token has none.
	var mounts struct {
		Data map[string]struct{ Accessor string }
	}
	require.NoError(t, v.Request(t.Context(), http.MethodGet, "sys/auth", nil, &mounts))
	entity := write("identity/entity", obj{"name": "oidc-" + key})
	write("identity/entity-alias", obj{"name": "oidc-" + key, "canonical_id": entity["id"], "mount_accessor": mounts.Data["token/"].Accessor})
	write("sys/policies/acl/oidc-"+key, obj{"policy": `path "identity/oidc/token/*" { capabilities = ["read"] }`})
	write("auth/token/roles/oidc-"+key, obj{"allowed_entity_aliases": "oidc-" + key, "allowed_policies": "oidc-" + key})
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	require.NoError(t, v.Request(t.Context(), http.MethodPost, "auth/token/create/oidc-"+key,
		obj{"entity_alias": "oidc-" + key, "policies": []string{"oidc-" + key}}, &made))
	return v.Addr + "/v1/identity/oidc", role.Data.ID, func(ctx context.Context) (string, error) {
		return tokenOf(ctx, v.Addr+"/v1/identity/oidc/token/"+key, made.Auth.Token)
	}
}

// The real thing: tokens that Vault signs, found by its discovery document; its
// key is rotated under load, and no call fails.
func TestVaultIsTheIssuer(t *testing.T) {
	v := devstacktest.Shared(t)
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			name, audience, issue := vaultIssuer(t, v, algorithm)
			a := authenticator(t, "", func(o *auth.Options) {
				o.JWT = auth.JWTOptions{Accept: true, Home: &auth.Issuer{Name: name, OIDC: name, Audiences: []string{audience}}}
			})
			t.Cleanup(a.Close)
			require.NoError(t, a.Check(t.Context()))
			token, err := issue(t.Context())
			require.NoError(t, err)
			p, err := try(t, a, token)
			require.NoError(t, err)
			require.Equal(t, auth.Scopes{"kv:read", "list"}, p.Scopes)
			require.Len(t, p.Subject, 36, "the id of Vault's entity")
			require.WithinDuration(t, time.Now().Add(11*time.Minute), p.ExpiresAt, time.Minute)

			rotateUnderLoad(t, v, a, strings.ToLower(algorithm), issue)
		})
	}
}

// rotateUnderLoad rotates a key of Vault's while callers get tokens and call.
func rotateUnderLoad(t *testing.T, v *devstack.Vault, a *auth.Authenticator, key string, issue func(context.Context) (string, error)) {
	t.Helper()
	var calls atomic.Int64
	kids := sync.Map{}
	load, ctx := errgroup.WithContext(t.Context())
	ctx, stop := context.WithCancel(ctx)
	for range 8 {
		load.Go(func() error {
			for ctx.Err() == nil {
				token, err := issue(t.Context())
				if err != nil {
					return err
				}
				if _, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("Authorization", "Bearer "+token)}); err != nil {
					return fmt.Errorf("call %d: %w", calls.Load(), err)
				}
				header, _, _ := strings.Cut(token, ".")
				kids.Store(header, true)
				calls.Add(1)
			}
			return nil
		})
	}
	// As many as the budget of unknown keys has at once.
	for range 3 {
		before := calls.Load()
		require.Eventually(t, func() bool { return calls.Load() >= before+20 || ctx.Err() != nil }, 30*time.Second, time.Millisecond)
		require.NoError(t, v.Request(t.Context(), http.MethodPost, "identity/oidc/key/"+key+"/rotate", obj{}, nil))
	}
	before := calls.Load()
	require.Eventually(t, func() bool { return calls.Load() >= before+20 || ctx.Err() != nil }, 30*time.Second, time.Millisecond)
	stop()
	require.NoError(t, load.Wait(), "no call fails")
	signed := 0
	kids.Range(func(any, any) bool { signed++; return true })
	require.Equal(t, 4, signed, "each key was used")
}

// tokenOf gets a JWT from Vault with a token of Vault's own.
func tokenOf(ctx context.Context, address, token string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("X-Vault-Token", token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	var body struct{ Data struct{ Token string } }
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.Data.Token == "" {
		return "", fmt.Errorf("status %d: %w", answer.StatusCode, err)
	}
	return body.Data.Token, nil
}
