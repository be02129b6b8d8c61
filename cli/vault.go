package cli

import (
	"time"

	"go.uber.org/zap"

	"vault-mcp/config"
	"vault-mcp/vaultx"
)

// openVault makes the Vault client. It reads certificates and reaches no
// network. What becomes of the server's token goes to log.
func openVault(cfg *config.Config, log *zap.Logger) (*vaultx.Client, error) {
	at := vaultAt(cfg)
	at.Token, at.Login, at.Notice = cfg.Vault.Token, vaultLogin(cfg), tokenNotices(log, cfg.Vault.AuthMethod)
	return vaultx.New(at)
}

// vaultAt says where Vault is and how it is reached, but not as whom.
func vaultAt(cfg *config.Config) vaultx.Config {
	return vaultx.Config{
		Address: cfg.Vault.Addr, Namespace: cfg.Vault.Namespace,
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

// vaultLogin is how the server gets its token.
func vaultLogin(cfg *config.Config) vaultx.Login {
	return vaultx.Login{
		Method: cfg.Vault.AuthMethod, Mount: cfg.Vault.AuthMount, Role: cfg.Vault.AuthRole,
		RoleID: cfg.Vault.RoleID, SecretID: cfg.Vault.SecretID, Wrapped: cfg.Vault.SecretWrapped,
		SecretIDFile: cfg.SecretFile("VAULT_SECRET_ID"), TokenFile: cfg.SecretFile("VAULT_TOKEN"),
		JWTFile: cfg.Vault.JWTFile,
	}
}

// tokenNotices are the log lines about the server's token.
func tokenNotices(log *zap.Logger, method string) func(vaultx.Notice) {
	return func(n vaultx.Notice) {
		fields := []zap.Field{zap.String("login", method)}
		if n.TTL != 0 {
			fields = append(fields, zap.Duration("ttl", n.TTL.Round(time.Second)))
		}
		if n.Err != nil {
			fields = append(fields, zap.NamedError("cause", n.Err))
		}
		switch {
		case n.Alarm:
			log.Warn(n.Text, fields...)
		case n.Routine:
			log.Debug(n.Text, fields...)
		default:
			log.Info(n.Text, fields...)
		}
	}
}
