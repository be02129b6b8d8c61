package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"vault-mcp/audit"
	"vault-mcp/config"
	"vault-mcp/secret"
)

// auditKeyFile is the file of the trail's key in the state folder.
const auditKeyFile = "audit.key"

// openTrail begins or continues the trail of this process.
func openTrail(cfg *config.Config, log *zap.Logger) (*audit.Trail, error) {
	key, err := keyFor(cfg.State.AuditKey, cfg.State.Dir, auditKeyFile)
	if err != nil {
		return nil, err
	}
	opt := audit.Options{
		Path: cfg.State.AuditFile,
		Key:  key,
		Sync: audit.Sync(cfg.State.AuditSync),
		LogError: func(err error) {
			log.Error("audit trail", zap.Error(err))
		},
	}
	if opt.Path == "" {
		opt.Dir = trailPath(cfg)
	}
	return audit.Open(opt)
}

// trailPath is where the trail is: the file that the operator named, or the
// folder in which each process makes its own.
func trailPath(cfg *config.Config) string {
	if cfg.State.AuditFile != "" {
		return cfg.State.AuditFile
	}
	return filepath.Join(cfg.State.Dir, "audit")
}

// trailKey is the key with which trails are read. Unlike the one for writing it
// is never made: a fresh key fits no trail.
func trailKey(cfg *config.Config) ([]byte, error) {
	if !cfg.State.AuditKey.IsZero() {
		return secret.ParseKey(cfg.State.AuditKey)
	}
	path := filepath.Join(cfg.State.Dir, auditKeyFile)
	key, err := secret.LoadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no key: %s does not exist and AUDIT_HMAC_KEY is not set; "+
			"give the settings with which the server runs", path)
	}
	return key, err
}

func auditCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "audit",
		Short: "Verify and read the audit trail",
	})
	cmd.AddCommand(auditVerifyCommand(o), auditTailCommand(o), auditHashCommand(o))
	return cmd
}

func auditVerifyCommand(o *options) *cobra.Command {
	var asJSON, partial bool
	cmd := &cobra.Command{
		Use:   "verify [PATH...]",
		Short: "Check that nothing in the trail was altered, dropped, added or cut off",
		Long: "Check that nothing in the trail was altered, dropped, added or cut off.\n\n" +
			"PATH is a file of a trail or a folder of trails; without one, those of the\n" +
			"configuration. The exit code is 1 if one of them does not verify.",
		RunE: func(_ *cobra.Command, paths []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			key, err := trailKey(cfg)
			if err != nil {
				return err
			}
			if len(paths) == 0 {
				paths = []string{trailPath(cfg)}
			}
			all := audit.Report{OK: true}
			for _, path := range paths {
				report, err := audit.Verify(path, audit.VerifyOptions{Key: key, Partial: partial})
				if err != nil {
					return err
				}
				all.OK = all.OK && report.OK
				all.Chains = append(all.Chains, report.Chains...)
			}
			if err := printReport(o.out, all, asJSON); err != nil {
				return err
			}
			if !all.OK {
				return errors.New("the audit trail does not verify")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&partial, "partial", false, "accept that the first files of a chain, or in an archive its last, are elsewhere")
	return cmd
}

func auditTailCommand(o *options) *cobra.Command {
	var (
		n              int
		follow, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "tail [PATH]",
		Short: "Show the last records of the trail, without checking them",
		Args:  atMost(1),
		RunE: func(_ *cobra.Command, paths []string) error {
			if n < 0 || n > audit.MaxTail {
				return usage("-n must be 0 to %d", audit.MaxTail)
			}
			cfg, err := o.load()
			if err != nil {
				return err
			}
			path := trailPath(cfg)
			if len(paths) == 1 {
				path = paths[0]
			}
			return runUntilSignal(func(ctx context.Context) error {
				return audit.Tail(ctx, path, n, follow, func(e audit.Entry) error {
					line := recordLine(&e.Record)
					if asJSON {
						line = string(e.Line)
					}
					_, err := fmt.Fprintln(o.out, line)
					return err
				})
			})
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 20, "how many records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written from now on")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the records as they stand in the trail, JSON lines")
	return cmd
}

// maxHashed bounds the value that audit hash reads: no call is larger.
const maxHashed = 8 << 20

func auditHashCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Print the keyed hash under which a value stands in the trail",
		Long: "Print the keyed hash under which a value stands in the trail, to look it up there.\n\n" +
			"The value is read from standard input, as JSON: a string with its quotes. Objects\n" +
			"and lists are hashed as they were written in the call, so for one with blanks in\n" +
			"it the hash without them is printed on a second line.",
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			key, err := trailKey(cfg)
			if err != nil {
				return err
			}
			value, err := io.ReadAll(io.LimitReader(o.in, maxHashed+1))
			if err != nil {
				return fmt.Errorf("reading the value: %w", err)
			}
			// The value is not repeated in an error.
			given := jsontext.Value(bytes.TrimSpace(value))
			if len(value) > maxHashed || !given.IsValid() {
				return usage("want one JSON value of at most %d MiB on standard input; a string stands in quotes", maxHashed>>20)
			}
			compact := given.Clone()
			if err := compact.Compact(); err != nil {
				return usage("want one JSON value on standard input")
			}
			for i, v := range []jsontext.Value{given, compact} {
				if i > 0 && bytes.Equal(v, given) {
					break
				}
				hash, err := audit.HMAC(key, v)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(o.out, hash); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
