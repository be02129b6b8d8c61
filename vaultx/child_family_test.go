package vaultx_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// family is a client whose principals have tokens of their own, with everything
// in Vault that this takes: names of this test's own.
type family struct {
	*vaultx.Client
	t      testing.TB
	v      *devstack.Vault
	root   *vaultx.Client
	role   vaultx.TokenRole
	server secret.Text
	opt    vaultx.ChildOptions
	events *events
}

type events struct {
	sync.Mutex
	all []vaultx.ChildEvent
}

func (e *events) told() (what []string) {
	e.Lock()
	defer e.Unlock()
	for _, event := range e.all {
		what = append(what, event.What)
	}
	return what
}

var childKey = bytes.Repeat([]byte{5}, secret.KeySize)

func newFamily(t testing.TB, v *devstack.Vault, opt vaultx.ChildOptions) *family {
	t.Helper()
	id := uuid.NewString()[:8]
	f := &family{t: t, v: v, root: realClient(t, v), events: &events{}}
	f.role = vaultx.TokenRole{Name: "role-" + id, Policies: "agent-" + id + "-", Longest: 768 * time.Hour}
	require.NoError(t, f.root.WriteTokenRole(t.Context(), f.role))
	f.server = f.serverToken()
	f.opt = opt
	f.opt.Role, f.opt.Key = f.role.Name, childKey
	if f.opt.Folder == "" {
		f.opt.Folder = filepath.Join(t.TempDir(), "children")
	}
	if f.opt.TTL == 0 {
		f.opt.TTL = time.Minute
	}
	f.opt.LeaseTTL = 768 * time.Hour
	f.opt.Told = func(e vaultx.ChildEvent) {
		f.events.Lock()
		defer f.events.Unlock()
		f.events.all = append(f.events.all, e)
	}
	f.Client = f.again(v.Addr)
	return f
}

// serverToken is a token for the server, which can make children and no more.
func (f *family) serverToken() secret.Text {
	f.t.Helper()
	var hcl strings.Builder
	for _, rule := range vaultx.ServerRules(f.role.Name, f.role.Policies) {
		fmt.Fprintf(&hcl, "path %q { capabilities = [\"%s\"] }\n", rule.Path, strings.Join(rule.Capabilities, `", "`))
	}
	token, err := f.v.CreateToken(f.t.Context(), hcl.String())
	require.NoError(f.t, err)
	return token
}

// again is another process of the same server.
func (f *family) again(addr string) *vaultx.Client {
	f.t.Helper()
	c := connect(f.t, vaultx.Config{Address: addr, Token: f.server, Mounts: vaultx.Mounts{KV: "secret", SSH: "ssh"}})
	require.NoError(f.t, c.StartChildren(f.opt))
	return c
}

// member is a principal with its policy in Vault.
func (f *family) member(name string) vaultx.ChildSpec {
	f.t.Helper()
	spec := f.stranger(name)
	f.allow(spec, `path "secret/data/`+spec.ID+`/*" { capabilities = ["create", "read", "update"] }`)
	return spec
}

// stranger is one without a policy.
func (f *family) stranger(name string) vaultx.ChildSpec {
	return vaultx.ChildSpec{ID: f.role.Name + "/" + name, Policy: f.role.Policies + name, Name: name}
}

func (f *family) allow(spec vaultx.ChildSpec, hcl string) {
	f.t.Helper()
	require.NoError(f.t, f.root.WritePolicy(f.t.Context(), spec.Policy, hcl))
}

// write does an operation of the principal at a place of another's, or its own.
func (f *family) write(c *vaultx.Client, spec vaultx.ChildSpec, at string) error {
	f.t.Helper()
	op, err := vaultx.NewOperation("update", kvData, map[string]string{"kv": "secret", "prefix": at, "path": "app"})
	require.NoError(f.t, err)
	_, err = c.Bind(op, vaultx.BindOptions{Owner: spec.ID, Child: spec}).Do(f.t.Context(), vaultx.Request{Body: map[string]any{"data": map[string]string{"a": "b"}}})
	return err
}

// tokenInfo is what Vault knows of a token.
type tokenInfo struct {
	Policies    []string          `json:"policies"`
	Identity    []string          `json:"identity_policies"`
	DisplayName string            `json:"display_name"`
	Meta        map[string]string `json:"meta"`
	Orphan      bool              `json:"orphan"`
	Renewable   bool              `json:"renewable"`
	TTL         int               `json:"ttl"`
	Max         int               `json:"explicit_max_ttl"`
	Accessor    string            `json:"accessor"`
}

func (f *family) lookup(token secret.Text) (tokenInfo, error) {
	var answer struct {
		Data tokenInfo `json:"data"`
	}
	err := f.v.Request(context.Background(), http.MethodPost, "auth/token/lookup", map[string]string{"token": token.Reveal()}, &answer)
	return answer.Data, err
}

func (f *family) lives(token secret.Text) bool {
	_, err := f.lookup(token)
	return err == nil
}

func (f *family) token(spec vaultx.ChildSpec) secret.Text {
	f.t.Helper()
	token, err := f.ChildToken(f.t.Context(), spec)
	require.NoError(f.t, err)
	return token
}

func (f *family) gone(token secret.Text) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return !f.lives(token) }, 10*time.Second, 20*time.Millisecond)
}
