package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// serverPolicyName is the name of the policy of the server's own token, unless
// another is given.
const serverPolicyName = "mcp-server"

// operatorHelp says whose token the commands use that talk to Vault.
const operatorHelp = `

Vault is called with your own token, never with the server's: that of --token-file, else of
VAULT_TOKEN in your environment, else of ~/.vault-token, where 'vault login' leaves it. It needs
read, and for apply also create and update, on sys/policies/acl/* and, with --server, on
auth/token/roles/*. Where Vault is and how it is reached stand in the settings.`

func policyCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "policy",
		Short: "Make, compare and write the least policies that callers need",
		Long: `Makes the least policies that callers need: of Vault, and of AWS IAM. They follow from what the
tools that are on (TOOLS_EXCLUDE, READ_ONLY) need, and from each principal's prefix and grants.`,
	})
	cmd.AddCommand(policyGenerateCommand(o), policyDiffCommand(o), policyApplyCommand(o))
	return cmd
}

// chosen is what the commands are about.
type chosen struct {
	subjects   []string
	by         supposition // by which credential the subjects call
	all        bool
	server     bool
	serverName string
	tokenFile  string
}

func (c *chosen) flags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&c.subjects, "subject", nil, "whose policy; repeatable")
	c.by.credentialFlags(flags)
	flags.BoolVar(&c.all, "all", false, "the policy of every principal of API_KEYS_JSON, API_KEYS_FILE and SUBJECT")
	flags.BoolVar(&c.server, "server", false, "also the policy of the server's own token and, with CHILD_TOKEN_ENABLED, the token role CHILD_TOKEN_ROLE")
	flags.StringVar(&c.serverName, "server-policy", serverPolicyName, "name of the policy of the server's own token")
}

func (c *chosen) vaultFlags(flags *pflag.FlagSet) {
	c.flags(flags)
	flags.StringVar(&c.tokenFile, "token-file", "", "file with your own Vault token")
}

func policyGenerateCommand(o *options) *cobra.Command {
	var c chosen
	var format string
	cmd := &cobra.Command{
		Use:   "generate --subject SUBJECT",
		Short: "Print policies",
		Long: `Prints policies. One policy stands alone, as Vault or AWS takes it; of several, HCL has the name of
each above it, and the other formats are an object with the policies by name. A token role, which is
none, is shown as a comment.`,
		Example: "  vault-mcp policy generate --subject dev-bot | vault policy write mcp-agent-dev-bot -",
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			w, err := c.wanted(cfg)
			if err != nil {
				return err
			}
			switch format {
			case "hcl":
				return w.hcl(o.out)
			case "json":
				return w.object(o.out, func(p namedPolicy) (string, error) { return p.policy.JSON() })
			case "iam":
				w.policies = slices.DeleteFunc(w.policies, func(p namedPolicy) bool { return len(p.principals) == 0 })
				if len(w.policies) == 0 {
					return usage("--format iam is about principals: give --subject or --all")
				}
				return w.object(o.out, func(p namedPolicy) (string, error) { return tools.PolicyIAM(w.on, p.principals...) })
			}
			return usage("--format must be hcl, json or iam")
		},
	}
	c.flags(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "hcl", "hcl or json, for Vault; iam, for AWS")
	return cmd
}

func (w wanted) hcl(out io.Writer) error {
	var text strings.Builder
	for i, p := range w.policies {
		if len(w.policies) > 1 {
			if i > 0 {
				text.WriteByte('\n')
			}
			fmt.Fprintf(&text, "### %s, of %s\n\n", p.name, p.of)
		}
		text.WriteString(p.policy.HCL())
	}
	if w.role != nil {
		text.WriteString("\n" + w.role.Comment())
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// object prints one policy as it is, several as an object by name.
func (w wanted) object(out io.Writer, render func(namedPolicy) (string, error)) error {
	var text strings.Builder
	for i, p := range w.policies {
		one, err := render(p)
		if err != nil {
			return err
		}
		if len(w.policies) == 1 {
			_, err := io.WriteString(out, one)
			return err
		}
		separator := ",\n"
		if i == 0 {
			separator = "{\n"
		}
		// Names are of characters that JSON takes as they are.
		fmt.Fprintf(&text, "%s  %q: %s", separator, p.name, strings.ReplaceAll(strings.TrimSuffix(one, "\n"), "\n", "\n  "))
	}
	if text.Len() == 0 {
		text.WriteByte('{')
	}
	_, err := io.WriteString(out, text.String()+"\n}\n")
	return err
}

// operatorVault is a client with the operator's own token.
func (o *options) operatorVault(cfg *config.Config, tokenFile string) (*vaultx.Client, error) {
	token, err := o.operatorToken(tokenFile)
	if err != nil {
		return nil, err
	}
	if token.IsZero() {
		return nil, usage("your own Vault token is needed: by --token-file, in VAULT_TOKEN, or by 'vault login'")
	}
	if !secret.IsHeaderText(token.Reveal()) {
		return nil, usage("your own Vault token must be one word of printable ASCII")
	}
	at := vaultAt(cfg)
	at.Token = token
	client, err := vaultx.New(at)
	if err != nil {
		return nil, usageError{err}
	}
	return client, nil
}

// operatorError says what Vault did not let the operator do.
func operatorError(what string, err error) error {
	f := fault.From(err)
	switch {
	case errors.Is(err, fault.Forbidden):
		return fmt.Errorf("%s: your token may not do this; see --help", what)
	case errors.Is(err, fault.Unavailable) && vaultx.TokenRefused(err):
		return fmt.Errorf("%s: your Vault token is not accepted", what)
	}
	return fmt.Errorf("%s: %s", what, f.Msg)
}
