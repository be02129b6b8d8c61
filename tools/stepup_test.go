package tools_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// A refusal says that a token with a further scope would do where its principal
// may have such a token, and nowhere else: not for other credentials, not for
// what the ceiling does not permit, and not where the scope is not what is
// missing.
func TestStepUp(t *testing.T) {
	r := newRig(t, rigOptions{Options: tools.Options{Exclude: []string{"kv.destroy"}}})
	of := func(method auth.Method, ceiling ...auth.Scope) *auth.Principal {
		return with(principal("dev"), func(p *auth.Principal) {
			p.Method, p.Scopes, p.Ceiling = method, auth.Scopes{auth.List}, ceiling
		})
	}
	for name, tc := range map[string]struct {
		p          *auth.Principal
		tool, args string
		scope      auth.Scope // empty: none
	}{
		"a verb":                       {of(auth.MethodJWT, auth.AllScopes()...), "kv.write", `{"path":"a","data":{}}`, auth.Write},
		"a verb of the engine":         {of(auth.MethodJWT, "kv:delete"), "kv.delete", `{"path":"a"}`, auth.Delete},
		"whatever the arguments are":   {of(auth.MethodJWT, "kv:delete"), "kv.delete", `{`, auth.Delete},
		"a verb of another engine":     {of(auth.MethodJWT, "transit:write"), "kv.write", `{"path":"a","data":{}}`, ""},
		"another verb of the engine":   {of(auth.MethodJWT, "kv:read"), "kv.write", `{"path":"a","data":{}}`, ""},
		"no ceiling":                   {of(auth.MethodJWT), "kv.write", `{"path":"a","data":{}}`, ""},
		"an API key":                   {of(auth.MethodAPIKey, auth.AllScopes()...), "kv.write", `{"path":"a","data":{}}`, ""},
		"a certificate":                {of(auth.MethodMTLS, auth.AllScopes()...), "kv.write", `{"path":"a","data":{}}`, ""},
		"a process":                    {of(auth.MethodLaunch, auth.AllScopes()...), "kv.write", `{"path":"a","data":{}}`, ""},
		"a tool that is off":           {of(auth.MethodJWT, auth.AllScopes()...), "kv.destroy", `{"path":"a","versions":[1]}`, ""},
		"a tool that there is not":     {of(auth.MethodJWT, auth.AllScopes()...), "kv.none", `{}`, ""},
		"the scope is there, no grant": {with(of(auth.MethodJWT, auth.AllScopes()...), func(p *auth.Principal) { p.Scopes = auth.AllScopes() }), "transit.encrypt", `{"key":"other","plaintext":""}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, f := r.run(tc.p, tc.tool, tc.args)
			require.NotNil(t, f)
			scope, ok := tools.StepUp(f)
			require.Equal(t, tc.scope, scope)
			require.Equal(t, tc.scope != "", ok)
		})
	}
	for _, err := range []error{
		nil, errors.New("x"), fault.New(fault.Forbidden, "x").With("scope", "write"), fault.New(fault.Forbidden, "x").With("step_up", true),
		fault.New(fault.Invalid, "x").With("scope", "write").With("step_up", true),
	} {
		_, ok := tools.StepUp(err)
		require.False(t, ok)
	}
}
