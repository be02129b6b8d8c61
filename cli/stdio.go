package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"vault-mcp/config"
	"vault-mcp/fault"
)

func stdioCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stdio",
		Short: "Serve one MCP client over standard input and output",
		Long: `Serves MCP over standard input and output, as a subprocess of a client. Nothing but
protocol goes to standard output; logs go to standard error, and to files with LOG_DIR.

Who calls is given at launch: an API key in VAULT_MCP_API_KEY, a JSON Web Token in VAULT_MCP_JWT
or in the file VAULT_MCP_JWT_FILE, or else SUBJECT.`,
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			// A client waits for its subprocess, and the catalogue is a fifth of the
			// wait: it is made while files are read and written.
			go theCatalog()
			cfg, err := o.load()
			if err != nil {
				return err
			}
			a, err := o.open(cfg, "stdio")
			if err != nil {
				return err
			}
			// A client that dies closes the pipe under an answer. Unless asked for,
			// the signal would end us there, in the middle of other calls.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return a.run(func(ctx context.Context) error {
				// A bad credential is a mistake of configuration, to be told at
				// once; one that goes bad later, or whose issuer cannot be reached
				// at present, shows in the calls.
				if _, err := a.authn.Launch(ctx); err != nil && !errors.Is(err, fault.Unavailable) {
					return usage("%s: %w", launchSetting(cfg), err)
				}
				return a.server.ServeStdio(ctx, o.in, o.out, a.authn.Launch)
			})
		},
	}
	o.setting(cmd.Flags(), "subject", "SUBJECT", "who calls, where no credential is given")
	o.callSettings(cmd.Flags())
	return cmd
}

// launchSetting is the setting that says who calls over stdio.
func launchSetting(cfg *config.Config) string {
	switch {
	case !cfg.JWT.Launch.IsZero():
		return "VAULT_MCP_JWT"
	case cfg.JWT.LaunchFile != "":
		return "VAULT_MCP_JWT_FILE"
	}
	return "VAULT_MCP_API_KEY"
}
