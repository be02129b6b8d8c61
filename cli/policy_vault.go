package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// maxTokenFile bounds the file of the operator's token.
const maxTokenFile = 8 << 10

// operatorToken is the token of the person at the command line.
func (o *options) operatorToken(file string) (secret.Text, error) {
	if file == "" {
		if token := o.getenv("VAULT_TOKEN"); token != "" {
			return secret.NewText(token), nil
		}
		home := o.getenv("HOME")
		if home == "" {
			return secret.Text{}, nil
		}
		file = filepath.Join(home, ".vault-token")
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return secret.Text{}, nil
		}
	}
	raw, _, err := secret.ReadPrivate(file, maxTokenFile)
	if err != nil {
		return secret.Text{}, usage("the file of your Vault token: %w", err)
	}
	return secret.NewText(strings.TrimSpace(string(raw))), nil
}

// getenv is a variable of the environment in which the command runs.
func (o *options) getenv(name string) string {
	if o.env == nil {
		return os.Getenv(name)
	}
	value := ""
	for _, entry := range o.env {
		if n, v, _ := strings.Cut(entry, "="); n == name {
			value = v
		}
	}
	return value
}

func policyDiffCommand(o *options) *cobra.Command {
	var c chosen
	cmd := &cobra.Command{
		Use:   "diff --subject SUBJECT",
		Short: "Compare policies with what Vault has",
		Long: `Prints each path and capability in which a policy of Vault differs from the least one, and exits with
1 if there is any: a - is missing in Vault, a + is not needed.` + operatorHelp,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, client, err := c.open(o)
			if err != nil {
				return err
			}
			defer client.Close()
			drift := false
			err = w.compare(cmd.Context(), client, func(name string, differences []string) {
				for _, d := range differences {
					drift = true
					_, _ = fmt.Fprintf(o.out, "%s: %s\n", name, d)
				}
			})
			if err != nil {
				return err
			}
			if drift {
				return errors.New("what Vault has differs; 'vault-mcp policy apply' makes it right")
			}
			_, err = fmt.Fprintln(o.out, "Vault has just what is needed")
			return err
		},
	}
	c.vaultFlags(cmd.Flags())
	return cmd
}

func policyApplyCommand(o *options) *cobra.Command {
	var c chosen
	cmd := &cobra.Command{
		Use:   "apply --subject SUBJECT",
		Short: "Write policies to Vault, read them back and compare",
		Long: `Writes policies to Vault, reads them back and compares. What is right already is left alone. A server
that runs with child tokens takes new ones for a policy that changed, within a minute.` + operatorHelp,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, client, err := c.open(o)
			if err != nil {
				return err
			}
			defer client.Close()
			return w.apply(cmd.Context(), o, client)
		},
	}
	c.vaultFlags(cmd.Flags())
	return cmd
}

// open makes what was chosen, and a client of the operator's.
func (c *chosen) open(o *options) (wanted, *vaultx.Client, error) {
	cfg, err := o.loadForOperator()
	if err != nil {
		return wanted{}, nil, err
	}
	w, err := c.wanted(cfg)
	if err != nil {
		return w, nil, err
	}
	client, err := o.operatorVault(cfg, c.tokenFile)
	return w, client, err
}

// loadForOperator reads the settings of a server that is not started here: a
// VAULT_TOKEN in the environment is the operator's own and not one of them, so it
// does not contradict those by which the server logs in.
func (o *options) loadForOperator() (*config.Config, error) {
	env := o.env
	if env == nil {
		env = os.Environ()
	}
	server := *o
	server.env = slices.DeleteFunc(slices.Clone(env), func(entry string) bool { return strings.HasPrefix(entry, "VAULT_TOKEN=") })
	return server.load()
}

// compare tells of each policy and of the role in what Vault's differs.
func (w wanted) compare(ctx context.Context, client *vaultx.Client, tell func(name string, differences []string)) error {
	for _, p := range w.policies {
		differences, err := p.differences(ctx, client)
		if err != nil {
			return err
		}
		tell("policy "+p.name, differences)
	}
	if w.role == nil {
		return nil
	}
	differences, err := client.CompareTokenRole(ctx, *w.role)
	switch {
	case errors.Is(err, fault.NotFound):
		differences = []string{"there is no such role"}
	case err != nil:
		return operatorError("token role "+w.role.Name, err)
	}
	tell("token role "+w.role.Name, differences)
	return nil
}

func (p namedPolicy) differences(ctx context.Context, client *vaultx.Client) ([]string, error) {
	text, err := client.ReadPolicy(ctx, p.name)
	switch {
	case errors.Is(err, fault.NotFound):
		return []string{"there is no such policy"}, nil
	case err != nil:
		return nil, operatorError("policy "+p.name, err)
	}
	have, err := vaultx.ParsePolicy(text)
	if err != nil {
		return []string{err.Error()}, nil //nolint:nilerr // what cannot be read is not what is wanted
	}
	return vaultx.ComparePolicies(p.policy.Rules(), have), nil
}

// apply writes what differs, and then looks whether Vault has it.
func (w wanted) apply(ctx context.Context, o *options, client *vaultx.Client) error {
	for _, p := range w.policies {
		differences, err := p.differences(ctx, client)
		if err != nil {
			return err
		}
		if len(differences) == 0 {
			_, _ = fmt.Fprintf(o.out, "policy %s is right\n", p.name)
			continue
		}
		// An empty text is none to Vault.
		if err := client.WritePolicy(ctx, p.name, "# made by vault-mcp policy apply, of "+p.of+"\n\n"+p.policy.HCL()); err != nil {
			return operatorError("policy "+p.name, err)
		}
		_, _ = fmt.Fprintf(o.out, "policy %s is written\n", p.name)
	}
	if w.role != nil {
		if err := client.WriteTokenRole(ctx, *w.role); err != nil {
			return operatorError("token role "+w.role.Name, err)
		}
		_, _ = fmt.Fprintf(o.out, "token role %s is written\n", w.role.Name)
	}
	var wrong []string
	err := w.compare(ctx, client, func(name string, differences []string) {
		if len(differences) > 0 {
			wrong = append(wrong, name)
		}
	})
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("what Vault has is not what it was given: %s", strings.Join(wrong, ", "))
	}
	return err
}
