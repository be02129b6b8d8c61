package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// vaultPackage is what is built, at the version that pins says.
const vaultPackage = "github.com/hashicorp/vault"

// progressEvery is how often a build, or the wait for one, says so.
const progressEvery = 15 * time.Second

var pinnedVersion = regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(vaultPackage) + ` v(\S+)`)

func builtPath(root string) string { return filepath.Join(root, "bin", builtFolder, "vault") }

// built returns the checkout's own Vault if it is there, runs, and is of the
// version that the checkout asks for.
func built(ctx context.Context, root string) (string, bool) {
	path := builtPath(root)
	if _, err := os.Stat(path); err != nil {
		return "", false
	}
	b, err := os.ReadFile(pins(root))
	if err != nil {
		return "", false
	}
	version, err := probe(ctx, path)
	if err != nil {
		return "", false
	}
	want := pinnedVersion.FindSubmatch(b)
	return path, want != nil && string(want[1]) == version
}

// build builds the checkout's Vault. Any number of processes may call it at
// once: one builds, the others wait for it.
func build(ctx context.Context, root string, log func(string)) (string, error) {
	goBin, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("%w (Go is not on PATH)", ErrNoVault)
	}
	target := builtPath(root)
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	lock, err := lockFile(ctx, filepath.Join(dir, ".lock"), progressEvery, func(waited time.Duration) {
		log(fmt.Sprintf("another process is building Vault; waiting for it (%s so far)", waited.Round(time.Second)))
	})
	if err != nil {
		return "", fmt.Errorf("waiting for the build of Vault: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if path, ok := built(ctx, root); ok { // by the process that had the lock
		return path, nil
	}
	log(fmt.Sprintf("building Vault into %s: once, about 5 to 10 minutes on two cores", dir))
	start := time.Now()
	made := filepath.Join(dir, fmt.Sprintf(".vault-%d", os.Getpid()))
	defer func() { _ = os.Remove(made) }()
	if err := compile(ctx, goBin, filepath.Dir(pins(root)), made, lock, log); err != nil {
		return "", fmt.Errorf("building Vault: %w", err)
	}
	if _, err := probe(ctx, made); err != nil {
		return "", fmt.Errorf("the Vault just built: %w", err)
	}
	if err := os.Rename(made, target); err != nil {
		return "", err
	}
	log(fmt.Sprintf("Vault is built (%s)", time.Since(start).Round(time.Second)))
	return target, nil
}

// compile runs the Go build. The compiler holds the lock as well, so that if
// this process is killed, the next one waits for what is still compiling, and
// finds it in Go's cache, rather than compile the same beside it.
func compile(ctx context.Context, goBin, module, target string, lock *os.File, log func(string)) error {
	out := &tail{max: 4 << 10}
	cmd := exec.CommandContext(ctx, goBin, "build", "-tags", "minimal", "-trimpath",
		"-ldflags", "-s -w", "-o", target, vaultPackage)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{lock}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // lets it remove its temporary files
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	err := report(done, progressEvery, func(elapsed time.Duration) {
		log(fmt.Sprintf("still building Vault (%s so far)", elapsed.Round(time.Second)))
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return errors.Join(err, errors.New(out.String()))
	}
	return nil
}

// report waits for done and tells how long it has taken so far at every
// interval.
func report(done <-chan error, interval time.Duration, tell func(time.Duration)) error {
	start := time.Now()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			tell(time.Since(start))
		}
	}
}
