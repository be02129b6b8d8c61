package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// token looks at the server's own token. It reports whether it is accepted.
func (d *doctor) token(ctx context.Context, cfg *config.Config, client *vaultx.Client) bool {
	byHand := cfg.Vault.AuthMethod == vaultx.LoginToken
	info, err := client.Token(ctx)
	ttl := time.Duration(info.TTL) * time.Second
	switch {
	case errors.Is(err, fault.Forbidden):
		d.found("token", stateSkipped, "accepted, but it may not look itself up", "")
		return true
	case err != nil && !byHand:
		d.found("login", stateBroken, fault.From(err).Msg, "correct what VAULT_AUTH_METHOD="+cfg.Vault.AuthMethod+" logs in with (docs/vault-login.md)")
		return false
	case err != nil:
		d.found("token", stateBroken, fault.From(err).Msg, "give a valid token in VAULT_TOKEN or VAULT_TOKEN_FILE")
		return false
	case len(info.Policies) == 1 && info.Policies[0] == "root":
		d.found("token", stateWarning, "it is a root token", "give the server a token with just the policies that it needs (docs/tools.md lists the needs)")
	case byHand && info.TTL > 0 && ttl < soonExpiring && !info.Renewable:
		d.found("token", stateWarning, fmt.Sprintf("it ends in %s", ttl), "issue a renewable or periodic one, or let the server log in by itself (docs/vault-login.md)")
	case byHand && info.TTL > 0 && ttl < soonExpiring:
		d.found("token", stateWarning, fmt.Sprintf("it ends in %s, unless it is renewed", ttl), "let the server renew it, or issue a periodic one")
	default:
		d.found("token", stateOK, "accepted", "")
	}
	d.login(cfg, info)
	return true
}

// login tells how the server gets its token, and what that is.
func (d *doctor) login(cfg *config.Config, info vaultx.TokenInfo) {
	parts := []string{cfg.Vault.AuthMethod}
	switch {
	case cfg.Vault.AuthMethod != vaultx.LoginToken:
		parts[0] += " at auth/" + cmp.Or(cfg.Vault.AuthMount, cfg.Vault.AuthMethod)
	case cfg.SecretFile("VAULT_TOKEN") != "":
		parts[0] += " from VAULT_TOKEN_FILE, read again when it changes"
	}
	life := "does not end"
	if info.TTL > 0 {
		life = "ends in " + (time.Duration(info.TTL) * time.Second).String()
	}
	switch {
	case info.Renewable && info.Period > 0:
		life += ", renewable for ever"
	case info.Renewable:
		life += ", renewable"
	case info.TTL > 0:
		life += ", not renewable"
	}
	policies := slices.Concat(info.Policies, info.Identity)
	parts = append(parts, life, "policies "+strings.Join(policies, ", "))
	if cfg.Vault.AuthMethod == vaultx.LoginAppRole {
		parts = append(parts, "how often the secret id can still be used is not known (this check used it once)")
	}
	d.found("login", stateOK, strings.Join(parts, "; "), "")
}
