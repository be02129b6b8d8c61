package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"vault-mcp/server"
	"vault-mcp/telemetry"
)

func versionCommand(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show version, commit, SDK and protocol revisions",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			b := telemetry.BuildInfo()
			if asJSON {
				return writeJSON(o.out, struct {
					telemetry.Build
					Protocols []string `json:"protocols"`
				}{b, server.ProtocolVersions()})
			}
			_, err := fmt.Fprintf(o.out, "vault-mcp %s\ncommit    %s\ngo        %s\nsdk       %s\nprotocols %s\n",
				b.Version, b.Commit, b.Go, b.SDK, strings.Join(server.ProtocolVersions(), ", "))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
