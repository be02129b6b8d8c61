package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// progressEvery is how often a build, or the wait for one, says so.
const progressEvery = 15 * time.Second

func (p *part) builtPath(root string) string { return filepath.Join(root, "bin", builtFolder, p.name) }

// built returns the checkout's own binary if it is there, runs, and is of the
// version that the checkout asks for.
func (p *part) built(ctx context.Context, root string) (string, bool) {
	path := p.builtPath(root)
	if _, err := os.Stat(path); err != nil {
		return "", false
	}
	mod, err := os.ReadFile(pins(root))
	if err != nil {
		return "", false
	}
	version, err := p.version(ctx, path)
	if err != nil {
		return "", false
	}
	want, ok := p.pinned(mod)
	return path, ok && want == strings.TrimPrefix(version, "v")
}

// build builds the checkout's binary. Any number of processes may call it at
// once: one builds, the others wait for it.
func (p *part) build(ctx context.Context, root string, log func(string)) (string, error) {
	goBin, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("%w (Go is not on PATH)", p.missing)
	}
	target := p.builtPath(root)
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	lock, err := lockFile(ctx, filepath.Join(dir, "."+p.name+".lock"), progressEvery, func(waited time.Duration) {
		log(fmt.Sprintf("another process is building %s; waiting for it (%s so far)", p.title, waited.Round(time.Second)))
	})
	if err != nil {
		return "", fmt.Errorf("waiting for the build of %s: %w", p.title, err)
	}
	defer func() { _ = lock.Close() }()
	if path, ok := p.built(ctx, root); ok { // by the process that had the lock
		return path, nil
	}
	log(fmt.Sprintf("building %s into %s: once, %s", p.title, dir, p.takes))
	start := time.Now()
	made := filepath.Join(dir, fmt.Sprintf(".%s-%d", p.name, os.Getpid()))
	defer func() { _ = os.Remove(made) }()
	if err := p.compile(ctx, goBin, filepath.Dir(pins(root)), made, lock, log); err != nil {
		return "", fmt.Errorf("building %s: %w", p.title, err)
	}
	if _, err := p.version(ctx, made); err != nil {
		return "", fmt.Errorf("%s, just built: %w", p.title, err)
	}
	if err := os.Rename(made, target); err != nil {
		return "", err
	}
	log(fmt.Sprintf("%s is built (%s)", p.title, time.Since(start).Round(time.Second)))
	return target, nil
}

// compile runs the Go build. The compiler holds the lock as well, so that if
// this process is killed, the next one waits for what is still compiling, and
// finds it in Go's cache, rather than compile the same beside it.
func (p *part) compile(ctx context.Context, goBin, module, target string, lock *os.File, log func(string)) error {
	out := &tail{max: 4 << 10}
	cmd := exec.CommandContext(ctx, goBin, "build", "-tags", "minimal", "-trimpath",
		"-ldflags", "-s -w", "-o", target, p.pkg)
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
		log(fmt.Sprintf("still building %s (%s so far)", p.title, elapsed.Round(time.Second)))
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
