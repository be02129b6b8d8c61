package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// children looks whether child tokens can be made: what the server's own token
// may do, and the policy of each principal that is known.
func (d *doctor) children(ctx context.Context, cfg *config.Config, client *vaultx.Client) {
	create := vaultx.ServerRules(cfg.Child.Role, cfg.Child.PolicyPrefix)
	if cfg.Child.Role == "" {
		create = []vaultx.Rule{{Path: "auth/token/create", Capabilities: []string{"update"}}}
	}
	paths := make([]string, len(create))
	for i, rule := range create {
		paths[i] = strings.TrimSuffix(rule.Path, "*")
		if paths[i] != rule.Path {
			paths[i] += "doctor"
		}
	}
	has, err := client.Capabilities(ctx, paths)
	if err != nil {
		d.found("child tokens", stateSkipped, "the token may not ask for its capabilities (update on sys/capabilities-self)", "")
	} else {
		var missing []string
		for i, rule := range create {
			if capability := rule.Capabilities[0]; !vaultx.Grants(has[paths[i]], capability) {
				missing = append(missing, fmt.Sprintf("%s on %s", capability, rule.Path))
			}
		}
		if len(missing) > 0 {
			d.found("child tokens", stateBroken, "the server's token lacks "+strings.Join(missing, "; "), "vault-mcp policy apply --server, and give the token that policy")
		} else {
			d.found("child tokens", stateOK, "the server's token may make and revoke them", "")
		}
	}
	d.principals(ctx, cfg, client)
}

// principals compares the policy of each known principal with Vault's.
func (d *doctor) principals(ctx context.Context, cfg *config.Config, client *vaultx.Client) {
	w, err := (&chosen{all: true}).wanted(cfg)
	if err != nil {
		return // what is wrong was told before
	}
	var missing, drifted []string
	for _, p := range w.policies {
		text, err := client.ReadPolicy(ctx, p.name)
		switch {
		case errors.Is(err, fault.NotFound):
			missing = append(missing, p.name)
			continue
		case errors.Is(err, fault.Forbidden):
			d.found("policies", stateSkipped, "the server's token may not read policies", "vault-mcp policy diff --all")
			return
		case err != nil:
			d.found("policies", stateBroken, fault.From(err).Msg, "")
			return
		}
		have, err := vaultx.ParsePolicy(text)
		if err != nil || len(vaultx.ComparePolicies(p.policy.Rules(), have)) > 0 {
			drifted = append(drifted, p.name)
		}
	}
	if len(missing) > 0 {
		d.found("policies", stateBroken, "Vault has no "+strings.Join(missing, ", "), "vault-mcp policy apply --all")
	}
	if len(drifted) > 0 {
		d.found("policies", stateWarning, "Vault has something else in "+strings.Join(drifted, ", "), "vault-mcp policy diff --all shows it, policy apply makes it right")
	}
	if len(missing)+len(drifted) == 0 {
		d.found("policies", stateOK, "each principal that is known has just what it needs", "")
	}
}
