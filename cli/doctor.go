package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// finding is the result of one check.
type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning, broken, skipped
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what to do
}

const (
	stateOK      = "ok"
	stateWarning = "warning"
	stateBroken  = "broken"
	stateSkipped = "skipped"
)

// maxSkew is how far Vault's clock and ours may be apart; credentials with an
// end are checked by ours.
const maxSkew = 5 * time.Second

// soonExpiring is how much life the server's token should have left.
const soonExpiring = time.Hour

// doctor collects findings.
type doctor struct {
	findings []finding
}

func (d *doctor) found(check, state, detail, fix string) {
	d.findings = append(d.findings, finding{check, state, detail, fix})
}

func (d *doctor) broken() bool {
	for _, f := range d.findings {
		if f.State == stateBroken {
			return true
		}
	}
	return false
}

func doctorCommand(o *options) *cobra.Command {
	var asJSON bool
	var about supposition
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong with the installation, and what to do about it",
		Long: `Checks the settings, the state folder, the keys of callers, and Vault: that it is
reachable, its clock, the server's token, the KV mount, and whether the token's policies allow
what each tool needs. It changes nothing; where the server logs in to Vault, so does it, and
ends its token afterwards. Exit code 1: something is broken.

With --subject it explains instead, from the settings alone, what the subject could do and by which
rule of PRINCIPALS: for each API key that it has, or by a credential with all scopes. Exit code 1:
every call would be refused.`,
		Example: "  vault-mcp doctor\n  vault-mcp doctor --subject dev-bot\n" +
			"  vault-mcp doctor --subject repo:acme/app --issuer https://ci.example --claim repository_owner=acme",
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if about.asked(cmd) {
				return o.explain(&about, asJSON)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			d := &doctor{}
			d.examine(ctx, o)
			if err := d.print(o, asJSON); err != nil {
				return err
			}
			if d.broken() {
				return errors.New("something is broken")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	about.flags(cmd.Flags())
	return cmd
}

func (d *doctor) print(o *options, asJSON bool) error {
	if asJSON {
		return writeJSON(o.out, struct {
			OK     bool      `json:"ok"`
			Checks []finding `json:"checks"`
		}{!d.broken(), d.findings})
	}
	tw := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	for _, f := range d.findings {
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\n", f.State, f.Check, f.Detail)
		if f.Fix != "" {
			_, _ = fmt.Fprintf(tw, "\t\t→ %s\n", f.Fix)
		}
	}
	return tw.Flush()
}

func (d *doctor) examine(ctx context.Context, o *options) {
	cfg, err := o.load()
	if err != nil {
		d.found("settings", stateBroken, err.Error(), "correct them; vault-mcp config env lists all settings")
		return
	}
	if _, err := theCatalog().Off(offer(cfg)); err != nil {
		d.found("settings", stateBroken, err.Error(), "vault-mcp tools lists all names")
		return
	}
	d.found("settings", stateOK, "usable", "")
	for _, warning := range cfg.Warnings() {
		d.found("settings", stateWarning, warning, "")
	}
	d.state(cfg)
	d.certificate(cfg)
	d.callers(ctx, cfg)
	d.redis(ctx, cfg)
	client, err := openVault(cfg, zap.NewNop())
	if err != nil {
		d.found("vault", stateBroken, err.Error(), "correct the setting")
		return
	}
	defer client.Close() //nolint:contextcheck // an end has bounds of its own
	// Nothing was issued under its token, which ends by itself if need be.
	defer func() { _ = client.LogOut(ctx) }()
	d.vault(ctx, cfg, client)
}

func (d *doctor) vault(ctx context.Context, cfg *config.Config, client *vaultx.Client) {
	before := time.Now()
	health, err := client.Health(ctx)
	if err != nil {
		d.found("vault", stateBroken, fault.From(err).Msg, "check VAULT_ADDR, the network, the certificates, and whether Vault is unsealed")
		return
	}
	d.found("vault", stateOK, "version "+health.Version, "")
	now := before.Add(time.Since(before) / 2)
	if skew := now.Sub(time.Unix(health.ServerTime, 0)); skew.Abs() > maxSkew+time.Second { // whole seconds come
		d.found("clock", stateWarning, fmt.Sprintf("Vault's clock and this one are %s apart", skew.Abs().Round(time.Second)), "synchronise both with NTP")
	} else {
		d.found("clock", stateOK, "in step with Vault's", "")
	}
	if cfg.Vault.Namespace != "" && !health.Enterprise {
		d.found("namespace", stateWarning, "VAULT_NAMESPACE is set, and this Vault does not say that it is an Enterprise one: the Community Edition ignores namespaces, so it would isolate nothing", "unset it, unless this is an OpenBao with namespaces")
	}
	if cfg.Vault.AuthMethod == vaultx.LoginAppRole && (cfg.Vault.SecretWrapped || vaultx.LooksWrapped(cfg.Vault.SecretID)) {
		d.found("login", stateSkipped, "the secret id is wrapped and can be unwrapped once, which is for the server to do", "")
		return
	}
	if !d.token(ctx, cfg, client) {
		return
	}
	if err := client.KVVersion2(ctx); cfg.Child.Enabled && errors.Is(err, fault.Forbidden) {
		d.found("kv mount", stateSkipped, "the server's own token has no rights there, as it should be with child tokens", "")
	} else if err != nil {
		d.found("kv mount", stateBroken, fault.From(err).Msg, "set KV_MOUNT to the mount of a KV engine of version 2, and let the token's policy read it")
	} else {
		d.found("kv mount", stateOK, cfg.Vault.KVMount, "")
	}
	if cfg.Child.Enabled {
		d.children(ctx, cfg, client)
		return
	}
	d.policies(ctx, cfg, client)
}

// policies asks Vault whether the token may do what each tool needs, at a place
// below the prefix that a subject would have.
func (d *doctor) policies(ctx context.Context, cfg *config.Config, client *vaultx.Client) {
	catalog := theCatalog()
	off, _ := catalog.Off(offer(cfg)) // what is wrong with them was told before
	on := slices.DeleteFunc(slices.Clone(catalog.Tools()), func(t *tools.Tool) bool { return off[t] != nil })
	list := tools.Permissions(on, mounts(cfg), someSubject(cfg))
	for i := range list {
		if stem, open := strings.CutSuffix(list[i].Path, "*"); open {
			list[i].Path = stem + "doctor"
		}
	}
	paths := make([]string, len(list))
	for i := range list {
		paths[i] = list[i].Path
	}
	has, err := client.Capabilities(ctx, paths)
	if err != nil {
		d.found("policies", stateSkipped, "the token may not ask for its capabilities (update on sys/capabilities-self)", "")
		return
	}
	var missing []string
	for _, need := range list {
		for _, capability := range need.Capabilities {
			if !vaultx.Grants(has[need.Path], capability) {
				missing = append(missing, fmt.Sprintf("%s needs %s on %s", need.Tool, capability, need.Path))
			}
		}
	}
	if len(missing) > 0 {
		d.found("policies", stateBroken, strings.Join(missing, "; "), "extend the policy of the server's token, or switch off with TOOLS_EXCLUDE what is not wanted")
		return
	}
	d.found("policies", stateOK, "the token may do what every tool that is on needs", "")
}

// someSubject is a principal as one of the name doctor would be, with the grants
// that all have, where all have some.
func someSubject(cfg *config.Config) *auth.Principal {
	p := &auth.Principal{Prefix: cfg.Auth.DefaultPrefix + "/doctor", Grants: auth.Grants{}}
	for engine := range devGrants {
		p.Grants[engine] = []string{"doctor"}
	}
	for engine, granted := range cfg.Auth.Grants {
		if len(granted) > 0 {
			p.Grants[engine] = granted
		}
	}
	return p
}
