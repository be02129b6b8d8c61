package tools_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// The rights of the tools, stated again: the table of the specification.
var rights = map[string]struct {
	verb  auth.Scope
	reads bool
}{
	"kv.read":     {auth.Read, true},
	"kv.write":    {auth.Write, false},
	"kv.patch":    {auth.Write, false},
	"kv.list":     {auth.List, true},
	"kv.metadata": {auth.Read, true},
	"kv.delete":   {auth.Delete, false},
	"kv.undelete": {auth.Write, false},
	"kv.destroy":  {auth.Delete, false},

	"db.issue_creds": {auth.Write, false},
	"db.renew":       {auth.Write, false},
	"db.revoke":      {auth.Write, false},

	"whoami": {"", true},

	"transit.encrypt": {auth.Write, false},
	"transit.decrypt": {auth.Read, false},
	"transit.sign":    {auth.Write, false},
	"transit.verify":  {auth.Read, true},
	"transit.rewrap":  {auth.Write, false},
	"transit.random":  {auth.Read, false},
	"ssh.otp":         {auth.Write, false},
	"ssh.sign":        {auth.Write, false},

	"kms.encrypt":           {auth.Write, false},
	"kms.decrypt":           {auth.Read, false},
	"kms.generate_data_key": {auth.Write, false},
	"kms.sign":              {auth.Write, false},
	"kms.verify":            {auth.Read, true},
}

var arguments = map[string]string{
	"kv.read":     `{"path":"a/b"}`,
	"kv.write":    `{"path":"a/b","data":{}}`,
	"kv.patch":    `{"path":"a/b","data":{}}`,
	"kv.list":     `{"prefix":"a/b"}`,
	"kv.metadata": `{"path":"a/b"}`,
	"kv.delete":   `{"path":"a/b"}`,
	"kv.undelete": `{"path":"a/b","versions":[1]}`,
	"kv.destroy":  `{"path":"a/b","versions":[1]}`,

	"db.issue_creds": `{"role":"dev"}`,
	"db.renew":       `{"lease_id":"LEASE"}`,
	"db.revoke":      `{"lease_id":"LEASE"}`,

	"whoami": `{}`,

	"transit.encrypt": `{"key":"dev","plaintext":""}`,
	"transit.decrypt": `{"key":"dev","ciphertext":"vault:v1:AAAA"}`,
	"transit.sign":    `{"key":"dev","input":""}`,
	"transit.verify":  `{"key":"dev","input":"","signature":"vault:v1:AAAA"}`,
	"transit.rewrap":  `{"key":"dev","ciphertext":"vault:v1:AAAA"}`,
	"transit.random":  `{}`,
	"ssh.otp":         `{"role":"dev","ip":"192.0.2.7"}`,
	"ssh.sign":        `{"role":"dev","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJeyVxIXw4GdVnVsKUvLjAGT1W9kJrPSfMUSwRtyD4tB"}`,

	"kms.encrypt":           `{"key_id":"alias/dev","plaintext":"YQ=="}`,
	"kms.decrypt":           `{"key_id":"alias/dev","ciphertext":"YQ=="}`,
	"kms.generate_data_key": `{"key_id":"alias/dev"}`,
	"kms.sign":              `{"key_id":"alias/dev--sign","message":"YQ==","signing_algorithm":"ECDSA_SHA_256"}`,
	"kms.verify":            `{"key_id":"alias/dev--sign","message":"YQ==","signing_algorithm":"ECDSA_SHA_256","signature":"YQ=="}`,
}

// may is the oracle: who may call what.
func may(scopes auth.Scopes, tool string, readOnly bool) bool {
	right := rights[tool]
	if readOnly && !right.reads {
		return false
	}
	engine, _, _ := strings.Cut(tool, ".")
	return right.verb == "" || slices.Contains(scopes, right.verb) || slices.Contains(scopes, auth.Scope(engine+":"+string(right.verb)))
}

// Every set of scopes with every tool: what the oracle allows and nothing else
// reaches Vault or AWS KMS, and is visible; fewer scopes never allow more.
func TestAuthorizationModel(t *testing.T) {
	vault := newFakeVault(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	universe := auth.Scopes{auth.Read, auth.Write, auth.Delete, auth.List, "kv:read", "kv:delete", "transit:write", "db:write"}
	require.Len(t, tools.NewCatalog().Tools(), len(rights))
	for _, readOnly := range []bool{false, true} {
		keys := newFakeKMS(t)
		r := newRig(t, rigOptions{addr: vault.URL, kms: keys.URL, Options: tools.Options{ReadOnly: readOnly}})
		allowed := make([]map[string]bool, 1<<len(universe))
		for set := range allowed {
			p := principal("dev")
			p.Scopes = nil
			for i, s := range universe {
				if set&(1<<i) != 0 {
					p.Scopes = append(p.Scopes, s)
				}
			}
			allowed[set] = allowedTo(t, r, vault, keys, p)
			for tool := range rights {
				require.Equal(t, may(p.Scopes, tool, readOnly), allowed[set][tool], "%s with %v", tool, p.Scopes)
			}
		}
		for set := range allowed {
			for i := range universe {
				for tool := range allowed[set&^(1<<i)] {
					require.True(t, allowed[set][tool], "%s is allowed without %s and not with it", tool, universe[i])
				}
			}
		}
	}
}

// allowedTo tries every tool.
func allowedTo(t *testing.T, r *rig, vault *fakeVault, keys *fakeKMS, p *auth.Principal) map[string]bool {
	t.Helper()
	allowed := map[string]bool{}
	lease := sealed(t, p, leased{Engine: "database", Role: "dev", ID: "database/creds/dev/x", Renewable: true})
	before := len(vault.seen()) + len(keys.seen())
	for tool, args := range arguments {
		_, f := r.run(p, tool, strings.ReplaceAll(args, "LEASE", lease))
		if f == nil || f.Kind != fault.Forbidden {
			allowed[tool] = true
		}
	}
	asked := len(vault.seen()) + len(keys.seen()) - before
	if allowed["whoami"] {
		asked++ // it asks nothing
	}
	require.Equal(t, len(allowed), asked, "a refused call reached an upstream, or an allowed one did not")
	visible := tools.Names(r.runner.Visible(p))
	require.Len(t, visible, len(allowed))
	for _, name := range visible {
		require.True(t, allowed[name], "%s is visible and refused", name)
	}
	return allowed
}

// Whatever a tenant asks for, what reaches Vault is below its own prefix.
func TestTenantsStayBelowTheirPrefix(t *testing.T) {
	vault := newFakeVault(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	r := newRig(t, rigOptions{addr: vault.URL})
	paths := []string{
		"x", "mcp/dev-bot/x", "-bot/x", "dev-bot/x", "data/x", "metadata/x", "sys/mounts", "..", "../dev-bot/x", "./x", ".../x", "/x", "//x", "x//y",
		"%2e%2e/dev-bot/x", "x?version=1", "x#y", `x\\..\\y`, "x;/../y", "x y", "x\\u0000", "x\\n", "*", "+/x", "{{identity.entity.id}}", "．．/x", "",
	}
	for _, slug := range []string{"dev", "dev-bot"} {
		for tool, args := range arguments {
			if !strings.HasPrefix(tool, "kv.") { // others have no path
				continue
			}
			for _, path := range paths {
				before := len(vault.seen())
				_, f := r.run(principal(slug), tool, strings.ReplaceAll(args, "a/b", path))
				asked := vault.seen()[before:]
				if f != nil && f.Kind == fault.Invalid {
					require.Empty(t, asked, "refused after Vault was asked: %q", path)
					continue
				}
				require.Len(t, asked, 1)
				_, where, _ := strings.Cut(asked[0], " ")
				engine, _, _ := strings.Cut(strings.TrimPrefix(where, "/v1/secret/"), "/")
				require.Contains(t, []string{"data", "metadata", "delete", "undelete", "destroy"}, engine)
				below := "/v1/secret/" + engine + "/mcp/" + slug
				require.True(t, strings.HasPrefix(where, below+"/") || tool == "kv.list" && path == "" && where == below, "%s reached %s", slug, where)
				require.NotContains(t, where, "..%2f")
				require.NotContains(t, strings.Split(where, "/"), "..")
			}
		}
	}
}
