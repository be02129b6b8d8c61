package tools_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// A test's own tool: one key of its engine, of which a principal needs a grant.
type probeIn struct {
	Key  string `json:"key" jsonschema:"minLength=1,maxLength=128" doc:"Name of the key."`
	Text string `json:"text,omitzero" jsonschema:"maxLength=64" doc:"Anything."`
	Alt  bool   `json:"alt,omitzero" doc:"Choose the second need."`
}

type probeOut struct {
	Got string `json:"got" doc:"What came."`
}

func probe(t tools.Tool, handler func(context.Context, *tools.Env, probeIn) (probeOut, error)) *tools.Tool {
	if t.Name == "" {
		t.Name = "probe.use"
	}
	t.Title, t.Doc, t.Route = "Probe", "A tool of the tests.", "POST /"+t.Name
	if t.Scope == "" {
		t.Scope = auth.Write
	}
	if t.Effect == "" {
		t.Effect = tools.Uses
	}
	if t.Needs == nil {
		t.Needs = []tools.Need{{Path: "{transit}/encrypt/{key}", Capabilities: []string{"update"}}}
	}
	return tools.Define(t, handler)
}

// ask makes the one request that the call may make.
func ask(ctx context.Context, env *tools.Env, in probeIn) (probeOut, error) {
	_, err := env.Vault.Do(ctx, vaultx.Request{Body: map[string]string{"x": in.Text}})
	return probeOut{Got: in.Text}, err
}

// One call that is wrong in every way is refused for the first; then that is
// mended, and so on. No refused call reaches Vault, each is recorded once.
func TestStagesComeInOrder(t *testing.T) {
	vault := newFakeVault(t, answerJSON(`{"request_id":"vault-1","data":{}}`))
	tool := probe(tools.Tool{}, ask)
	rigWith := func(opt tools.Options) *rig {
		return newRig(t, rigOptions{addr: vault.URL, catalog: tools.NewCatalogOf(tool), Options: opt})
	}
	p := principal("dev")
	expired := with(p, func(p *auth.Principal) { p.ExpiresAt = time.Now().Add(-time.Second); p.Scopes = nil })
	scopeless := with(p, func(p *auth.Principal) {
		p.Scopes = auth.Scopes{"read", "list", "delete", "kv:write", "prob:write", "probe:read"}
	})
	bad, foreign, good := `{"key":"dev","`+canary+`":1}`, `{"key":"other","text":"`+canary+`"}`, `{"key":"dev--a","text":"`+canary+`"}`

	for _, c := range []struct {
		name  string
		opt   tools.Options
		p     *auth.Principal
		tool  string
		args  string
		kind  fault.Kind
		want  string
		needs []string // what the record says that was asked for
	}{
		{"no principal", tools.Options{}, nil, "probe.use", bad, fault.Unauthenticated, "missing or has expired", nil},
		{"hollow principal", tools.Options{}, &auth.Principal{}, "probe.use", bad, fault.Unauthenticated, "missing or has expired", nil},
		{"expired", tools.Options{ReadOnly: true}, expired, "probe.use", bad, fault.Unauthenticated, "missing or has expired", nil},
		{"no such tool", tools.Options{ReadOnly: true}, scopeless, "probe." + canary, bad, fault.NotFound, "no such tool", nil},
		{"tool off", tools.Options{ReadOnly: true, Exclude: []string{"probe_use"}}, scopeless, "probe.use", bad, fault.Forbidden, "switched off", nil},
		{"engine off", tools.Options{ReadOnly: true, Exclude: []string{"probe"}}, scopeless, "probe.use", bad, fault.Forbidden, "switched off", nil},
		{"read-only", tools.Options{ReadOnly: true}, scopeless, "probe.use", bad, fault.Forbidden, "read-only", nil},
		{"no scope", tools.Options{}, scopeless, "probe_use", bad, fault.Forbidden, "needs the scope write or probe:write", nil},
		{"unknown argument", tools.Options{}, p, "probe.use", bad, fault.Invalid, "argument 2 is not one", nil},
		{"no grant", tools.Options{}, p, "probe.use", foreign, fault.Forbidden, "no grant for this name", []string{"update transit/encrypt/other"}},
		{"grant is no prefix", tools.Options{}, p, "probe.use", `{"key":"developer"}`, fault.Forbidden, "no grant for this name", []string{"update transit/encrypt/developer"}},
		{"no name", tools.Options{}, p, "probe.use", `{"key":"dev--/../x"}`, fault.Invalid, "/key: a name has", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rigWith(c.opt)
			_, f := r.run(c.p, c.tool, c.args)
			require.NotNil(t, f)
			require.Equal(t, c.kind, f.Kind)
			require.Contains(t, f.Msg, c.want)
			records := r.records()
			require.Equal(t, []string{"outcome " + string(c.kind)}, kinds(records))
			require.Equal(t, f.Msg, records[0].Detail)
			require.Equal(t, c.needs, records[0].Needs)
			require.NotContains(t, r.everywhere(), canary)
		})
	}
	require.Empty(t, vault.seen(), "a refused call reached Vault")

	r := rigWith(tools.Options{})
	res, f := r.run(p, "probe_use", good)
	require.Nil(t, f)
	require.JSONEq(t, `{"got":"`+canary+`"}`, string(res.JSON))
	require.Equal(t, []string{"POST /v1/transit/encrypt/dev--a"}, vault.seen())
	require.Equal(t, []string{"attempt", "outcome ok"}, kinds(r.records()))
	require.NotContains(t, r.everywhere(), canary)
}

// Who may not call learns nothing about the arguments: the refusal of good
// ones, bad ones, and none is the same.
func TestScopeComesBeforeArguments(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := with(principal("dev"), func(p *auth.Principal) { p.Scopes = auth.Scopes{auth.List} })
	_, first := r.run(p, "kv.write", `{"path":"a","data":{}}`)
	for _, args := range []string{``, `{`, `{"path":"../x","data":1}`, `{"x":1}`} {
		_, f := r.run(p, "kv.write", args)
		require.Equal(t, first, f)
	}
	require.Equal(t, fault.Forbidden, first.Kind)
	require.Equal(t, "write", first.Details["scope"])
}

func TestRateLimitCountsRefusedCallers(t *testing.T) {
	r := newRig(t, rigOptions{})
	p := with(principal("dev"), func(p *auth.Principal) {
		p.Scopes = nil
		p.Limit = auth.Limit{Requests: 2, Window: time.Hour, Burst: 2}
	})
	for range 2 {
		_, f := r.run(p, "kv.read", `{"path":"a"}`)
		require.Equal(t, fault.Forbidden, f.Kind)
	}
	_, f := r.run(p, "no.such.tool", ``)
	require.Equal(t, fault.RateLimited, f.Kind)
	require.Positive(t, f.RetryAfter)
	require.Equal(t, []string{"outcome forbidden", "outcome forbidden", "outcome rate_limited"}, kinds(r.records()))
	_, f = r.run(principal("other"), "whoami", ``)
	require.Nil(t, f, "another principal has a bucket of its own")
}

// A principal's end is looked at when the call comes, by the runner's clock.
func TestExpiry(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := newRig(t, rigOptions{now: func() time.Time { return now }})
	p := with(principal("dev"), func(p *auth.Principal) { p.ExpiresAt = now.Add(time.Minute) })
	_, f := r.run(p, "whoami", ``)
	require.Nil(t, f)
	require.NotEmpty(t, r.runner.Visible(p))
	now = now.Add(time.Minute)
	_, f = r.run(p, "whoami", ``)
	require.Equal(t, fault.Unauthenticated, f.Kind)
	require.Empty(t, r.runner.Visible(p))
}

func TestRunnerWantsItsParts(t *testing.T) {
	r := newRig(t, rigOptions{})
	_, err := tools.NewRunner(r.runner.Catalog(), nil, r.trail, auth.NewLimiter(), nil, tools.Options{})
	require.ErrorContains(t, err, "a runner wants")
}

func TestExcludeNamesWhatThereIs(t *testing.T) {
	all := len(tools.NewCatalog().Tools())
	for entry, want := range map[string]int{"kv.read": all - 1, "kv_read": all - 1, "kv": all - 8, "kv.*": all - 8, "transit": all - 6, "whoami": all - 1} {
		r := newRig(t, rigOptions{Options: tools.Options{Exclude: []string{entry}}})
		require.Len(t, r.runner.Visible(principal("dev")), want, entry)
	}
	v, err := vaultx.New(vaultx.Config{Address: "http://127.0.0.1:1"})
	require.NoError(t, err)
	r := newRig(t, rigOptions{})
	for _, entry := range []string{"kv.raed", "", "*", "k"} {
		_, err = tools.NewRunner(tools.NewCatalog(), v, r.trail, auth.NewLimiter(), nopLog(), tools.Options{Exclude: []string{"kv", entry}})
		require.EqualError(t, err, "TOOLS_EXCLUDE: entry 2 names no tool and no engine")
	}
}

// The input chooses the need; only that one is asked of Vault, and recorded.
func TestInputChoosesTheNeed(t *testing.T) {
	vault := newFakeVault(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	r := newRig(t, rigOptions{addr: vault.URL})
	for args, need := range map[string]string{
		`{"path":"a/b"}`:                  "delete secret/data/mcp/dev/a/b",
		`{"path":"a/b","versions":[1,2]}`: "update secret/delete/mcp/dev/a/b",
	} {
		res, f := r.run(principal("dev"), "kv.delete", args)
		require.Nil(t, f)
		for _, rec := range r.records() {
			if rec.RequestID == res.RequestID {
				require.Equal(t, []string{need}, rec.Needs)
			}
		}
	}
	require.ElementsMatch(t, []string{"DELETE /v1/secret/data/mcp/dev/a/b", "POST /v1/secret/delete/mcp/dev/a/b"}, vault.seen())
}

// What is in a panic's value stays there: it may be a secret.
func TestPanics(t *testing.T) {
	for name, c := range map[string]struct {
		do      func(in probeIn)
		logged  string
		outcome string
	}{
		"text":    {func(in probeIn) { panic("the secret is " + in.Text) }, "panic of type string", "unknown"},
		"error":   {func(in probeIn) { panic(errors.New(in.Text)) }, "panic of type *errors.errorString", "unknown"},
		"fault":   {func(in probeIn) { panic(fault.New(fault.NotFound, in.Text)) }, "panic of type *fault.Error", "unknown"},
		"runtime": {func(in probeIn) { _ = []int{}[len(in.Text)] }, "panic: runtime error: index out of range", "unknown"},
		"nil map": {func(in probeIn) { var m map[string]int; m[in.Text] = 1 }, "panic: assignment to entry in nil map", "unknown"}, //nolint:staticcheck // the point
	} {
		t.Run(name, func(t *testing.T) {
			tool := probe(tools.Tool{}, func(_ context.Context, _ *tools.Env, in probeIn) (probeOut, error) {
				c.do(in)
				return probeOut{}, nil
			})
			r := newRig(t, rigOptions{catalog: tools.NewCatalogOf(tool)})
			res, f := r.run(principal("dev"), "probe.use", `{"key":"dev","text":"`+canary+`"}`)
			require.NotNil(t, f)
			require.Equal(t, fault.Internal, f.Kind)
			require.Equal(t, "unknown", f.Details["outcome"], "it may have been done before the panic")
			require.NotContains(t, string(tools.NewErrorObject(f, res.RequestID).JSON()), canary)
			require.Equal(t, []string{"attempt", "outcome " + c.outcome}, kinds(r.records()))
			log := r.everywhere()
			require.NotContains(t, log, canary)
			require.Contains(t, log, c.logged)
			require.Contains(t, log, "runner_test.go:", "the operator must find the place")
			require.NotContains(t, log, "0x", "a trace with the words of arguments in it")
		})
	}
}

// A handler that ends its goroutine gives no answer, and is not recorded as ok.
func TestGoexitIsNotOK(t *testing.T) {
	tool := probe(tools.Tool{}, func(context.Context, *tools.Env, probeIn) (probeOut, error) {
		runtime.Goexit()
		return probeOut{}, nil
	})
	r := newRig(t, rigOptions{catalog: tools.NewCatalogOf(tool)})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = r.runner.Run(context.Background(), tools.Call{Tool: "probe.use", Principal: principal("dev"), Args: json.RawMessage(`{"key":"dev"}`)})
	}()
	<-done
	require.Equal(t, []string{"attempt", "outcome unknown"}, kinds(r.records()))
}

// Errors of handlers leave as one of ours, whatever they were.
func TestHandlersErrors(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"ours":     {fault.New(fault.Conflict, "conflict"), fault.Conflict},
		"wrapped":  {errors.Join(errors.New(canary), fault.New(fault.NotFound, "nothing")), fault.NotFound},
		"foreign":  {errors.New(canary), fault.Internal},
		"deadline": {context.DeadlineExceeded, fault.Timeout},
		"cancel":   {context.Canceled, fault.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			tool := probe(tools.Tool{}, func(context.Context, *tools.Env, probeIn) (probeOut, error) { return probeOut{Got: "result"}, c.err })
			r := newRig(t, rigOptions{catalog: tools.NewCatalogOf(tool)})
			res, f := r.run(principal("dev"), "probe.use", `{"key":"dev"}`)
			require.NotNil(t, f)
			require.Equal(t, c.kind, f.Kind)
			require.NotContains(t, string(tools.NewErrorObject(f, res.RequestID).JSON()), canary)
			require.Empty(t, r.records()[1].Result)
		})
	}
}

// sleeper waits for the end of its context, and tells.
func sleeper(retryable bool, ended chan<- error) *tools.Tool {
	return probe(tools.Tool{Idempotent: retryable, Retryable: retryable}, func(ctx context.Context, _ *tools.Env, _ probeIn) (probeOut, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return probeOut{}, ctx.Err()
	})
}

func TestDeadline(t *testing.T) {
	ended := make(chan error, 1)
	r := newRig(t, rigOptions{catalog: tools.NewCatalogOf(sleeper(false, ended)), Options: tools.Options{CallTimeout: time.Millisecond}})
	_, f := r.run(principal("dev"), "probe.use", `{"key":"dev"}`)
	require.Equal(t, fault.Timeout, f.Kind)
	require.ErrorIs(t, <-ended, context.DeadlineExceeded)
	require.Equal(t, []string{"attempt", "outcome timeout"}, kinds(r.records()))
}

// A caller's leaving ends what may be repeated. The rest runs on to its own
// deadline, so that its outcome is known.
func TestCallerLeaves(t *testing.T) {
	for _, retryable := range []bool{true, false} {
		ended := make(chan error, 1)
		r := newRig(t, rigOptions{
			catalog: tools.NewCatalogOf(sleeper(retryable, ended)), now: time.Now,
			Options: tools.Options{CallTimeout: 10 * time.Second},
		})
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			start := time.Now()
			time.AfterFunc(time.Second, cancel)
			_, f := r.callContext(t, ctx, tools.Call{Tool: "probe.use", Principal: principal("dev"), Args: json.RawMessage(`{"key":"dev"}`)})
			took := time.Since(start)
			if retryable {
				require.Equal(t, fault.Canceled, f.Kind)
				require.Equal(t, time.Second, took)
				return
			}
			require.Equal(t, fault.Timeout, f.Kind)
			require.Equal(t, 10*time.Second, took)
		})
	}
}

// One who has gone before anything was done is not served at all.
func TestCallerLeftBefore(t *testing.T) {
	vault := newFakeVault(t, answerJSON(`{}`))
	r := newRig(t, rigOptions{addr: vault.URL})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, f := r.callContext(t, ctx, tools.Call{Tool: "kv.write", Principal: principal("dev"), Args: json.RawMessage(`{"path":"a","data":{}}`)})
	require.Equal(t, fault.Canceled, f.Kind)
	require.NotContains(t, f.Details, "outcome")
	require.Empty(t, vault.seen())
	require.Equal(t, []string{"outcome canceled"}, kinds(r.records()))
}

// A mount or prefix that does not fit is the operator's mistake, not the
// caller's, also where an argument has the name of the hole.
func TestUnfitConfigurationIsInternal(t *testing.T) {
	type in struct {
		Prefix string `json:"prefix" doc:"An argument, not the principal's prefix."`
	}
	own := tools.Define(tools.Tool{
		Name: "test.do", Title: "Do", Doc: "Does.", Effect: tools.Reads, Route: "GET /test",
		Needs: []tools.Need{{Path: "{kv}/data/{prefix}/x", Capabilities: []string{"read"}}},
	}, handler[in, struct{}])
	catalog := tools.NewCatalogOf(own, lookup(t, "kv.read"))
	r := newRig(t, rigOptions{catalog: catalog})
	p := with(principal("dev"), func(p *auth.Principal) { p.Prefix = "mcp/../x" })
	for tool, args := range map[string]string{"kv.read": `{"path":"a"}`, "test.do": `{"prefix":"a"}`} {
		_, f := r.run(p, tool, args)
		require.NotNil(t, f)
		require.Equal(t, fault.Internal, f.Kind)
		require.Empty(t, f.Details)
	}
	require.Equal(t, []string{"outcome internal", "outcome internal"}, kinds(r.records()))
}

func TestReject(t *testing.T) {
	r := newRig(t, rigOptions{})
	f := r.runner.Reject(tools.Rejection{
		Principal: principal("dev"), Transport: "mcp", Remote: "192.0.2.1", RequestID: "id-1", Err: fault.New(fault.NotFound, "there is no such tool"),
	})
	require.Equal(t, fault.NotFound, f.Kind)
	rec := r.records()[0]
	require.Equal(t, []any{audit.Reject, "id-1", "mcp", "192.0.2.1", "dev", "api_key", "key-dev", "not_found", "there is no such tool"},
		[]any{rec.Kind, rec.RequestID, rec.Transport, rec.Remote, rec.Subject, rec.AuthMethod, rec.CredentialID, rec.Outcome, rec.Detail})
	require.NoError(t, r.trail.Close())
	f = r.runner.Reject(tools.Rejection{Err: fault.New(fault.NotFound, "there is no such tool")})
	require.Equal(t, fault.Unavailable, f.Kind, "what cannot be recorded is not answered")
	require.Equal(t, "audit_unavailable", f.Details["code"])
}
