package tools_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// leased is what a handle of a lease holds.
type leased struct {
	Engine    string `json:"engine"`
	Role      string `json:"role"`
	ID        string `json:"id"`
	Renewable bool   `json:"renewable"`
}

// sealed is a handle as the server of these tests makes them.
func sealed(t testing.TB, p *auth.Principal, l leased) string {
	t.Helper()
	return sealedAs(t, sealKey, auth.LeaseHandle, p, l)
}

func sealedAs(t testing.TB, key []byte, purpose auth.Purpose, p *auth.Principal, holds any) string {
	t.Helper()
	s, err := auth.NewSealer(key)
	require.NoError(t, err)
	content, err := json.Marshal(holds)
	require.NoError(t, err)
	h, err := s.Seal(purpose, p, time.Now().Add(time.Hour), content)
	require.NoError(t, err)
	return h.String()
}

// Every result that names a lease has a handle in it: the type of the field is
// that which only the pipeline makes.
func TestLeasesOfResultsAreHandles(t *testing.T) {
	found := 0
	for _, tool := range tools.NewCatalog().Tools() {
		var schema struct {
			Properties map[string]json.RawMessage `json:"properties"`
		}
		require.NoError(t, json.Unmarshal(tool.OutputSchema, &schema))
		for name, property := range schema.Properties {
			require.NotContains(t, string(property), `"lease_id"`, "%s has a lease below the first level", tool.Name)
			if name == "lease_id" {
				found++
				require.Equal(t, "tools.Lease", tool.OutputField(name).String(), tool.Name)
			}
		}
		for _, need := range tool.Needs {
			about := strings.HasPrefix(need.Path, "sys/leases/")
			require.Equal(t, about, need.Lease != "", "%s reaches leases and wants no handle, or the reverse", tool.Name)
		}
	}
	require.GreaterOrEqual(t, found, 2)
	_, err := tools.EncodeResult(struct {
		LeaseID tools.Lease `json:"lease_id"`
	}{})
	require.Error(t, err, "a lease that nobody made is not given out")
}

// otpIn and otpOut are those of a probe that issues leases with Vault's SSH
// engine, which every Vault has.
type otpIn struct {
	Role string `json:"role" doc:"Role."`
	IP   string `json:"ip" doc:"IP."`
}

type otpOut struct {
	LeaseID tools.Lease `json:"lease_id" doc:"Lease."`
	OTP     secret.Text `json:"otp" doc:"OTP."`
}

func otpProbe() *tools.Tool {
	return tools.Define(tools.Tool{
		Name: "ssh.probe", Title: "Probe", Doc: "Issues a one-time password for these tests.", Effect: tools.Uses,
		Scope: auth.Write, Route: "POST /probe", Needs: []tools.Need{{Path: "{ssh}/creds/{role}", Capabilities: []string{"update"}}},
	}, func(ctx context.Context, env *tools.Env, in otpIn) (out otpOut, err error) {
		resp, err := env.Vault.Do(ctx, vaultx.Request{Body: map[string]string{"ip": in.IP}})
		if err != nil {
			return out, err
		}
		var data struct {
			Key string `json:"key"`
		}
		if err := json.Unmarshal(resp.Data, &data); err != nil {
			return out, err
		}
		out.OTP = secret.NewText(data.Key)
		out.LeaseID, err = env.Lease(vaultx.Lease{ID: resp.LeaseID, Duration: resp.LeaseDuration, Renewable: resp.Renewable}, in.Role)
		return out, err
	})
}

// withProbe is the catalogue and the probe.
func withProbe() *tools.Catalog {
	return tools.NewCatalogOf(append(slices.Clone(tools.NewCatalog().Tools()), otpProbe())...)
}

// otpVault is a Vault with an SSH engine and one-time roles, which says what
// reaches it.
func otpVault(t *testing.T, roles ...string) (*devstack.Vault, *devstacktest.Rec) {
	t.Helper()
	v := devstacktest.Fresh(t, devstacktest.Options{})
	require.NoError(t, v.Request(t.Context(), "POST", "sys/mounts/ssh", map[string]any{"type": "ssh"}, nil))
	for _, role := range roles {
		require.NoError(t, v.Request(t.Context(), "POST", "ssh/roles/"+role, map[string]any{
			"key_type": "otp", "default_user": "ubuntu", "cidr_list": "127.0.0.0/8",
		}, nil))
	}
	return v, devstacktest.Recorder(t, v.Addr)
}

func leaseArgs(handle string) string { return fmt.Sprintf(`{"lease_id":%q}`, handle) }

// A lease is its principal's alone, on every server that has the key; what is
// not such a lease is refused before Vault is asked.
func TestLeaseOwnership(t *testing.T) {
	v, rec := otpVault(t, "dev")
	opt := rigOptions{catalog: withProbe(), addr: rec.URL, token: v.RootToken}
	first, replica := newRig(t, opt), newRig(t, opt)
	p := principal("dev")
	out := first.issue(t, p, "dev")
	require.NotContains(t, out.LeaseID, "ssh/creds")
	leases := vaultLeases(t, v, "ssh/creds/dev")
	require.Len(t, leases, 1)
	id := leases[0]

	other := with(principal("dev"), func(p *auth.Principal) { p.Slug = "dev-bot" })
	elsewhere := with(principal("dev"), func(p *auth.Principal) { p.Issuer = "https://other.example" })
	rec.Reset()
	for about, row := range map[string]struct {
		who    *auth.Principal
		handle string
		kind   fault.Kind
	}{
		"another principal's":    {other, out.LeaseID, fault.Forbidden},
		"another issuer's":       {elsewhere, out.LeaseID, fault.Forbidden},
		"Vault's own id":         {p, id, fault.Invalid},
		"Vault's prefix":         {p, "ssh/creds/dev", fault.Invalid},
		"a way out":              {p, "ssh/creds/otp/../../x", fault.Invalid},
		"empty":                  {p, "", fault.Invalid},
		"cut short":              {p, out.LeaseID[:len(out.LeaseID)-4], fault.Forbidden},
		"cut very short":         {p, out.LeaseID[:12], fault.Invalid},
		"longer":                 {p, out.LeaseID + "AAAA", fault.Forbidden},
		"too long":               {p, "lease_" + strings.Repeat("A", 2000), fault.Invalid},
		"of another purpose":     {p, sealedAs(t, sealKey, "sub", p, leased{"ssh", "dev", id, true}), fault.Forbidden},
		"of another server":      {p, sealedAs(t, auditKey, auth.LeaseHandle, p, leased{"ssh", "dev", id, true}), fault.Forbidden},
		"with Vault's id inside": {p, "lease_" + strings.NewReplacer("/", "_").Replace(id), fault.Invalid},
	} {
		for _, tool := range []string{"db.renew", "db.revoke"} {
			_, f := first.run(row.who, tool, leaseArgs(row.handle))
			require.NotNil(t, f, "%s %s", tool, about)
			require.Equal(t, row.kind, f.Kind, "%s %s: %s", tool, about, f.Msg)
			require.Equal(t, "/lease_id", f.Details["field"], about)
			require.NotContains(t, f.Msg, "creds")
		}
	}
	require.Empty(t, rec.Requests(), "Vault heard of it")

	_, f := first.run(p, "db.renew", leaseArgs(out.LeaseID))
	require.Equal(t, fault.Invalid, f.Kind)
	require.Contains(t, f.Msg, "cannot be renewed")
	require.Empty(t, rec.Requests())

	require.JSONEq(t, `{"ok":true}`, string(replica.must(t, p, "db.revoke", leaseArgs(out.LeaseID)).JSON))
	require.Equal(t, []string{"POST /v1/sys/leases/revoke"}, rec.Requests())
	require.Empty(t, vaultLeases(t, v, "ssh/creds/dev"), "revoked when Vault had answered, not queued")
	require.JSONEq(t, `{"ok":true}`, string(first.must(t, p, "db.revoke", leaseArgs(out.LeaseID)).JSON), "again")

	records := replica.records()
	require.Equal(t, []string{"attempt", "outcome ok"}, kinds(records))
	require.Equal(t, []string{"update sys/leases/revoke", "lease of ssh/creds/dev", "lease " + hash(t, id)}, records[1].Needs)
	wrote := first.everywhere() + replica.everywhere()
	for _, hidden := range []string{out.OTP, out.LeaseID, id} {
		require.NotContains(t, wrote, hidden)
	}
}

// Giving back needs no grant, keeping does.
func TestLeaseGrants(t *testing.T) {
	v, rec := otpVault(t)
	r := newRig(t, rigOptions{addr: rec.URL, token: v.RootToken})
	p := principal("dev")
	handle := sealed(t, p, leased{"database", "dev", "database/creds/dev/x", true})
	bare := with(p, func(p *auth.Principal) { p.Grants = auth.Grants{"ssh": {"*"}} })
	_, f := r.run(bare, "db.renew", leaseArgs(handle))
	require.Equal(t, fault.Forbidden, f.Kind)
	require.Equal(t, "/lease_id", f.Details["field"])
	require.Empty(t, rec.Requests())
	r.must(t, bare, "db.revoke", leaseArgs(handle))
	require.Equal(t, []string{"POST /v1/sys/leases/revoke"}, rec.Requests())
	_, f = r.run(p, "db.renew", leaseArgs(handle))
	require.Equal(t, fault.NotFound, f.Kind, "a lease that is over")
	require.Equal(t, "the lease is over: it has expired or was revoked", f.Msg)
}

// A handle outlives what Vault gives by default, and not by much.
func TestLeaseHandlesExpire(t *testing.T) {
	v, rec := otpVault(t, "dev")
	now := time.Now()
	r := newRig(t, rigOptions{catalog: withProbe(), addr: rec.URL, token: v.RootToken, now: func() time.Time { return now }})
	p := principal("dev")
	out := r.issue(t, p, "dev")
	now = now.Add(768*time.Hour - time.Second)
	r.must(t, p, "db.revoke", leaseArgs(out.LeaseID))
	now = now.Add(2 * time.Second)
	rec.Reset()
	_, f := r.run(p, "db.revoke", leaseArgs(out.LeaseID))
	require.Equal(t, fault.NotFound, f.Kind)
	require.Empty(t, rec.Requests())
}

// What another version of the server may have sealed, and this one cannot read, is
// no lease, and nothing of the caller's doing.
func TestLeaseHandlesOfAnotherVersion(t *testing.T) {
	vault := newFakeVault(t, answerJSON(`{}`))
	r := newRig(t, rigOptions{addr: vault.URL})
	p := principal("dev")
	for _, holds := range []any{"database/creds/dev/x", []string{"x"}, map[string]any{"id": 5}} {
		for _, tool := range []string{"db.renew", "db.revoke"} {
			_, f := r.run(p, tool, leaseArgs(sealedAs(t, sealKey, auth.LeaseHandle, p, holds)))
			require.NotNil(t, f)
			require.Equal(t, fault.Internal, f.Kind)
		}
	}
	require.Empty(t, vault.seen())
}

// An increment is held to its bounds before anything is asked.
func TestRenewIncrement(t *testing.T) {
	vault := newFakeVault(t, answerJSON(`{"lease_id":"database/creds/dev/x","renewable":true,"lease_duration":60}`))
	r := newRig(t, rigOptions{addr: vault.URL})
	p := principal("dev")
	handle := sealed(t, p, leased{"database", "dev", "database/creds/dev/x", true})
	for _, bad := range []string{"0", "-1", "2764801", "1.5", `"60"`, "1e9", "null", "true"} {
		_, f := r.run(p, "db.renew", fmt.Sprintf(`{"lease_id":%q,"increment":%s}`, handle, bad))
		require.Equal(t, fault.Invalid, f.Kind, bad)
		require.Equal(t, "/increment", f.Details["field"])
	}
	require.Empty(t, vault.seen())
	for _, good := range []string{"1", "60", "2764800", "6e1"} {
		res := r.must(t, p, "db.renew", fmt.Sprintf(`{"lease_id":%q,"increment":%s}`, handle, good))
		require.Contains(t, string(res.JSON), `"lease_duration":60`)
	}
	require.Len(t, vault.seen(), 4)
}

// What Vault answers about another lease, or without one, is not passed on; the
// caller learns that something may have been done.
func TestLeasesThatAreNotTheOneAskedFor(t *testing.T) {
	p := principal("dev")
	handle := sealed(t, p, leased{"database", "dev", "database/creds/dev/x", true})
	for _, id := range []string{
		"", "x", "database/creds/dev", "database/creds/dev/", "database/creds/dev-bot/x", "database/creds/dev/a/b", "database/creds/dev/..", "auth/token/create/x", "/database/creds/dev/x",
	} {
		body := fmt.Sprintf(`{"lease_id":%q,"renewable":true,"lease_duration":60,"data":{"username":"u","password":%q}}`, id, canary)
		r := newRig(t, rigOptions{addr: newFakeVault(t, answerJSON(body)).URL})
		for tool, args := range map[string]string{"db.issue_creds": `{"role":"dev"}`, "db.renew": leaseArgs(handle)} {
			_, f := r.run(p, tool, args)
			require.NotNil(t, f, "%s %q", tool, id)
			require.Equal(t, fault.Unavailable, f.Kind)
			require.Equal(t, "unknown", f.Details["outcome"])
		}
		require.NotContains(t, r.everywhere(), canary)
	}
}

// otpResult is what a call of the probe gives its caller.
type otpResult struct {
	LeaseID string `json:"lease_id"`
	OTP     string `json:"otp"`
}

func (r *rig) issue(t *testing.T, p *auth.Principal, role string) (out otpResult) {
	t.Helper()
	res := r.must(t, p, "ssh.probe", fmt.Sprintf(`{"role":%q,"ip":"127.0.0.1"}`, role))
	require.NoError(t, json.Unmarshal(res.JSON, &out))
	return out
}

// must is run for calls that succeed.
func (r *rig) must(t testing.TB, p *auth.Principal, tool, args string) tools.Result {
	t.Helper()
	res, f := r.run(p, tool, args)
	if f != nil {
		require.NoError(t, f, "%s: %v", tool, f.Err)
	}
	return res
}

// vaultLeases are Vault's ids of the leases that a role of the SSH engine gave.
func vaultLeases(t *testing.T, v *devstack.Vault, path string) []string {
	t.Helper()
	var list struct {
		Data struct {
			Keys []string `json:"keys"`
		} `json:"data"`
	}
	err := v.Request(t.Context(), "LIST", "sys/leases/lookup/"+path, nil, &list)
	if err != nil {
		require.ErrorContains(t, err, fmt.Sprint(http.StatusNotFound))
	}
	for i, key := range list.Data.Keys {
		list.Data.Keys[i] = path + "/" + key
	}
	return list.Data.Keys
}

// A lease whose holder never gets to know of it is given back: nobody else could.
func TestUndeliveredLeaseIsGivenBack(t *testing.T) {
	const (
		id    = "database/creds/dev/x"
		creds = `{"lease_id":"` + id + `","renewable":true,"lease_duration":60,"data":{"username":"u","password":"p"}}`
		otpID = "ssh/creds/dev/x"
		otp   = `{"lease_id":"` + otpID + `","lease_duration":60,"data":{"key_type":"otp","key":"k","ip":"192.0.2.8","username":"ubuntu"}}`
		given = "revoked, since it was not delivered"
	)
	for about, c := range map[string]struct {
		tool, id     string
		issued, args string
		revoked      int // Vault's answer to the revocation
		word         string
	}{
		"cannot be wrapped":             {"db.issue_creds", id, creds, `{"role":"dev","wrap_ttl":"60s"}`, http.StatusNoContent, given},
		"nor revoked":                   {"db.issue_creds", id, creds, `{"role":"dev","wrap_ttl":"60s"}`, http.StatusForbidden, "not delivered, and not revoked"},
		"another kind of credential":    {"db.issue_creds", id, strings.Replace(creds, "password", "rsa_private_key", 1), `{"role":"dev"}`, http.StatusNoContent, given},
		"a password for another host":   {"ssh.otp", otpID, otp, `{"role":"dev","ip":"192.0.2.7"}`, http.StatusNoContent, given},
		"a password that is unreadable": {"ssh.otp", otpID, strings.Replace(otp, `"k"`, "1", 1), `{"role":"dev","ip":"192.0.2.8"}`, http.StatusNoContent, given},
	} {
		var asked []string
		vault := newFakeVault(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/v1/" + strings.TrimSuffix(c.id, "/x"):
				_, _ = io.WriteString(w, c.issued)
			case "/v1/sys/leases/revoke":
				body, _ := io.ReadAll(r.Body)
				asked = append(asked, string(body))
				w.WriteHeader(c.revoked)
			default:
				w.WriteHeader(http.StatusForbidden)
			}
		})
		r := newRig(t, rigOptions{addr: vault.URL})
		_, f := r.run(principal("dev"), c.tool, c.args)
		require.NotNil(t, f, about)
		require.Equal(t, "unknown", f.Details["outcome"], about)
		require.Equal(t, []string{`{"lease_id":"` + c.id + `","sync":true}`}, asked, about)
		records := r.records()
		needs := records[len(records)-1].Needs
		require.Equal(t, "lease "+hash(t, c.id)+" "+c.word, needs[len(needs)-1], about)
	}
}

// So it is if we break before we have given it out.
func TestLeaseOfABrokenCallIsGivenBack(t *testing.T) {
	const id = "ssh/creds/dev/x"
	vault := newFakeVault(t, answerJSON(`{"lease_id":"`+id+`","lease_duration":60,"data":{"key_type":"otp","key":"k","ip":"192.0.2.7","username":"ubuntu"}}`))
	broken := tools.Define(tools.Tool{
		Name: "ssh.broken", Title: "t", Doc: "d", Scope: auth.Write, Effect: tools.Uses, Route: "POST /broken",
		Needs: []tools.Need{{Path: "{ssh}/creds/{role}", Capabilities: []string{"update"}}},
	}, func(ctx context.Context, env *tools.Env, in struct {
		Role string `json:"role" doc:"d" jsonschema:"minLength=1,maxLength=9"`
	},
	) (out struct{}, _ error) {
		given, err := vaultx.SSHOTP(ctx, env.Vault, netip.MustParseAddr("192.0.2.7"), "")
		require.NoError(t, err)
		_, err = env.Lease(given.Lease, in.Role)
		require.NoError(t, err)
		panic("broken")
	})
	r := newRig(t, rigOptions{catalog: tools.NewCatalogOf(broken), addr: vault.URL})
	_, f := r.run(principal("dev"), "ssh.broken", `{"role":"dev"}`)
	require.Equal(t, fault.Internal, f.Kind)
	require.Equal(t, []string{"POST /v1/ssh/creds/dev", "POST /v1/sys/leases/revoke"}, vault.seen())
	records := r.records()
	needs := records[len(records)-1].Needs
	require.Equal(t, "lease "+hash(t, id)+" revoked, since it was not delivered", needs[len(needs)-1])
}

// The records of the calls that issue, renew and revoke a lease can be joined by
// a mark of it, which is not its id.
func TestLeaseInTheTrail(t *testing.T) {
	const id = "database/creds/dev/x"
	vault := newFakeVault(t, answerJSON(`{"lease_id":"`+id+`","renewable":true,"lease_duration":60,"data":{"username":"u","password":"p"}}`))
	r := newRig(t, rigOptions{addr: vault.URL})
	p := principal("dev")
	var made struct {
		LeaseID string `json:"lease_id"`
	}
	require.NoError(t, json.Unmarshal(r.must(t, p, "db.issue_creds", `{"role":"dev"}`).JSON, &made))
	r.must(t, p, "db.renew", leaseArgs(made.LeaseID))
	r.must(t, p, "db.revoke", leaseArgs(made.LeaseID))
	for _, rec := range r.records() {
		if rec.Kind == audit.Outcome {
			require.Contains(t, rec.Needs, "lease "+hash(t, id), rec.Tool)
		}
	}
	require.NotContains(t, r.everywhere(), id+`"`)
}
