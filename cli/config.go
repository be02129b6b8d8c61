package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"vault-mcp/config"
)

func configCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{Use: "config", Short: "Check and show the settings"})
	cmd.AddCommand(configCheck(o), configShow(o), configEnv(o))
	return cmd
}

func configCheck(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say everything that is wrong with the settings",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			noticed, err := usable(cfg)
			if err != nil {
				return err
			}
			for _, warning := range slices.Concat(cfg.Warnings(), noticed) {
				_, _ = fmt.Fprintln(o.err, "warning:", warning)
			}
			_, err = fmt.Fprintln(o.out, "the settings are usable")
			return err
		},
	}
}

// usable makes, as far as that needs no network and leaves nothing behind, what
// the settings describe, and says all that is wrong with it.
func usable(cfg *config.Config) (noticed []string, err error) {
	_, tooling := theCatalog().Off(offer(cfg))
	client, vault := openVault(cfg, zap.NewNop())
	if vault == nil {
		client.Close()
	}
	keys, kms := openKMS(cfg)
	if keys != nil {
		keys.Close()
	}
	authn, callers := openAuth(cfg)
	if callers == nil {
		noticed = authn.Warnings()
		authn.Close()
	}
	_, proxies := openProxies(cfg)
	_, listener := openTLS(cfg, nil)
	if err := errors.Join(tooling, vault, kms, callers, proxies, listener); err != nil {
		return nil, usageError{err}
	}
	return noticed, nil
}

func configShow(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the effective settings and where each came from, secrets redacted",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(o.out, cfg.Rows())
			}
			return cfg.Show(o.out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func configEnv(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Show every setting with its name in the environment, default and meaning",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return writeJSON(o.out, config.Reference())
			}
			return config.Markdown(o.out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
