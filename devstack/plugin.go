package devstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

// pluginFolder holds the plugin and nothing else: in dev mode, Vault registers
// whatever it finds there.
func (v *Vault) pluginFolder() string { return v.path("plugins") }

// placePlugin puts the plugin where Vault may run it. A symbolic link will not do,
// as Vault follows it and refuses what stands outside of the folder.
func (v *Vault) placePlugin(from string) error {
	if err := os.Mkdir(v.pluginFolder(), 0o700); err != nil {
		return err
	}
	to := filepath.Join(v.pluginFolder(), pluginName)
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// registerPlugin tells a Vault with storage of the plugin, which one in dev mode
// finds by itself.
func (v *Vault) registerPlugin(ctx context.Context) error {
	if v.opt.PostgresPlugin == "" {
		return nil
	}
	file, err := os.Open(filepath.Join(v.pluginFolder(), pluginName))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return err
	}
	body := map[string]any{"command": pluginName, "sha256": hex.EncodeToString(sum.Sum(nil))}
	return v.Request(ctx, http.MethodPut, "sys/plugins/catalog/database/"+pluginName, body, nil)
}
