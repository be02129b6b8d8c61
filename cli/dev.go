package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/devstack"
	"vault-mcp/secret"
	"vault-mcp/tools"
)

// demoSubject is the principal of the demo key.
const demoSubject = "dev-bot"

func devCommand(o *options) *cobra.Command {
	var prepare, vaultOnly bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "A real Vault, demo secrets and the server, on this machine, with nothing configured",
		Long: `Starts a real Vault in dev mode, a PostgreSQL and an AWS KMS (local-kms), puts demo secrets, keys
and roles into them, and serves like 'vault-mcp http'. Prints the address, a demo API key, what each
engine has, and snippets for clients. Everything in the servers is gone when it ends; the demo key
stays the same from run to run.

Vault is looked for in VAULT_BIN, as vault or bao on PATH, and in bin/devstack; in a checkout it is
built if there is none. So is local-kms, by LOCAL_KMS_BIN, and Vault's plugin for PostgreSQL.
PostgreSQL itself is the one on PATH or of Debian's packages. What is not there but Vault is left out,
and said. Settings that say where Vault or AWS KMS is, and by which credentials, are not used.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if prepare {
				return o.prepareDev(cmd.Context())
			}
			return runUntilSignal(func(ctx context.Context) error { return o.dev(ctx, vaultOnly) })
		},
	}
	cmd.Flags().BoolVar(&prepare, "prepare", false, "find or build what is needed, and stop")
	cmd.Flags().BoolVar(&vaultOnly, "vault-only", false, "start Vault with demo secrets alone, and print its address and token")
	o.addrSetting(cmd.Flags())
	o.callSettings(cmd.Flags())
	return cmd
}

// say tells a person what takes long.
func (o *options) say(line string) { _, _ = fmt.Fprintln(o.err, line) }

// prepareDev finds or builds what dev starts. What cannot be had is said, and is
// no failure unless it is Vault.
func (o *options) prepareDev(ctx context.Context) error {
	for _, part := range []struct {
		title   string
		missing error // that may be missing
		find    func() (string, error)
	}{
		{"Vault", nil, func() (string, error) { return devstack.Find(ctx, o.say) }},
		{"Vault's plugin for PostgreSQL", devstack.ErrNoPostgresPlugin, func() (string, error) { return devstack.FindPostgresPlugin(ctx, o.say) }},
		{"local-kms", devstack.ErrNoLocalKMS, func() (string, error) { return devstack.FindLocalKMS(ctx, o.say) }},
		{"PostgreSQL", devstack.ErrNoPostgres, devstack.FindPostgres},
	} {
		path, err := part.find()
		switch {
		case err == nil:
			_, _ = fmt.Fprintf(o.out, "%s: %s\n", part.title, path)
		case part.missing != nil && errors.Is(err, part.missing):
			o.say(err.Error())
		default:
			return err
		}
	}
	return nil
}

// dev runs everything until ctx ends, or Vault does.
func (o *options) dev(ctx context.Context, vaultOnly bool) error {
	elsewhere := []string{
		"VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_TOKEN", "VAULT_CACERT", "VAULT_CAPATH", "VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY", "VAULT_TLS_SERVER_NAME",
		"VAULT_AUTH_MOUNT", "VAULT_AUTH_ROLE", "VAULT_ROLE_ID", "VAULT_SECRET_ID", "VAULT_JWT_FILE",
		"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_KMS_ENDPOINT", "AWS_KMS_DEFAULT_KEY_ID",
	}
	o.env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(elsewhere, strings.TrimSuffix(name, "_FILE")) || name == "API_KEYS_JSON_FILE"
	})
	for _, name := range elsewhere { // of a configuration file
		o.set[name] = ""
	}
	o.set["VAULT_ADDR"], o.set["KV_MOUNT"], o.set["AUTH_API_KEY_ENABLED"] = "http://127.0.0.1", "secret", "true"
	o.set["VAULT_AUTH_METHOD"], o.set["VAULT_SECRET_ID_WRAPPED"] = "token", "false"
	o.set["AWS_KMS_ENABLED"], o.set["AWS_USE_FIPS_ENDPOINT"] = "false", "false" // until there is one
	cfg, err := o.load()
	if err != nil {
		return err
	}
	stack, err := devstack.StartStack(ctx, devstack.StackOptions{
		Log: o.say, Prefix: cfg.Auth.DefaultPrefix + "/" + demoSubject, VaultOnly: vaultOnly,
	})
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
	demo, err := o.prepareDemo(ctx, cfg, stack)
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
	engines       []devstack.Engine
	token         secret.Text // of the server
	key           string
	prefix, state string
	settings      map[string]string // of every server that the demo principal uses
}

// prepareDemo gives the server a token that can do what the tools need and no
// more, a demo key, and a state folder of its own.
func (o *options) prepareDemo(ctx context.Context, cfg *config.Config, stack *devstack.Stack) (*demo, error) {
	v := stack.Vault
	d := &demo{vault: v, engines: stack.Engines, prefix: cfg.Auth.DefaultPrefix + "/" + demoSubject, state: cfg.State.Dir}
	if cfg.Source("STATE_DIR") == "default" {
		d.state = filepath.Join(cfg.State.Dir, "dev")
	}
	random, err := secret.LoadOrCreateKey(filepath.Join(d.state, "demo.key"))
	if err != nil {
		return nil, err
	}
	d.key = "demo-" + hex.EncodeToString(random[:16])
	if d.token, err = v.CreateToken(ctx, devPolicy(cfg)); err != nil {
		return nil, err
	}
	keys, err := json.Marshal(map[string]string{d.key: demoSubject})
	if err != nil {
		return nil, err
	}
	grants, err := json.Marshal(devGrants)
	if err != nil {
		return nil, err
	}
	d.settings = map[string]string{
		"VAULT_ADDR": v.Addr, "VAULT_TOKEN": d.token.Reveal(), "STATE_DIR": d.state, "GRANTS": string(grants),
	}
	maps.Copy(d.settings, kmsSettings(stack.KMS))
	maps.Copy(o.set, d.settings)
	o.set["API_KEYS_JSON"] = string(keys)
	if cfg.Source("LOG_FORMAT") == "default" {
		o.set["LOG_FORMAT"] = "console"
	}
	return d, nil
}

// kmsSettings lead to the AWS KMS of the stack, which takes any credentials; none
// if it has none.
func kmsSettings(k *devstack.KMS) map[string]string {
	if k == nil {
		return nil
	}
	return map[string]string{
		"AWS_KMS_ENABLED": "true", "AWS_KMS_ENDPOINT": k.Endpoint, "AWS_REGION": devstack.KMSRegion,
		"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_KMS_DEFAULT_KEY_ID": devstack.AliasDemo,
	}
}

// devGrants are every object of every engine.
var devGrants = auth.Grants{"transit": {"*"}, "database": {"*"}, "ssh": {"*"}, "kms": {"*"}}

// devPolicy allows what the tools need below the prefix of all principals.
func devPolicy(cfg *config.Config) string {
	everyone := &auth.Principal{Prefix: cfg.Auth.DefaultPrefix, Grants: devGrants}
	return tools.PolicyHCL(tools.NewCatalog(), mounts(cfg), everyone) + `
# doctor
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

# doctor
path "sys/capabilities-self" {
  capabilities = ["update"]
}
`
}

func (d *demo) print(o *options, url string) {
	bin, err := os.Executable()
	if err != nil {
		bin = "vault-mcp"
	}
	httpClient := clientSnippet(map[string]any{"type": "http", "url": url + "/mcp", "headers": map[string]string{"X-API-Key": d.key}})
	environment := maps.Clone(d.settings)
	environment["SUBJECT"] = demoSubject
	stdioClient := clientSnippet(map[string]any{"command": bin, "args": []string{"stdio"}, "env": environment})
	_, _ = fmt.Fprintf(o.out, `
vault-mcp is ready at %[1]s/mcp

  demo API key  %[2]s
  principal     %[3]s, whose secrets stand under %[4]s
  Vault         VAULT_ADDR=%[5]s VAULT_TOKEN=%[6]s
  audit trail   STATE_DIR=%[7]s %[10]s audit verify
%[11]s
Claude Code:
  claude mcp add --transport http vault %[1]s/mcp --header "X-API-Key: %[2]s"

A client over HTTP:
%[8]s

A client that launches the server (stdio; good as long as this runs):
%[9]s

curl:
  curl -s %[1]s/mcp/rpc -H 'X-API-Key: %[2]s' --json '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"app/config"}}}'

Ctrl-C ends everything.

`, url, d.key, demoSubject, d.prefix, d.vault.Addr, d.vault.RootToken.Reveal(), shellWord(d.state), httpClient, stdioClient, shellWord(bin), engineLines(d.engines))
}

// engineLines say what each engine has, one a line.
func engineLines(engines []devstack.Engine) string {
	var b strings.Builder
	for _, e := range engines {
		_, _ = fmt.Fprintf(&b, "  %-12s  %s\n", e.Name, e)
	}
	return b.String()
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
