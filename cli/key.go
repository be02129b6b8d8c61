package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

// keyCommand manages the file of hashed API keys. A key is shown once, alone on
// a line of standard output, so that it can be captured; what people want to
// know of it stands on standard error.
func keyCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "key",
		Short: "Create, list, rotate and revoke API keys",
		Long: "Create, list, rotate and revoke API keys. They are kept hashed in API_KEYS_FILE;\n" +
			"a running server takes up changes within two seconds.",
	})
	cmd.AddCommand(keyCreateCommand(o), keyListCommand(o), keyRotateCommand(o), keyRevokeCommand(o))
	for _, sub := range cmd.Commands() {
		o.setting(sub.Flags(), "file", "API_KEYS_FILE", "file of the keys")
	}
	return cmd
}

func keyCreateCommand(o *options) *cobra.Command {
	var subject, expires, note string
	var scopes, grants []string
	var bind bool
	cmd := &cobra.Command{
		Use:     "create --subject SUBJECT",
		Short:   "Make a key for a subject and print it, this once",
		Example: "  vault-mcp key create --subject dev-bot --scopes kv:read,list --expires 90d",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if subject == "" {
				return usage("--subject is needed: for whom is the key?")
			}
			opt := auth.KeyOptions{Note: note, BindCiphertexts: bind}
			var err error
			if opt.Lifetime, err = lifetime("--expires", expires); err != nil {
				return err
			}
			if cmd.Flags().Changed("scopes") {
				if opt.Scopes, err = auth.ParseScopes(scopes); err != nil {
					return keyError(err)
				}
				if len(opt.Scopes) == 0 {
					return usage("--scopes is empty; such a key could do nothing")
				}
			}
			if opt.Grants, err = parseGrants(grants); err != nil {
				return err
			}
			file, err := o.keyFile()
			if err != nil {
				return err
			}
			key, record, err := file.Create(subject, opt)
			if err != nil {
				return keyError(err)
			}
			return o.showKey(key, record)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&subject, "subject", "", "for whom the key is (required)")
	flags.StringSliceVar(&scopes, "scopes", nil, "what it may do: read, write, delete, list, each also for one engine, as kv:read (default all four)")
	flags.StringArrayVar(&grants, "grant", nil, "an object it may use besides its subject's own, as transit=orders or database=team-*; repeatable")
	flags.BoolVar(&bind, "bind-ciphertexts", false, "bind what AWS KMS encrypts for the subject to it, so that no other principal decrypts it")
	flags.StringVar(&expires, "expires", "", "how long it is good, as 90d or 720h (default: for ever)")
	flags.StringVar(&note, "note", "", "a note for people")
	return cmd
}

func keyListCommand(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys, without their secrets",
		Args:  atMost(0),
		RunE: func(*cobra.Command, []string) error {
			file, err := o.keyFile()
			if err != nil {
				return err
			}
			list, err := file.List()
			if err != nil {
				return keyError(err)
			}
			if asJSON {
				enc := json.NewEncoder(o.out)
				enc.SetIndent("", "  ")
				return enc.Encode(list)
			}
			return keyTable(o.out, list, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func keyRotateCommand(o *options) *cobra.Command {
	var overlap string
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Give a key a new secret and print it, this once",
		Long: "Give a key a new secret under its old id and print it, this once. The secret before it\n" +
			"works for the overlap; one from an earlier rotation ends at once. A key that expires gets\n" +
			"its lifetime anew.",
		Args: oneID,
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := lifetime("--overlap", overlap)
			if err != nil {
				return err
			}
			file, err := o.keyFile()
			if err != nil {
				return err
			}
			key, record, err := file.Rotate(args[0], d)
			if err != nil {
				return keyError(err)
			}
			return o.showKey(key, record)
		},
	}
	cmd.Flags().StringVar(&overlap, "overlap", "24h", "how long the old secret still works; 0: not at all")
	return cmd
}

func keyRevokeCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Take a key away, with its old secret if it has one",
		Args:  oneID,
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := o.keyFile()
			if err != nil {
				return err
			}
			if err := file.Revoke(args[0]); err != nil {
				return keyError(err)
			}
			_, err = fmt.Fprintf(o.err, "key %s is revoked; a running server refuses it within two seconds\n", args[0])
			return err
		},
	}
}

// keyFile is the file of the settings.
func (o *options) keyFile() (*auth.KeyFile, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, err
	}
	if cfg.Auth.KeysFile == "" {
		return nil, usage("API_KEYS_FILE is empty: name a file, with --file for instance")
	}
	return auth.NewKeyFile(cfg.Auth.KeysFile), nil
}

// showKey prints a new key and, aside, what it is.
func (o *options) showKey(key secret.Text, r auth.KeyRecord) error {
	about := fmt.Sprintf("key %s of %s, scopes %s, ", r.ID, printable(r.Subject), strings.Join(r.Scopes, " "))
	if r.ExpiresAt.IsZero() {
		about += "does not expire\n"
	} else {
		about += "expires " + stamp(r.ExpiresAt) + "\n"
	}
	if !r.PreviousUntil.IsZero() {
		about += "the secret before it works until " + stamp(r.PreviousUntil) + "\n"
	} else if !r.RotatedAt.IsZero() {
		about += "the secret before it works no longer\n"
	}
	if _, err := io.WriteString(o.err, about+"it is shown this once; only its digest is kept\n"); err != nil {
		return err
	}
	_, err := fmt.Fprintln(o.out, key.Reveal())
	return err
}

func keyTable(w io.Writer, list []auth.KeyRecord, now time.Time) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, "ID\tSUBJECT\tSCOPES\tCREATED\tROTATED\tEXPIRES\tNOTE")
	for _, r := range list {
		expires := stamp(r.ExpiresAt)
		if !r.ExpiresAt.IsZero() && !now.Before(r.ExpiresAt) {
			expires += " (expired)"
		}
		_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, printable(r.Subject),
			dash(strings.Join(r.Scopes, " ")), stamp(r.CreatedAt), stamp(r.RotatedAt), expires, dash(r.Note))
	}
	return tw.Flush()
}

// stamp is a time as tables show it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return dash("")
	}
	return t.UTC().Format(time.RFC3339)
}

// lifetime reads a duration as people give one: 90d, or as 720h; "" and 0 are
// none.
func lifetime(flag, text string) (time.Duration, error) {
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16) // 179 years, within a Duration
		d = time.Duration(n) * 24 * time.Hour
	} else if text != "" {
		d, err = time.ParseDuration(text)
	}
	if err != nil || d < 0 {
		return 0, usage("%s: want a number of days (90d) or a duration (720h, 30m)", flag)
	}
	return d, nil
}

// parseGrants reads the values of --grant.
func parseGrants(list []string) (auth.Grants, error) {
	if len(list) == 0 {
		return nil, nil
	}
	grants := auth.Grants{}
	for _, text := range list {
		engine, name, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usage("--grant: want an engine and a name, as transit=orders")
		}
		grants[engine] = append(grants[engine], name)
	}
	return grants, nil
}

func oneID(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage("want the id of one key; 'vault-mcp key list' shows them")
	}
	return nil
}

// keyError tells a mistake in the arguments from a failure.
func keyError(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return fmt.Errorf("the key file: %w", err)
	}
	if f.Kind == fault.Invalid {
		return usageError{errors.New(f.Msg)}
	}
	return errors.New(f.Msg)
}
