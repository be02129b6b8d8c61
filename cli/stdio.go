package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func stdioCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stdio",
		Short: "Serve one MCP client over standard input and output",
		Long: `Serves MCP over standard input and output, as a subprocess of a client. Nothing but
protocol goes to standard output; logs go to standard error, and to files with LOG_DIR.

Who calls is given at launch: an API key in VAULT_MCP_API_KEY, or else SUBJECT.`,
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
				// once; one that goes bad later shows in the calls.
				if _, err := a.authn.Launch(ctx); err != nil {
					return usage("VAULT_MCP_API_KEY: %w", err)
				}
				return a.server.ServeStdio(ctx, o.in, o.out, a.authn.Launch)
			})
		},
	}
	o.setting(cmd.Flags(), "subject", "SUBJECT", "who calls, where no credential is given")
	o.callSettings(cmd.Flags())
	return cmd
}
