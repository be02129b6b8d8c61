package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vault-mcp/config"
	"vault-mcp/devstack"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// demoSubject is the principal of the demo key.
const demoSubject = "dev-bot"

func devCommand(o *options) *cobra.Command {
	var prepare, vaultOnly bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "A real Vault, demo secrets and the server, on this machine, with nothing configured",
		Long: `Starts a real Vault in dev mode, puts demo secrets into it, and serves like 'vault-mcp http'.
Prints the address, a demo API key and snippets for clients. Everything in Vault is gone when it
ends; the demo key stays the same from run to run.

Vault is looked for in VAULT_BIN, as vault or bao on PATH, and in bin/devstack; in a checkout it is
built if there is none. Settings that say where Vault is are not used.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if prepare {
				bin, err := devstack.Find(cmd.Context(), o.say)
				if err == nil {
					_, err = fmt.Fprintln(o.out, "Vault:", bin)
				}
				return err
			}
			return runUntilSignal(func(ctx context.Context) error { return o.dev(ctx, vaultOnly) })
		},
	}
	cmd.Flags().BoolVar(&prepare, "prepare", false, "find or build what is needed, and stop")
	cmd.Flags().BoolVar(&vaultOnly, "vault-only", false, "start the Vault alone, and print its address and token")
	o.addrSetting(cmd.Flags())
	o.callSettings(cmd.Flags())
	return cmd
}

// say tells a person what takes long.
func (o *options) say(line string) { _, _ = fmt.Fprintln(o.err, line) }

// dev runs everything until ctx ends, or Vault does.
func (o *options) dev(ctx context.Context, vaultOnly bool) error {
	elsewhere := []string{"VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_TOKEN", "VAULT_CACERT", "VAULT_CAPATH", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_TLS_SERVER_NAME"}
	o.env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(elsewhere, strings.TrimSuffix(name, "_FILE")) || name == "API_KEYS_JSON_FILE"
	})
	for _, name := range elsewhere { // of a configuration file
		o.set[name] = ""
	}
	o.set["VAULT_ADDR"], o.set["KV_MOUNT"], o.set["AUTH_API_KEY_ENABLED"] = "http://127.0.0.1", "secret", "true"
	cfg, err := o.load()
	if err != nil {
		return err
	}
	stack, err := devstack.StartStack(ctx, devstack.StackOptions{Log: o.say, Prefix: cfg.Auth.DefaultPrefix + "/" + demoSubject})
	if err != nil {
		return err
	}
	defer stack.Stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-stack.Vault.Done():
			cancel(errors.New("the development Vault ended"))
		case <-ctx.Done():
		}
	}()
	if vaultOnly {
		_, _ = fmt.Fprintf(o.out, "export VAULT_ADDR=%s VAULT_TOKEN=%s\n", stack.Vault.Addr, stack.Vault.RootToken.Reveal())
		<-ctx.Done()
		return endedBy(ctx)
	}
	demo, err := o.prepareDemo(ctx, cfg, stack.Vault)
	if err != nil {
		return err
	}
	if cfg, err = o.load(); err != nil {
		return err
	}
	a, err := o.open(cfg, "dev") //nolint:contextcheck // it waits for nothing
	if err != nil {
		return err
	}
	err = a.serveHTTP(ctx, func(url string) { demo.print(o, url) })
	return errors.Join(err, endedBy(ctx), a.Close())
}

// endedBy is why the context ended, unless that was the user's wish.
func endedBy(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// demo is what a person needs to use a development server.
type demo struct {
	vault         *devstack.Vault
	token         secret.Text // of the server
	key           string
	prefix, state string
}

// prepareDemo gives the server a token that can do what the tools need and no
// more, a demo key, and a state folder of its own.
func (o *options) prepareDemo(ctx context.Context, cfg *config.Config, v *devstack.Vault) (*demo, error) {
	d := &demo{vault: v, prefix: cfg.Auth.DefaultPrefix + "/" + demoSubject, state: cfg.State.Dir}
	if cfg.Source("STATE_DIR") == "default" {
		d.state = filepath.Join(cfg.State.Dir, "dev")
	}
	random, err := secret.LoadOrCreateKey(filepath.Join(d.state, "demo.key"))
	if err != nil {
		return nil, err
	}
	d.key = "demo-" + hex.EncodeToString(random[:16])
	if d.token, err = v.CreateToken(ctx, devPolicy(cfg), devstack.TokenOptions{}); err != nil {
		return nil, err
	}
	keys, err := json.Marshal(map[string]string{d.key: demoSubject})
	if err != nil {
		return nil, err
	}
	o.set["VAULT_ADDR"], o.set["VAULT_TOKEN"] = v.Addr, d.token.Reveal()
	o.set["API_KEYS_JSON"], o.set["STATE_DIR"] = string(keys), d.state
	o.set["GRANTS"] = `{"transit":["*"],"database":["*"],"ssh":["*"],"kms":["*"]}`
	if cfg.Source("LOG_FORMAT") == "default" {
		o.set["LOG_FORMAT"] = "console"
	}
	return d, nil
}

// devPolicy allows what the tools need below the prefix of all principals.
func devPolicy(cfg *config.Config) string {
	rules := map[string][]string{
		vaultx.WrapOperation.Path.String(): {"update"},
		"auth/token/lookup-self":           {"read"},
		"sys/capabilities-self":            {"update"},
	}
	for _, t := range tools.NewCatalog().Tools() {
		for _, need := range t.Needs {
			if len(need.KMS) > 0 {
				continue // no matter of Vault's policies
			}
			path := needPath(cfg, need, cfg.Auth.DefaultPrefix, "*")
			rules[path] = append(rules[path], need.Capabilities...)
		}
	}
	var b strings.Builder
	for path, capabilities := range rules {
		_, _ = fmt.Fprintf(&b, "path %q {\n  capabilities = [\"%s\"]\n}\n", path, strings.Join(capabilities, `", "`))
	}
	return b.String()
}

func (d *demo) print(o *options, url string) {
	bin, err := os.Executable()
	if err != nil {
		bin = "vault-mcp"
	}
	httpClient := clientSnippet(map[string]any{"type": "http", "url": url + "/mcp", "headers": map[string]string{"X-API-Key": d.key}})
	stdioClient := clientSnippet(map[string]any{"command": bin, "args": []string{"stdio"}, "env": map[string]string{
		"VAULT_ADDR": d.vault.Addr, "VAULT_TOKEN": d.token.Reveal(), "SUBJECT": demoSubject, "STATE_DIR": d.state,
	}})
	_, _ = fmt.Fprintf(o.out, `
vault-mcp is ready at %[1]s/mcp

  demo API key  %[2]s
  principal     %[3]s, whose secrets stand under %[4]s
  Vault         VAULT_ADDR=%[5]s VAULT_TOKEN=%[6]s
  audit trail   STATE_DIR=%[7]s %[10]s audit verify

Claude Code:
  claude mcp add --transport http vault %[1]s/mcp --header "X-API-Key: %[2]s"

A client over HTTP:
%[8]s

A client that launches the server (stdio; good as long as this runs):
%[9]s

curl:
  curl -s %[1]s/mcp/rpc -H 'X-API-Key: %[2]s' --json '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"app/config"}}}'

Ctrl-C ends everything.

`, url, d.key, demoSubject, d.prefix, d.vault.Addr, d.vault.RootToken.Reveal(), shellWord(d.state), httpClient, stdioClient, shellWord(bin))
}

// shellWord is a text as one word of a shell.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// clientSnippet is an entry of a client's mcpServers.
func clientSnippet(entry map[string]any) string {
	b, _ := json.MarshalIndent(map[string]any{"mcpServers": map[string]any{"vault": entry}}, "  ", "  ") //nolint:errchkjson // strings always encode
	return "  " + string(b)
}
