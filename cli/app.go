package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
	"vault-mcp/server"
	"vault-mcp/telemetry"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// app is the whole program, wired from the settings.
type app struct {
	cfg    *config.Config
	log    *zap.Logger
	trail  *audit.Trail
	vault  *vaultx.Client
	authn  *auth.Authenticator
	runner *tools.Runner
	events *events.Bus
	server *server.Server
	tls    bool // the server listens with TLS
	close  []func() error
}

// open wires the program. It needs no network: a Vault that is down shows in
// /readyz and in the calls. mode names the log file.
func (o *options) open(cfg *config.Config, mode string) (a *app, err error) {
	a = &app{cfg: cfg}
	defer func() {
		if err != nil {
			_ = a.Close()
		}
	}()
	tuneGC()
	if err := a.openLog(o.err, mode); err != nil {
		return a, err
	}
	for file, set := range serverKeys(cfg) { // all made at the first start, so that a backup has them
		if _, err := keyFor(set, cfg.State.Dir, file); err != nil {
			return a, fmt.Errorf("the server's keys: %w", err)
		}
	}
	if a.trail, err = openTrail(cfg, a.log); err != nil {
		return a, fmt.Errorf("the audit trail: %w", err)
	}
	a.close = append(a.close, a.trail.Close)
	keys, err := a.openUpstreams()
	if err != nil {
		return a, err
	}
	if a.authn, err = openAuth(cfg); err != nil {
		return a, usageError{err}
	}
	a.close = append(a.close, func() error { a.authn.Close(); return nil })
	for _, warning := range a.authn.Warnings() {
		a.log.Warn(warning)
	}
	sealer, err := openSealer(cfg)
	if err != nil {
		return a, fmt.Errorf("the server's keys: %w", err)
	}
	limiter, err := openLimiter(context.Background(), cfg, a.log)
	if err != nil {
		return a, usageError{err}
	}
	a.close = append(a.close, func() error { limiter.Close(); return nil })
	if a.events, err = openEvents(context.Background(), cfg, a.log); err != nil {
		return a, usageError{err}
	}
	a.close = append(a.close, func() error { a.events.Close(); return nil })
	a.runner, err = tools.NewRunner(theCatalog(), a.vault, a.trail, limiter, sealer, a.log, tools.Options{
		ReadOnly: cfg.Tools.ReadOnly, Sets: cfg.Tools.Sets, Exclude: cfg.Tools.Exclude,
		CallTimeout: cfg.Calls.Timeout, WrapTTLMax: cfg.Calls.WrapTTLMax, KMS: keys, ChildPolicy: childPolicy(cfg),
		Prefix: cfg.Auth.DefaultPrefix, Events: a.events,
	})
	if err != nil {
		return a, usageError{err}
	}
	if a.server, err = a.openServer(limiter, mode); err != nil {
		return a, usageError{err}
	}
	return a, nil
}

// openLog opens the log, and says in it what an operator should know first.
func (a *app) openLog(stderr io.Writer, mode string) error {
	logger, closeLog, err := telemetry.NewLogger(telemetry.LogOptions{
		Level: a.cfg.Log.Level, Format: a.cfg.Log.Format, Dir: a.cfg.Log.Dir, Name: "vault-mcp-" + mode, Stderr: stderr,
	})
	if err != nil {
		return err
	}
	a.log, a.close = logger, append(a.close, closeLog)
	for _, warning := range a.cfg.Warnings() {
		a.log.Warn(warning)
	}
	if os.Getenv("MCPGODEBUG") != "" {
		a.log.Warn("MCPGODEBUG is set: it can bring back unsafe behaviour of the MCP SDK; unset it in production")
	}
	return nil
}

// openUpstreams makes the clients of Vault, with its child tokens, and of AWS KMS,
// which is nil where that is not enabled.
func (a *app) openUpstreams() (keys *kmsx.Client, err error) {
	if a.vault, err = openVault(a.cfg, a.log); err != nil {
		return nil, usageError{err}
	}
	a.close = append(a.close, func() error { a.vault.Close(); return nil })
	a.vault.Start()
	if err := a.startChildren(); err != nil {
		return nil, fmt.Errorf("child tokens: %w", err)
	}
	if keys, err = openKMS(a.cfg); err != nil {
		return nil, usageError{err}
	}
	if keys != nil {
		a.close = append(a.close, func() error { keys.Close(); return nil })
		a.log.Info("AWS KMS is enabled", zap.String("region", keys.Region()), zap.String("endpoint", cmp.Or(a.cfg.KMS.Endpoint, "AWS's own")))
	}
	return keys, nil
}

// watched logs a check of readiness when what it finds changes. Anybody may ask
// /readyz, so it tells no more than a kind of fault; the operator reads here
// what is the matter, also when nobody calls.
func (a *app) watched(name string, check func(context.Context) error) func(context.Context) error {
	var mu sync.Mutex
	was := ""
	return func(ctx context.Context) error {
		err := check(ctx)
		is, how := "", "not ready"
		if err != nil {
			is = fault.From(err).Msg
		}
		if fault.IsDegraded(err) {
			how = "degraded"
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case is == was:
		case is != "":
			a.log.Warn(how, zap.String("check", name), zap.String("detail", is))
		default:
			a.log.Info("ready again", zap.String("check", name))
		}
		was = is
		return err
	}
}

// run serves until the first signal, and closes what open made.
func (a *app) run(serve func(ctx context.Context) error) error {
	err := runUntilSignal(serve)
	var wrongUse usageError
	if err != nil && !errors.As(err, &wrongUse) {
		a.log.Error("ended", zap.Error(err))
		err = toldError{err}
	}
	if closing := a.Close(); closing != nil {
		return closing
	}
	return err
}

// Close ends what open made, last first.
func (a *app) Close() error {
	var errs []error
	for i := len(a.close) - 1; i >= 0; i-- {
		errs = append(errs, a.close[i]())
	}
	return errors.Join(errs...)
}

// tuneGC trades memory for time: a call through the MCP SDK makes much garbage
// that is dead at once. GOGC in the environment wins.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// The server's own keys, in the state folder.
const sealKeyFile = "seal.key"

// serverKeys are the server's own keys by file, with the settings that replace
// them.
func serverKeys(cfg *config.Config) map[string]secret.Text {
	return map[string]secret.Text{auditKeyFile: cfg.State.AuditKey, sealKeyFile: cfg.State.SealKey}
}

// openSealer makes what seals the handles that travel through clients.
func openSealer(cfg *config.Config) (*auth.Sealer, error) {
	key, err := keyFor(cfg.State.SealKey, cfg.State.Dir, sealKeyFile)
	if err != nil {
		return nil, err
	}
	return auth.NewSealer(key)
}

// keyFor is a key of the server: from its setting, or made once in the state
// folder. Replicas share keys by setting them.
func keyFor(set secret.Text, stateDir, file string) ([]byte, error) {
	if !set.IsZero() {
		return secret.ParseKey(set)
	}
	return secret.LoadOrCreateKey(filepath.Join(stateDir, file))
}

// runUntilSignal gives run a context that ends on the first SIGINT or SIGTERM;
// the second one ends the process at once.
func runUntilSignal(run func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for range 2 {
			select {
			case <-done:
				return
			case <-signals:
			}
			if ctx.Err() != nil {
				os.Exit(exitFailure)
			}
			cancel()
		}
	}()
	return run(ctx)
}
