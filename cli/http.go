package cli

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
)

func httpCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "http",
		Short: "Serve MCP clients over streamable HTTP",
		Long: `Serves MCP over streamable HTTP at /mcp, plain JSON-RPC at /mcp/rpc, and health at
/healthz, /livez and /readyz. Every call needs a credential. On SIGINT or SIGTERM it finishes
what is under way; a second signal ends it at once.`,
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			a, err := o.open(cfg, "http")
			if err != nil {
				return err
			}
			return a.run(func(ctx context.Context) error { return a.serveHTTP(ctx, func(string) {}) })
		},
	}
	o.addrSetting(cmd.Flags())
	o.callSettings(cmd.Flags())
	return cmd
}

// addrSetting adds --addr, which stands for HOST and PORT.
func (o *options) addrSetting(flags *pflag.FlagSet) {
	flags.Func("addr", "host:port to listen on (HOST and PORT, default 127.0.0.1:8089)", func(value string) error {
		host, port, err := net.SplitHostPort(value)
		if err != nil {
			return fmt.Errorf("want host:port")
		}
		if host != "" {
			o.set["HOST"] = host
		}
		o.set["PORT"] = port
		return nil
	})
}

// callSettings adds the flags that narrow what callers can do.
func (o *options) callSettings(flags *pflag.FlagSet) {
	o.switchSetting(flags, "read-only", "READ_ONLY", "offer only tools that read")
	o.setting(flags, "tools-exclude", "TOOLS_EXCLUDE", "tools or engines not to offer, separated by commas")
	o.setting(flags, "tool-names", "TOOL_NAMES", "spelling of tool names in lists: auto, dotted or underscore")
	o.setting(flags, "log-level", "LOG_LEVEL", "debug, info, warn or error")
	o.setting(flags, "log-format", "LOG_FORMAT", "json or console")
}

// serveHTTP listens and serves until ctx ends. ready hears the URL as soon as
// connections are taken.
func (a *app) serveHTTP(ctx context.Context, ready func(url string)) error {
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", net.JoinHostPort(a.cfg.HTTP.Host, strconv.Itoa(a.cfg.HTTP.Port)))
	if err != nil {
		return fmt.Errorf("HOST and PORT: %w", err)
	}
	scheme := "http://"
	if a.tls {
		scheme = "https://"
	}
	url := scheme + ln.Addr().String()
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() { // an address for which no Host is right
		url = scheme + net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	a.log.Info("listening", zap.String("url", url))
	ready(url)
	return a.server.ListenAndServe(ctx, ln)
}
