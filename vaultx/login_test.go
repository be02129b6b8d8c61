package vaultx_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/fault/faulttest"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// serverPolicy is what these tests' server may do: what the tools need of KV, and
// what every token may by Vault's default policy.
const serverPolicy = `
path "secret/data/mcp/*" { capabilities = ["create", "read", "update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
`

// appRole is an AppRole of a Vault, with ids that a Vault that has lost its
// storage can be given again.
type appRole struct {
	v                *devstack.Vault
	name             string
	roleID, secretID string
	role, ids        map[string]any
}

// newAppRole makes a role whose tokens live so long, and at most so long.
func newAppRole(t testing.TB, v *devstack.Vault, name, ttl, maxTTL string, uses int) *appRole {
	t.Helper()
	a := &appRole{v: v, name: name, roleID: "role-" + secret.RandomHex(16), secretID: "id-" + secret.RandomHex(16)}
	a.role = map[string]any{"token_policies": "server", "token_ttl": ttl, "token_max_ttl": maxTTL, "token_no_default_policy": true}
	a.ids = map[string]any{"secret_id": a.secretID, "num_uses": uses}
	a.install(t)
	return a
}

func (a *appRole) install(t testing.TB) {
	t.Helper()
	if err := a.v.Request(t.Context(), "GET", "auth/approle/role?list=true", nil, nil); err != nil {
		_ = a.v.Request(t.Context(), "POST", "sys/auth/approle", map[string]any{"type": "approle"}, nil) // another test may have
	}
	role := "auth/approle/role/" + a.name
	a.ask(t, "PUT", "sys/policies/acl/server", map[string]any{"policy": serverPolicy})
	a.ask(t, "POST", role, a.role)
	a.ask(t, "POST", role+"/role-id", map[string]any{"role_id": a.roleID})
	a.ask(t, "POST", role+"/custom-secret-id", a.ids)
}

func (a *appRole) ask(t testing.TB, method, path string, body any) {
	t.Helper()
	require.NoError(t, a.v.Request(t.Context(), method, path, body, nil))
}

func (a *appRole) login() vaultx.Login {
	return vaultx.Login{Method: "approle", RoleID: secret.NewText(a.roleID), SecretID: secret.NewText(a.secretID)}
}

// notices are what an operator was told.
type notices struct {
	mu   sync.Mutex
	seen []vaultx.Notice
}

func (n *notices) hear(told vaultx.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, told)
}

// count is how often something was told.
func (n *notices) count(text string) (times int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, told := range n.seen {
		if strings.Contains(told.Text, text) {
			times++
		}
	}
	return times
}

// all is everything that was told, as a careless log would print it.
func (n *notices) all() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, told := range n.seen {
		b.WriteString(told.Text + "\n")
		if told.Err != nil {
			b.WriteString(faulttest.Text(told.Err))
		}
	}
	return b.String()
}

// logins are the login requests that reached a Vault.
func logins(rec *devstacktest.Rec) (n int) {
	for _, r := range rec.Requests() {
		if strings.HasSuffix(r, "/login") {
			n++
		}
	}
	return n
}

func write(t *testing.T, c *vaultx.Client) error {
	t.Helper()
	_, err := vaultx.KVWrite(context.Background(), c.Bind(on(t, "update", kvData, "app"), vaultx.BindOptions{}), kvValue(t, `{"a":"1"}`), nil)
	return err
}

func read(t *testing.T, c *vaultx.Client) error {
	t.Helper()
	_, err := vaultx.KVRead(context.Background(), c.Bind(on(t, "read", kvData, "app"), vaultx.BindOptions{}), 0)
	return err
}

// signJWT signs claims with ES256.
func signJWT(t testing.TB, key *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	require.NoError(t, err)
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + b64.EncodeToString(payload)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	require.NoError(t, err)
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + b64.EncodeToString(sig)
}

// jwtLogin mounts a JWT auth method whose key is ours, and writes a JWT of it.
func jwtLogin(t testing.TB, v *devstack.Vault) vaultx.Login {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	for path, body := range map[string]any{"sys/policies/acl/server": map[string]any{"policy": serverPolicy}, "sys/auth/team/jwt": map[string]any{"type": "jwt"}} {
		require.NoError(t, v.Request(t.Context(), "POST", path, body, nil))
	}
	require.NoError(t, v.Request(t.Context(), "POST", "auth/team/jwt/config", map[string]any{"jwt_validation_pubkeys": []string{public}, "jwt_supported_algs": "ES256"}, nil))
	require.NoError(t, v.Request(t.Context(), "POST", "auth/team/jwt/role/vault-mcp", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": "server", "token_ttl": "1h",
	}, nil))
	file := filepath.Join(t.TempDir(), "jwt")
	token := signJWT(t, key, map[string]any{"sub": "vault-mcp", "aud": "vault", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	return vaultx.Login{Method: "jwt", Mount: "/team/jwt/", Role: "vault-mcp", JWTFile: file}
}

// Each way to log in, against a real Vault: calls work, the token is that of the
// role, and what was given to log in stands nowhere.
func TestLoginMethods(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{TLS: true})
	ca, err := os.ReadFile(v.CACert)
	require.NoError(t, err)
	role := newAppRole(t, v, "methods", "1h", "2h", 0)
	require.NoError(t, v.Request(t.Context(), "POST", "sys/auth/cert", map[string]any{"type": "cert"}, nil))
	require.NoError(t, v.Request(t.Context(), "POST", "auth/cert/certs/vault-mcp", map[string]any{
		"certificate": string(ca), "allowed_common_names": "devstack client", "token_policies": "server", "token_ttl": "1h",
	}, nil))
	idFile := filepath.Join(t.TempDir(), "secret-id")
	require.NoError(t, os.WriteFile(idFile, []byte(role.secretID+"\n"), 0o600))
	fromFile := role.login()
	fromFile.SecretID, fromFile.SecretIDFile = secret.Text{}, idFile
	for name, login := range map[string]vaultx.Login{
		"approle": role.login(), "approle, id from a file": fromFile, "jwt": jwtLogin(t, v),
		"cert": {Method: "cert"}, "cert, with a role": {Method: "cert", Role: "vault-mcp"},
	} {
		told := &notices{}
		cfg := vaultx.Config{Address: v.Addr, CACert: v.CACert, ClientCert: v.ClientCert, ClientKey: v.ClientKey, Login: login, Notice: told.hear}
		c := connect(t, cfg)
		require.NoError(t, write(t, c), name)
		require.NoError(t, c.Ready(t.Context()), name)
		info, err := c.Token(t.Context())
		require.NoError(t, err)
		require.Contains(t, info.Policies, "server", name)
		require.InDelta(t, 3600, info.TTL, 60, name)
		require.Equal(t, 1, told.count("logged in to Vault"), name)
		require.NotContains(t, told.all(), role.secretID)

		require.NoError(t, c.LogOut(t.Context()))
		require.NoError(t, write(t, c), "%s: a token that was ended is replaced", name)
		require.Equal(t, 2, told.count("logged in to Vault"), name)
	}

	// And what is wrong with each, without a word of what was given.
	wrong := role.login()
	wrong.SecretID = secret.NewText("echo-0815")
	noMount := role.login()
	noMount.Mount = "echo-0815"
	noFile := fromFile
	noFile.SecretIDFile = filepath.Join(t.TempDir(), "echo-0815")
	noJWT := vaultx.Login{Method: "jwt", Mount: "team/jwt", Role: "vault-mcp", JWTFile: filepath.Join(t.TempDir(), "jwt")}
	require.NoError(t, os.WriteFile(noJWT.JWTFile, []byte("echo-0815"), 0o600))
	for name, row := range map[string]struct {
		login vaultx.Login
		want  string
	}{
		"a wrong secret id": {wrong, "not accepted"},
		"no such mount":     {noMount, "cannot log in"},
		"no such file":      {noFile, "VAULT_SECRET_ID_FILE: there is no such file"},
		"no such role":      {vaultx.Login{Method: "cert", Role: "echo-0815"}, "not accepted"},
		"no JWT":            {noJWT, "not accepted"},
	} {
		told := &notices{}
		c := connect(t, vaultx.Config{Address: v.Addr, CACert: v.CACert, ClientCert: v.ClientCert, ClientKey: v.ClientKey, Login: row.login, Notice: told.hear})
		err := write(t, c)
		f := requireKind(t, fault.Unavailable, err)
		require.Contains(t, f.Msg, row.want, name)
		require.NotContains(t, f.Details, "outcome", "nothing was begun")
		require.NotContains(t, faulttest.Text(err)+told.all(), "echo-0815", name)
		require.Positive(t, requireKind(t, fault.Unavailable, write(t, c)).RetryAfter, "%s: the next waits", name)
		requireKind(t, fault.Unavailable, c.Ready(t.Context()))
		require.Equal(t, 1, told.count(""), "told once: %s", told.all())
	}
}

// The Vault of these tests is a minimal build without the kubernetes method, so
// its endpoint is played here: the request is the documented one, of the JWT as
// it stands in the file by then, and the answer is that of any login.
func TestLoginKubernetes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("pod-token-1\n"), 0o600))
	var mu sync.Mutex
	var bodies []string
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.URL.Path == "/v1/auth/kubernetes/login":
			body, _ := io.ReadAll(r.Body)
			bodies = append(bodies, r.Method+" "+r.Header.Get("X-Vault-Token")+" "+string(body))
			_, _ = io.WriteString(w, `{"auth":{"client_token":"hvs.of-`+[]string{"one", "two"}[len(bodies)-1]+`","lease_duration":3600,"renewable":true}}`)
		case r.Header.Get("X-Vault-Token") == "hvs.of-one" && len(bodies) == 1 && strings.HasSuffix(r.URL.Path, "/app"):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["2 errors occurred: permission denied, invalid token"]}`)
		case r.Header.Get("X-Vault-Token") != "hvs.of-two":
			w.WriteHeader(http.StatusTeapot)
		default:
			_, _ = io.WriteString(w, `{"data":{"data":{},"metadata":{"version":1}}}`)
		}
	})
	told := &notices{}
	c := connect(t, vaultx.Config{Address: f.URL, Notice: told.hear, Login: vaultx.Login{Method: "kubernetes", Role: "vault-mcp", JWTFile: file}})
	_, err := c.Token(t.Context())
	requireKind(t, fault.Unavailable, err) // 418: the first token is in use
	require.NoError(t, os.WriteFile(file, []byte("pod-token-2\n"), 0o600))
	require.NoError(t, read(t, c), "a token that Vault does not know is replaced within the call")
	require.Equal(t, []string{
		`POST  {"role":"vault-mcp","jwt":"pod-token-1"}`, `POST  {"role":"vault-mcp","jwt":"pod-token-2"}`,
	}, bodies)
	require.NotContains(t, told.all(), "hvs.of")
}

func TestLoginRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		login vaultx.Login
		want  []string
	}{
		"approle":    {vaultx.Login{Method: "approle"}, []string{"VAULT_ROLE_ID: is missing", "VAULT_SECRET_ID: is missing"}},
		"kubernetes": {vaultx.Login{Method: "kubernetes", Mount: "../x"}, []string{"VAULT_AUTH_ROLE: is missing", "VAULT_JWT_FILE: is missing", "VAULT_AUTH_MOUNT: "}},
		"jwt":        {vaultx.Login{Method: "jwt", Role: "a/b"}, []string{"VAULT_JWT_FILE: is missing", "VAULT_AUTH_ROLE: "}},
		"cert":       {vaultx.Login{Method: "cert"}, []string{"VAULT_CLIENT_CERT: is missing", "needs https"}},
		"other":      {vaultx.Login{Method: "userpass"}, []string{"VAULT_AUTH_METHOD: want token, approle, kubernetes, jwt or cert"}},
	} {
		_, err := vaultx.New(vaultx.Config{Address: "http://127.0.0.1:1", Login: row.login})
		for _, want := range row.want {
			require.ErrorContains(t, err, want, name)
		}
		require.NotContains(t, err.Error(), "userpass")
	}
}
