package tools

import (
	"context"
	"time"

	"vault-mcp/auth"
)

type whoamiIn struct{}

type whoamiOut struct {
	Subject    string              `json:"subject" doc:"The subject as it stands in paths and resource URIs."`
	AuthMethod string              `json:"auth_method" doc:"How the caller was verified: api_key, jwt, mtls or launch."`
	Scopes     []string            `json:"scopes" doc:"What the caller may do: read, write, delete, list, or one of them narrowed to an engine, such as kv:read."`
	Prefix     string              `json:"prefix" doc:"The path prefix under which all of the caller's secrets stand; tool paths are relative to it."`
	Policy     string              `json:"policy,omitzero" doc:"The name of the caller's own policy in Vault, under which its calls are made; absent: they are made with the server's own rights."`
	Grants     map[string][]string `json:"grants" doc:"Keys and roles that the caller may name, by engine; a trailing * matches any ending."`
	Limits     whoamiLimits        `json:"limits" doc:"How many calls the caller may make."`
	ExpiresAt  string              `json:"expires_at,omitzero" doc:"When the credential ends, RFC 3339; absent: it does not."`
	Tools      []string            `json:"tools" doc:"The tools that the caller may call."`
}

type whoamiLimits struct {
	Requests      int `json:"requests" doc:"Calls in each window; 0: no limit."`
	WindowSeconds int `json:"window_seconds" doc:"The window's length."`
	Burst         int `json:"burst" doc:"Calls that may come at once."`
}

func whoamiTools() []*Tool {
	return []*Tool{
		Define(Tool{
			Name: "whoami", Title: "Who am I",
			Doc:    "Show who the caller is to this server, what it may do, which path prefix and which named keys and roles are its own, and how often it may call. Ask this first when a call was refused.",
			Effect: Reads, Idempotent: true, Retryable: true,
			Route: "GET /whoami",
		}, whoami),
	}
}

func whoami(_ context.Context, env *Env, _ whoamiIn) (whoamiOut, error) {
	p := env.Principal
	out := whoamiOut{
		Subject: p.Slug, AuthMethod: string(p.Method), Prefix: p.Prefix,
		Scopes: make([]string, 0, len(p.Scopes)),
		Grants: p.Grants,
		Limits: whoamiLimits{Requests: p.Limit.Requests, WindowSeconds: int(p.Limit.Window / time.Second), Burst: p.Limit.Burst},
		Tools:  Names(env.runner.Visible(p)),
	}
	for _, s := range p.Scopes {
		out.Scopes = append(out.Scopes, string(s))
	}
	if p.Grants == nil {
		out.Grants = auth.Grants{}
	}
	if prefix := env.runner.opt.ChildPolicy; prefix != "" {
		out.Policy = p.Policy(prefix)
	}
	if !p.ExpiresAt.IsZero() {
		out.ExpiresAt = p.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return out, nil
}
