// Package devstack finds or builds, starts, seeds and stops the real servers
// that vault-mcp is developed and tested against: for `vault-mcp dev` and for
// tests alike, by the same code.
//
// Start gives one Vault of its own on a free port of 127.0.0.1. Without further
// options it runs in dev mode: in memory, unsealed, KV version 2 at secret/,
// ready in under a second. With Options.File it keeps its data, so that it can
// be killed and started again; with Options.TLS it also speaks TLS, with a
// certificate authority of its own.
//
// A Vault ends with its owner, also when the owner is killed: see process. It
// is not embedded: the binary is found or built by Find.
//
// StartPostgres and StartKMS give a PostgreSQL and a local-kms, which plays AWS
// KMS, in the same way. SeedTransit, SeedSSH and SeedDatabase mount the engines of a
// Vault and put demo keys and roles into them, whose names are constants here.
//
// StartStack gives what `vault-mcp dev` needs: all of it with demo secrets, or as
// much as can be had.
package devstack

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"vault-mcp/secret"
)

// Mount is where a started Vault has its KV version 2 engine.
const Mount = "secret"

// Bounds of a start and a stop.
const (
	startTimeout = 60 * time.Second      // a loaded machine; alone it takes less than a second
	stopGrace    = 5 * time.Second       // from SIGTERM to SIGKILL
	pollEvery    = 20 * time.Millisecond // while waiting for readiness
	portAttempts = 5                     // a free port may be taken before Vault binds it
)

// Options says what Vault to start. The zero Options give one in dev mode.
type Options struct {
	Bin string       // the binary; empty: what Find finds
	Log func(string) // hears what takes long, such as a build; nil: nobody does

	File              bool // keep data and root token over Kill and Restart
	TLS               bool // serve TLS only; implies File
	RequireClientCert bool // with TLS: refuse clients without a certificate of CACert

	// The binary of the plugin for PostgreSQL, which a minimal Vault has not within
	// itself; empty: none.
	PostgresPlugin string
}

// Vault is a running server. Its exported fields change only in Restart, which
// must therefore not run beside their readers.
type Vault struct {
	Addr      string // for VAULT_ADDR
	RootToken secret.Text
	Version   string // as sys/health says it

	// With Options.TLS: files for VAULT_CACERT, VAULT_CLIENT_CERT and
	// VAULT_CLIENT_KEY.
	CACert, ClientCert, ClientKey string

	server
	opt       Options
	port      int         // the next one is for cluster traffic, also in dev mode
	nonce     string      // sent back by a Vault of ours, see answers
	unsealKey secret.Text // with Options.File, after the first start
	http      *http.Client
}

// Start starts a Vault and returns when it can be used. The context bounds the
// start alone; the server lives until Stop, or until this process ends.
func Start(ctx context.Context, opt Options) (*Vault, error) {
	if opt.Log == nil {
		opt.Log = func(string) {}
	}
	opt.File = opt.File || opt.TLS
	bin := opt.Bin
	if bin == "" {
		var err error
		if bin, err = Find(ctx, opt.Log); err != nil {
			return nil, err
		}
	}
	return attempts(func() (*Vault, error) { return launch(ctx, bin, opt) })
}

// launch starts a Vault on ports that are free now.
func launch(ctx context.Context, bin string, opt Options) (_ *Vault, err error) {
	v := &Vault{opt: opt, nonce: secret.RandomHex(32)}
	if err = v.settle(bin, ""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			v.Stop()
		}
	}()
	if v.port, err = freePorts(loopbackAddress); err != nil {
		return nil, err
	}
	transport := &http.Transport{} // no proxy from the environment
	v.http = &http.Client{Transport: transport, Timeout: requestTimeout}
	v.Addr = "http://" + v.listen()
	if opt.TLS {
		v.Addr = "https://" + v.listen()
		if transport.TLSClientConfig, err = v.makeCertificates(); err != nil {
			return nil, err
		}
	}
	if opt.PostgresPlugin != "" {
		if err := v.placePlugin(opt.PostgresPlugin); err != nil {
			return nil, err
		}
	}
	if opt.File {
		if err := v.writeConfig(); err != nil {
			return nil, err
		}
	}
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// run starts the process and waits until it can be used.
func (v *Vault) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	args := []string{"server", "-config=" + v.path("vault.hcl")}
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + v.dir, "TMPDIR=" + v.dir}
	if !v.opt.File {
		v.RootToken = secret.NewText(secret.RandomHex(32))
		args = []string{"server", "-dev", "-dev-no-store-token", "-dev-listen-address=" + v.listen()}
		if v.opt.PostgresPlugin != "" {
			args = append(args, "-dev-plugin-dir="+v.pluginFolder())
		}
		// By the environment, as other users can read a command line. OpenBao
		// has its own name for it.
		env = append(env, "VAULT_DEV_ROOT_TOKEN_ID="+v.RootToken.Reveal(), "BAO_DEV_ROOT_TOKEN_ID="+v.RootToken.Reveal())
	}
	if err := v.start(command{env: env, bin: v.bin, args: args}); err != nil {
		return err
	}
	if v.opt.File {
		if err := v.open(ctx); err != nil {
			return err
		}
	} else if err := v.await(ctx, v.Log, v.kvReady); err != nil { // that it takes our random token proves that it is ours
		return err
	}
	return v.active(ctx)
}

// Restart starts the server again on its port, ending it first where it still
// runs. With Options.File everything is kept and it comes back unsealed;
// otherwise it comes back empty, with a new root token.
func (v *Vault) Restart(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopped {
		return errors.New("the server was stopped for good")
	}
	v.end(func(p *process) {
		if v.opt.File {
			p.stop(stopGrace) // it has files to close
		} else {
			p.kill()
		}
	})
	v.idle()
	if err := v.run(ctx); err != nil {
		v.end((*process).kill)
		v.idle()
		return err
	}
	return nil
}

// Kill ends the server at once, as kill -9 does, and keeps what Restart needs.
func (v *Vault) Kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.end((*process).kill)
	v.idle()
}

// Stop ends the server for good and removes its files. It may be called twice.
func (v *Vault) Stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopForGood((*process).kill) // nothing is kept, and an orderly end takes half a second
	v.idle()
}

// idle closes the connections to a server that has ended.
func (v *Vault) idle() {
	if v.http != nil {
		v.http.CloseIdleConnections()
	}
}

// Log is the end of what the server has printed since it was last started,
// without its token and key.
func (v *Vault) Log() string {
	text := v.out.String()
	for _, s := range []secret.Text{v.RootToken, v.key()} {
		if !s.IsZero() {
			text = strings.ReplaceAll(text, s.Reveal(), secret.Redacted)
		}
	}
	return text
}

// key is the unseal key. In dev mode it is in the output alone, some time after
// the server has become ready.
func (v *Vault) key() secret.Text {
	if v.opt.File {
		return v.unsealKey
	}
	key, _ := v.out.after("Unseal Key: ")
	return secret.NewText(key)
}

func (v *Vault) listen() string { return loopback(v.port) }

const loopbackAddress = "127.0.0.1"

func loopback(port int) string { return net.JoinHostPort(loopbackAddress, strconv.Itoa(port)) }

// freePorts returns a port of an address that nobody has now, nor the next one. No
// address stands for all of them: of those, a connection from any has the port, too.
func freePorts(address string) (int, error) {
	for range 100 {
		first, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			return 0, err
		}
		port := first.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port+1)))
		_ = first.Close()
		if err == nil {
			return port, second.Close()
		}
	}
	return 0, errors.New("no two free ports in a row")
}
