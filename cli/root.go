// Package cli is the command line: one file for each command. It reads the
// settings, makes the concrete types and hands them to one another; what they
// do stands in their packages.
//
// Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.
package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vault-mcp/config"
	"vault-mcp/telemetry"
	"vault-mcp/tools"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// options are what every command is given.
type options struct {
	in       io.Reader
	out, err io.Writer
	config   string            // --config
	set      map[string]string // settings given as flags, by their environment name
	env      []string          // "NAME=value"; nil: the environment of the process
}

// toldError is an error that stands in the log, on standard error, already.
type toldError struct{ error }

// usageError is a mistake in how the program was called or configured.
type usageError struct{ error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// theCatalog is the catalogue, made when it is first asked for.
var theCatalog = sync.OnceValue(tools.NewCatalog)

// Main runs the command line and returns the exit code.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	o := &options{in: in, out: out, err: errOut, set: map[string]string{}}
	root := &cobra.Command{
		Use:           "vault-mcp",
		Short:         "Safe access to HashiCorp Vault for AI agents, over the Model Context Protocol",
		Version:       telemetry.BuildInfo().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.PersistentFlags().StringVar(&o.config, "config", "", "configuration file (default: config.{toml,json,yaml,yml} in the working directory)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return badFlag(err) })
	root.AddCommand(
		stdioCommand(o), httpCommand(o), devCommand(o), doctorCommand(o),
		toolsCommand(o), policyCommand(o), keyCommand(o), tokenCommand(o), jwksCommand(o), auditCommand(o), configCommand(o), versionCommand(o),
	)
	group(root)
	err := root.Execute()
	var wrongUse usageError
	var told toldError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &told):
		return exitFailure
	case errors.As(err, &wrongUse):
		_, _ = fmt.Fprintln(errOut, "vault-mcp:", err)
		return exitUsage
	default:
		_, _ = fmt.Fprintln(errOut, "vault-mcp:", err)
		return exitFailure
	}
}

// badFlag is what is wrong with the flags. It does not repeat a value.
func badFlag(err error) error {
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	switch {
	case !errors.As(err, &invalid):
		return unknownFlag(err)
	case errors.As(err, &number) && invalid.GetFlag().Value.Type() == "bool":
		return usage("--%s: want true or false", invalid.GetFlag().Name)
	case errors.As(err, &number):
		return usage("--%s: want a whole number", invalid.GetFlag().Name)
	}
	return usage("--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
}

// unknownFlag is what is wrong with a flag's name, which is repeated where it
// looks like one.
func unknownFlag(err error) error {
	var absent *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	switch {
	case errors.As(err, &valueless):
		return usage("--%s wants a value", valueless.GetFlag().Name)
	case errors.As(err, &absent) && absent.GetSpecifiedShortnames() == "" && strings.Trim(absent.GetSpecifiedName(), "abcdefghijklmnopqrstuvwxyz-") == "":
		return usage("there is no flag --%s; --help lists them", absent.GetSpecifiedName())
	}
	return usage("there is no such flag; --help lists them")
}

// group makes a command that only holds others. Alone it shows its help; a word
// that is none of its commands is a mistake, which cobra would pass over.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		meant := ""
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			meant = "; is " + strings.Join(like, " or ") + " meant?"
		}
		return usage("there is no such command%s '%s --help' lists them", cmp.Or(meant, ";"), cmd.CommandPath())
	}
	return cmd
}

// atMost takes so many arguments besides flags.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage("too many arguments; '%s --help' shows what it takes", cmd.CommandPath())
		}
		return nil
	}
}

// setting adds a flag that stands for a setting: given, it wins over every
// other source of that setting.
func (o *options) setting(flags *pflag.FlagSet, flag, name, help string) {
	flags.Func(flag, help+" ("+name+")", func(value string) error {
		o.set[name] = value
		return nil
	})
}

// switchSetting is setting for one that is on or off.
func (o *options) switchSetting(flags *pflag.FlagSet, flag, name, help string) {
	flags.BoolFunc(flag, help+" ("+name+")", func(value string) error {
		o.set[name] = value
		return nil
	})
}

// load reads the settings from all sources.
func (o *options) load() (*config.Config, error) {
	cfg, err := config.Load(config.Options{File: o.config, Env: o.env, Flags: o.set})
	if err != nil {
		return nil, usageError{fmt.Errorf("the configuration is not usable:\n%w", err)}
	}
	return cfg, nil
}
