package cli

import (
	"vault-mcp/config"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// openVault makes the Vault client. It reads certificates and reaches no
// network.
func openVault(cfg *config.Config) (*vaultx.Client, error) {
	return vaultx.New(vaultConfig(cfg, cfg.Vault.Token))
}

// vaultConfig says how Vault is reached, and with which token.
func vaultConfig(cfg *config.Config, token secret.Text) vaultx.Config {
	return vaultx.Config{
		Address: cfg.Vault.Addr, Namespace: cfg.Vault.Namespace, Token: token,
		CACert: cfg.Vault.CACert, CAPath: cfg.Vault.CAPath,
		ClientCert: cfg.Vault.ClientCert, ClientKey: cfg.Vault.ClientKey,
		TLSServerName: cfg.Vault.TLSServerName, SkipVerify: cfg.Vault.SkipVerify,
		MaxConcurrent: cfg.Vault.MaxConcurrent,
		Mounts:        mounts(cfg),
	}
}

// mounts are where the engines are.
func mounts(cfg *config.Config) vaultx.Mounts {
	return vaultx.Mounts{
		KV: cfg.Vault.KVMount, Transit: cfg.Vault.TransitMount, Database: cfg.Vault.DatabaseMount, SSH: cfg.Vault.SSHMount,
	}
}
