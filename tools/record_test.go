package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

func TestRecordsOfACall(t *testing.T) {
	vault := newFakeVault(t, answerJSON(readAnswer))
	r := newRig(t, rigOptions{addr: vault.URL})
	res, f := r.call(t, tools.Call{
		Tool: "kv_read", Principal: principal("dev"), Args: json.RawMessage(`{ "path": "app/config", "version" : 1.0 }`),
		Transport: "mcp", Remote: "192.0.2.1", RequestID: "request-1",
	})
	require.Nil(t, f)
	require.Equal(t, "request-1", res.RequestID)
	records := r.records()
	require.Equal(t, []string{"attempt", "outcome ok"}, kinds(records))
	for _, rec := range records {
		require.Equal(t, []any{"request-1", "mcp", "192.0.2.1", "dev", "api_key", "key-dev", "kv.read", "read", []string{"read secret/data/mcp/dev/app/config"}},
			[]any{rec.RequestID, rec.Transport, rec.Remote, rec.Subject, rec.AuthMethod, rec.CredentialID, rec.Tool, rec.Scope, rec.Needs})
	}
	attempt, outcome := records[0], records[1]
	require.Equal(t, map[string]string{"path": hash(t, `"app/config"`), "version": hash(t, `1.0`)}, attempt.Args, "each argument as it came")
	require.Empty(t, attempt.Result)
	require.Empty(t, outcome.Args, "the attempt has them")
	require.Equal(t, hash(t, string(res.JSON)), outcome.Result)
	require.Equal(t, "0191f8a0-7a11-7c3c-8ad2-d6f9ed5b1c2f", outcome.VaultRequestID)
	require.NotContains(t, r.everywhere(), "correct horse")
	require.Equal(t, 1, strings.Count(r.log.String(), "\n"), "one line for each call")
	require.NotContains(t, r.log.String(), "app/config")
}

// What of the arguments is in the record of a refused call.
func TestRecordsOfRefusedArguments(t *testing.T) {
	for name, c := range map[string]struct {
		p    *auth.Principal
		args string
		want map[string]string
	}{
		"before they were looked at": {with(principal("dev"), func(p *auth.Principal) { p.Scopes = nil }), `{"path":"a"}`, map[string]string{"*": hash(t, `{"path":"a"}`)}},
		"not JSON":                   {principal("dev"), `{"path":`, map[string]string{"*": hash(t, `{"path":`)}},
		"unknown argument":           {principal("dev"), `{"path":"a","x":1}`, map[string]string{"*": hash(t, `{"path":"a","x":1}`)}},
		"out of bounds":              {principal("dev"), `{"path":"a","version":-1}`, map[string]string{"path": hash(t, `"a"`), "version": hash(t, `-1`)}},
		"none":                       {principal("dev"), ``, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			_, f := r.run(c.p, "kv.read", c.args)
			require.NotNil(t, f)
			require.Len(t, r.records(), 1)
			require.Equal(t, c.want, r.records()[0].Args)
		})
	}
}

// A trail that cannot be written before Vault is asked: Vault is not asked.
func TestNoAttemptRecordNoCall(t *testing.T) {
	vault := newFakeVault(t, answerJSON(readAnswer))
	r := newRig(t, rigOptions{addr: vault.URL})
	require.NoError(t, r.trail.Close())
	for tool, args := range map[string]string{"kv.read": `{"path":"a"}`, "kv.write": `{"path":"a","data":{}}`, "whoami": ``} {
		_, f := r.run(principal("dev"), tool, args)
		require.NotNil(t, f)
		require.Equal(t, fault.Unavailable, f.Kind)
		require.Equal(t, map[string]any{"code": "audit_unavailable"}, f.Details, "nothing was done, so nothing is unknown")
	}
	require.Empty(t, vault.seen())
	require.Contains(t, r.log.String(), "the trail is closed", "the operator learns why")
}

// A trail that fails between attempt and outcome: the result is withheld, and
// whoever asked for a change is told that it may have taken place.
func TestNoOutcomeRecordNoResult(t *testing.T) {
	for name, c := range map[string]struct {
		retryable bool
		err       error
		details   map[string]any
	}{
		"change":        {false, nil, map[string]any{"code": "audit_unavailable", "outcome": "unknown"}},
		"read":          {true, nil, map[string]any{"code": "audit_unavailable"}},
		"failed":        {false, fault.New(fault.NotFound, canary), map[string]any{"code": "audit_unavailable"}},
		"perhaps done":  {false, fault.New(fault.Timeout, canary).With("outcome", "unknown"), map[string]any{"code": "audit_unavailable", "outcome": "unknown"}},
		"foreign error": {false, errors.New(canary), map[string]any{"code": "audit_unavailable"}},
	} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			tool := probe(tools.Tool{Idempotent: c.retryable, Retryable: c.retryable}, func(context.Context, *tools.Env, probeIn) (probeOut, error) {
				require.NoError(t, r.trail.Close())
				return probeOut{Got: canary}, c.err
			})
			r = newRig(t, rigOptions{catalog: tools.NewCatalogOf(tool)})
			res, f := r.run(principal("dev"), "probe.use", `{"key":"dev"}`)
			require.NotNil(t, f)
			require.Equal(t, fault.Unavailable, f.Kind)
			require.Equal(t, c.details, f.Details)
			require.Contains(t, f.Msg, "withheld")
			require.NotContains(t, string(tools.NewErrorObject(f, res.RequestID).JSON()), canary)
			require.Equal(t, []string{"attempt"}, kinds(r.records()))
		})
	}
}

// A change of which Vault's answer got lost is recorded as unknown.
func TestUnknownOutcome(t *testing.T) {
	vault := newFakeVault(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	r := newRig(t, rigOptions{addr: vault.URL})
	_, f := r.run(principal("dev"), "kv.write", `{"path":"a","data":{"k":"`+canary+`"}}`)
	require.NotNil(t, f)
	require.Equal(t, fault.Unavailable, f.Kind)
	require.Equal(t, "unknown", f.Details["outcome"])
	require.Equal(t, []string{"attempt", "outcome unknown"}, kinds(r.records()))
	require.Len(t, vault.seen(), 1, "a write is not repeated")
	require.NotContains(t, r.everywhere(), canary)
}

// A credential that was minted but could not be wrapped is out in the world.
func TestUndeliveredResult(t *testing.T) {
	type in struct {
		Role string `json:"role" doc:"Role."`
		tools.WrapTTL
	}
	type out struct {
		Password secret.Text `json:"password,omitzero" doc:"Password."`
		Lease    string      `json:"lease" doc:"Lease."`
		tools.Wrapped
	}
	tool := tools.Define(tools.Tool{
		Name: "probe.mint", Title: "Mint", Doc: "Mints.", Scope: auth.Write, Effect: tools.Uses, Route: "POST /mint",
		Needs: []tools.Need{{Path: "{database}/creds/{role}", Capabilities: []string{"read"}}},
	}, func(ctx context.Context, env *tools.Env, _ in) (out, error) {
		_, err := env.Vault.Do(ctx, vaultx.Request{})
		return out{Password: secret.NewText(canary), Lease: "lease-1"}, err
	})
	status, answer := http.StatusOK, `{"request_id":"w","wrap_info":{"token":"`+canary+`","ttl":60,"creation_path":"sys/wrapping/wrap","creation_time":"2026-01-02T03:04:05Z"}}`
	vault := newFakeVault(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sys/wrapping/wrap" {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(answer))
			return
		}
		_, _ = w.Write([]byte(`{"request_id":"m","data":{}}`))
	})
	r := newRig(t, rigOptions{addr: vault.URL, catalog: tools.NewCatalogOf(tool)})
	res, f := r.run(principal("dev"), "probe.mint", `{"role":"dev","wrap_ttl":"60s"}`)
	require.Nil(t, f)
	require.JSONEq(t, `{"lease":"lease-1","wrap":{"token":"`+canary+`","ttl":60,"creation_path":"sys/wrapping/wrap","creation_time":"2026-01-02T03:04:05Z"}}`, string(res.JSON))
	res, f = r.run(principal("dev"), "probe.mint", `{"role":"dev"}`)
	require.Nil(t, f)
	require.JSONEq(t, `{"lease":"lease-1","password":"`+canary+`"}`, string(res.JSON))

	status, answer = http.StatusForbidden, `{"errors":["permission denied"]}`
	_, f = r.run(principal("dev"), "probe.mint", `{"role":"dev","wrap_ttl":"60s"}`)
	require.NotNil(t, f)
	require.Equal(t, fault.Forbidden, f.Kind)
	require.Equal(t, "unknown", f.Details["outcome"])
	records := r.records()
	require.Equal(t, "unknown", records[len(records)-1].Outcome)
	require.NotContains(t, r.everywhere(), canary)
}

func TestErrorObject(t *testing.T) {
	f := fault.New(fault.RateLimited, "wait")
	f.RetryAfter = 1500e6
	require.JSONEq(t, `{"code":"rate_limited","message":"wait","request_id":"id","retry_after":1.5,"details":{"a":1}}`,
		string(tools.NewErrorObject(f.With("a", 1), "id").JSON()))
	require.JSONEq(t, `{"code":"internal","message":"internal error; the operator finds the cause under the request id"}`,
		string(tools.NewErrorObject(errors.New(canary), "").JSON()))
	require.JSONEq(t, `{"code":"internal","message":"error"}`,
		string(tools.ErrorObject{Details: map[string]any{"a": func() {}}}.JSON()), "details that cannot be encoded")
}

// Equal results have equal hashes, so that whoever knows a value can find it.
func TestResultsAreEncodedInOrder(t *testing.T) {
	var first string
	for range 20 {
		got, err := tools.EncodeResult(map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "f": "6"})
		require.NoError(t, err)
		if first == "" {
			first = string(got)
		}
		require.Equal(t, first, string(got))
	}
}

func TestKindsOfRecords(t *testing.T) {
	r := newRig(t, rigOptions{})
	_, f := r.run(principal("dev"), "whoami", ``)
	require.Nil(t, f)
	records := r.records()
	require.Equal(t, []audit.Kind{audit.Attempt, audit.Outcome}, []audit.Kind{records[0].Kind, records[1].Kind})
	require.Empty(t, records[1].Needs, "whoami asks nothing of Vault")
	require.Empty(t, records[1].VaultRequestID)
}
