package cli

import (
	"path/filepath"

	"go.uber.org/zap"

	"vault-mcp/config"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// childFolder is where the accessors of child tokens are kept, in the state
// folder.
const childFolder = "child-tokens"

// childPolicy is what the policies of principals begin with; empty: Vault is
// called with the server's own token.
func childPolicy(cfg *config.Config) string {
	if !cfg.Child.Enabled {
		return ""
	}
	return cfg.Child.PolicyPrefix
}

// startChildren turns child tokens on, if the settings do.
func (a *app) startChildren() error {
	cfg := a.cfg
	if !cfg.Child.Enabled {
		return nil
	}
	key, err := keyFor(cfg.State.SealKey, cfg.State.Dir, sealKeyFile)
	if err != nil {
		return err
	}
	return a.vault.StartChildren(vaultx.ChildOptions{
		TTL: cfg.Child.TTL, LeaseTTL: tools.LeaseLife, Role: cfg.Child.Role,
		Folder: filepath.Join(cfg.State.Dir, childFolder), Key: key, Told: a.childEvent,
	})
}

// childEvent logs what an operator wants to know of child tokens.
func (a *app) childEvent(e vaultx.ChildEvent) {
	fields := []zap.Field{zap.String("detail", e.What)}
	if e.Policy != "" {
		fields = append(fields, zap.String("policy", e.Policy))
	}
	if e.Err != nil {
		fields = append(fields, zap.String("cause", e.Err.Error()))
	}
	a.log.Warn("child tokens", fields...)
}
