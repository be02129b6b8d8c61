package devstack

import (
	"context"
	"errors"
	"net/http"

	"vault-mcp/secret"
)

// active reports whether the server is unsealed and the leader of its cluster
// of one, and notes its version.
func (v *Vault) active(ctx context.Context) error {
	var health struct {
		Version string `json:"version"`
	}
	err := v.Request(ctx, http.MethodGet, "sys/health", nil, &health)
	if err == nil {
		v.Version = health.Version
	}
	return err
}

// open brings a Vault with storage into use: initialised and with its KV engine
// on the first start, unsealed on every one.
func (v *Vault) open(ctx context.Context) error {
	if err := v.await(ctx, v.Log, v.answers); err != nil {
		return err
	}
	first := v.unsealKey.IsZero()
	if first {
		var made struct {
			Keys      []string `json:"keys_base64"`
			RootToken string   `json:"root_token"`
		}
		body := map[string]any{"secret_shares": 1, "secret_threshold": 1}
		if err := v.Request(ctx, http.MethodPut, "sys/init", body, &made); err != nil {
			return err
		}
		if len(made.Keys) != 1 {
			return errors.New("sys/init did not return one key")
		}
		v.unsealKey, v.RootToken = secret.NewText(made.Keys[0]), secret.NewText(made.RootToken)
	}
	if err := v.unseal(ctx, v.unsealKey); err != nil {
		return err
	}
	if err := v.await(ctx, v.Log, v.active); err != nil {
		return err
	}
	if first {
		body := map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}
		if err := v.Request(ctx, http.MethodPost, "sys/mounts/"+Mount, body, nil); err != nil {
			return err
		}
		if err := v.registerPlugin(ctx); err != nil {
			return err
		}
	}
	return v.await(ctx, v.Log, v.kvReady)
}

// kvReady reports whether the KV engine serves; for a moment after a mount it
// does not.
func (v *Vault) kvReady(ctx context.Context) error {
	return v.Request(ctx, http.MethodGet, Mount+"/config", nil, nil)
}
