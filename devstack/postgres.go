package devstack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"vault-mcp/secret"
)

// The demo database and its tables, of which the demo roles may use the first.
const (
	DemoDatabase   = "demo"
	DemoTable      = "inventory"  // id, item, quantity; three rows
	OffLimitsTable = "off_limits" // id, note; one row
)

// superuser is the name of the role that owns the cluster.
const superuser = "devstack"

// queryTimeout bounds what we ourselves ask the server.
const queryTimeout = 30 * time.Second

//go:embed demo.sql
var demoSQL string

// Postgres is a private PostgreSQL cluster with the demo database.
type Postgres struct {
	Host     string // an address of the loopback
	Port     int
	User     string // the superuser
	Password secret.Text

	server
	bins string // where initdb, postgres and psql are
	as   *account
}

// PostgresOptions says how a PostgreSQL is started. The zero PostgresOptions
// will do.
type PostgresOptions struct {
	Bins string // the folder of initdb, postgres and psql; empty: what FindPostgres finds
}

// StartPostgres makes a cluster with the demo database and starts it on a free
// port of 127.0.0.1. As with Start, the context bounds the start alone. A server
// started by root runs as the user postgres, since PostgreSQL refuses to run as root.
func StartPostgres(ctx context.Context, opt PostgresOptions) (*Postgres, error) {
	bins := opt.Bins
	if bins == "" {
		var err error
		if bins, err = FindPostgres(); err != nil {
			return nil, err
		}
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	return attempts(func() (*Postgres, error) { return launchPostgres(ctx, bins, as) })
}

func launchPostgres(ctx context.Context, bins string, as *account) (_ *Postgres, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p := &Postgres{Host: "127.0.0.1", User: superuser, Password: secret.NewText(secret.RandomHex(32)), bins: bins, as: as}
	if err := p.settle(bins+"/postgres", as.temporary()); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.Stop()
		}
	}()
	if p.Port, err = freePorts(loopbackAddress); err != nil {
		return nil, err
	}
	if err := p.makeCluster(ctx); err != nil {
		return nil, err
	}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	if _, err := p.psql(ctx, "postgres", demoSQL); err != nil {
		return nil, err
	}
	return p, nil
}

// makeCluster makes the cluster's files, owned by whom the server runs as.
func (p *Postgres) makeCluster(ctx context.Context) error {
	file := p.path("password")
	if err := os.WriteFile(file, []byte(p.Password.Reveal()), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }() // with the folder, if not now
	if p.as != nil {
		if err := errors.Join(p.as.own(file), p.as.own(p.dir)); err != nil {
			return err
		}
	}
	// A server too, as far as its end with its owner goes.
	err := p.start(command{bin: p.bins + "/initdb", env: p.env(), user: p.as, args: []string{
		"--pgdata=" + p.path("data"), "--username=" + p.User, "--pwfile=" + file,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
	}})
	if err != nil {
		return err
	}
	select {
	case <-p.proc.done:
	case <-ctx.Done():
		p.end((*process).kill)
		return fmt.Errorf("initdb: %w", context.Cause(ctx))
	}
	if !p.proc.succeeded() {
		return fmt.Errorf("%s/initdb failed; its last words:\n%s", p.bins, lastLines(p.Log()))
	}
	return nil
}

// run starts the server and waits until it can be used.
func (p *Postgres) run(ctx context.Context) error {
	args := []string{"-D", p.path("data")}
	for _, setting := range []string{
		"listen_addresses=" + p.Host, "port=" + strconv.Itoa(p.Port), "unix_socket_directories=",
		"fsync=off", "shared_buffers=16MB", "dynamic_shared_memory_type=mmap",
		"logging_collector=off", "log_destination=stderr", "lc_messages=C",
		"log_min_error_statement=panic", // a statement may contain a password
	} {
		args = append(args, "-c", setting)
	}
	err := p.start(command{bin: p.bin, args: args, env: p.env(), user: p.as, cleansUp: true})
	if err != nil {
		return err
	}
	// It says so only after it has bound the port, so nobody else's server is meant.
	return p.await(ctx, p.Log, func(context.Context) error {
		if !strings.Contains(p.out.String(), "ready to accept connections") {
			return errors.New("it does not accept connections yet")
		}
		return nil
	})
}

func (p *Postgres) env() []string {
	return []string{"PATH=/usr/bin:/bin", "HOME=" + p.dir, "TMPDIR=" + p.dir, "LC_ALL=C"}
}

// Exec executes statements in the demo database as the superuser and returns
// the rows, one a line, their fields separated by "|".
func (p *Postgres) Exec(ctx context.Context, sql string) (string, error) {
	return p.psql(ctx, DemoDatabase, sql)
}

func (p *Postgres) psql(ctx context.Context, database, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	out, errs := &tail{max: logKept}, &tail{max: 4 << 10}
	cmd := exec.CommandContext(ctx, p.bins+"/psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
		"--set=ON_ERROR_STOP=1", "--host="+p.Host, "--port="+strconv.Itoa(p.Port), "--username="+p.User,
		"--no-password", "--dbname="+database)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = append(p.env(), "PGPASSWORD="+p.Password.Reveal()), p.dir, asUser(p.as)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(sql), out, errs
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, errs)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// DSN is how a user connects to the demo database, as a URL.
func (p *Postgres) DSN(user string, password secret.Text) secret.Text {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password.Reveal()), Host: loopback(p.Port),
		Path: DemoDatabase, RawQuery: "sslmode=disable",
	}
	return secret.NewText(u.String())
}

// Kill ends the server as a crash does. Restart recovers what was committed.
func (p *Postgres) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(quit)
}

// Restart starts the server again on its port, with its data, ending it first
// where it still runs.
func (p *Postgres) Restart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errors.New("the server was stopped for good")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p.end(quit)
	if err := p.run(ctx); err != nil {
		p.end(quit)
		return err
	}
	return nil
}

// Stop ends the server for good and removes its files. It may be called twice.
func (p *Postgres) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopForGood(quit)
}

// quit lets the server free the shared memory that it has of the system.
func quit(p *process) { p.quit(stopGrace) }

// Log is the end of what the server has printed since it was last started.
func (p *Postgres) Log() string {
	return strings.ReplaceAll(p.out.String(), p.Password.Reveal(), secret.Redacted)
}
