package cli

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/server"
)

// state looks whether what the server keeps can be kept.
func (d *doctor) state(cfg *config.Config) {
	dir := cfg.State.Dir
	probe := dir
	for {
		if _, err := os.Stat(probe); err == nil || filepath.Dir(probe) == probe {
			break
		}
		probe = filepath.Dir(probe) // made at the first start, if the folder above can be written
	}
	f, err := os.CreateTemp(probe, ".doctor-*")
	if err != nil {
		d.found("state", stateBroken, "the state folder "+dir+" cannot be written", "make it writable for this user, or set STATE_DIR")
		return
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	for file, set := range serverKeys(cfg) {
		if _, err := os.Stat(filepath.Join(dir, file)); set.IsZero() && os.IsNotExist(err) {
			continue // made at the first start
		}
		if _, err := keyFor(set, dir, file); err != nil {
			d.found("state", stateBroken, err.Error(), "restore the key from a backup, or move it away to have a new one made")
			return
		}
	}
	d.found("state", stateOK, dir, "")
}

// certificate looks at the one under which we listen.
func (d *doctor) certificate(cfg *config.Config) {
	t, err := openTLS(cfg, nil)
	if err != nil {
		d.found("certificate", stateBroken, fault.From(err).Msg, "correct the files TLS_CERT_FILE and TLS_KEY_FILE")
		return
	}
	if t == nil {
		return // plain HTTP
	}
	cert, now := t.Certificate(), time.Now()
	ends := "it ends at " + cert.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case now.After(cert.NotAfter):
		d.found("certificate", stateBroken, "it has expired", "renew the certificate; a running server takes it up by itself")
	case now.Before(cert.NotBefore):
		d.found("certificate", stateBroken, "it is not valid yet", "check the clock, or the certificate")
	case server.Expiring(cert, now):
		d.found("certificate", stateWarning, ends, "renew it; a running server takes it up by itself")
	default:
		d.found("certificate", stateOK, ends, "")
	}
}

// callers looks whether anybody could call.
func (d *doctor) callers(ctx context.Context, cfg *config.Config) {
	authn, err := openAuth(cfg)
	if err != nil {
		d.found("callers", stateBroken, err.Error(), "correct the setting, or the file that it names")
		return
	}
	defer authn.Close()
	for _, warning := range authn.Warnings() {
		d.found("callers", stateWarning, warning, "")
	}
	_, noFile := os.Stat(cfg.Auth.KeysFile)
	if cfg.Auth.KeysJSON.IsZero() && noFile != nil && !cfg.JWT.Configured() && !cfg.Auth.MTLS {
		d.found("callers", stateWarning, "there is no API key, no issuer of JWTs and no client certificate is accepted, so nobody can call over HTTP", "vault-mcp key create --subject NAME")
		return
	}
	if err := authn.Check(ctx); err != nil {
		state := stateBroken
		if fault.IsDegraded(err) {
			state = stateWarning
		}
		d.found("callers", state, fault.From(err).Msg, "check the file, or the URL and the network to it")
		return
	}
	d.found("callers", stateOK, "what their credentials are held against can be read", "")
}
