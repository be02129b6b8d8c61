package devstack

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"vault-mcp/secret"
)

// ErrNoRedis says that there is no Redis server, which is not built.
var ErrNoRedis = errors.New("no Redis server was found: install it (Debian and Ubuntu: `apt-get install redis-server`), " +
	"so that redis-server is on PATH")

// FindRedis returns the redis-server on PATH.
func FindRedis() (string, error) {
	path, err := lookPath("redis-server")
	if err != nil {
		return "", ErrNoRedis
	}
	return path, nil
}

// Redis is a private Redis that keeps nothing on disk: when it ends, what it
// held is lost.
type Redis struct {
	Password secret.Text
	CACert   string // file of the authority of its certificate, with RedisOptions.TLS

	server
	port  int
	trust *tls.Config // nil: without TLS
}

// RedisOptions says how a Redis is started. The zero RedisOptions will do.
type RedisOptions struct {
	Bin string // the binary; empty: what FindRedis finds
	TLS bool   // take TLS alone, with a certificate of an authority of its own
}

// StartRedis starts a Redis on a free port of 127.0.0.1. As with Start, the
// context bounds the start alone.
func StartRedis(ctx context.Context, opt RedisOptions) (*Redis, error) {
	if opt.Bin == "" {
		var err error
		if opt.Bin, err = FindRedis(); err != nil {
			return nil, err
		}
	}
	return attempts(func() (*Redis, error) { return launchRedis(ctx, opt) })
}

func launchRedis(ctx context.Context, opt RedisOptions) (_ *Redis, err error) {
	r := &Redis{Password: secret.NewText(secret.RandomHex(16))}
	if err := r.settle(opt.Bin, ""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Stop()
		}
	}()
	if r.port, err = freePorts(loopbackAddress); err != nil {
		return nil, err
	}
	if opt.TLS {
		if err := r.makeCertificate(); err != nil {
			return nil, err
		}
	}
	if err := r.writeConfig(); err != nil {
		return nil, err
	}
	if err := r.run(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// writeConfig writes all of its settings: the password has no place on a command
// line.
func (r *Redis) writeConfig() error {
	port := "port " + strconv.Itoa(r.port)
	if r.trust != nil {
		port = strings.Join([]string{
			"port 0", "tls-port " + strconv.Itoa(r.port), "tls-auth-clients no",
			"tls-cert-file " + r.path("server.pem"), "tls-key-file " + r.path("server-key.pem"), "tls-ca-cert-file " + r.CACert,
		}, "\n")
	}
	text := strings.Join([]string{
		"bind 127.0.0.1", port, "daemonize no", `save ""`, "appendonly no", "dir " + r.dir,
		"requirepass " + r.Password.Reveal(), "maxmemory 64mb", "",
	}, "\n")
	return os.WriteFile(r.path("redis.conf"), []byte(text), 0o600)
}

// makeCertificate makes an authority and the server's certificate of it.
func (r *Redis) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "devstack CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	own := &x509.Certificate{
		Subject: pkix.Name{CommonName: "devstack Redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	r.CACert = r.path("ca.pem")
	err = errors.Join(issue(r.CACert, "", ca, ca, key), issue(r.path("server.pem"), r.path("server-key.pem"), own, ca, key))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(r.CACert)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	r.trust = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return nil
}

// run starts the server and waits until it can be used.
func (r *Redis) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := r.start(command{bin: r.bin, args: []string{r.path("redis.conf")}, env: []string{
		"PATH=/usr/bin:/bin", "HOME=" + r.dir, "TMPDIR=" + r.dir, "LC_ALL=C",
	}})
	if err != nil {
		return err
	}
	// That it knows our random password proves that it is ours.
	return r.await(ctx, r.Log, func(ctx context.Context) error {
		_, err := r.Command(ctx, "PING")
		return err
	})
}

// Command does one command of a few plain words, and returns the first line of
// the answer.
func (r *Redis) Command(ctx context.Context, words string) (string, error) {
	var dial interface {
		DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	} = &net.Dialer{}
	if r.trust != nil {
		dial = &tls.Dialer{Config: r.trust}
	}
	conn, err := dial.DialContext(ctx, "tcp", loopback(r.port))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\n%s\r\n", r.Password.Reveal(), words); err != nil {
		return "", err
	}
	lines, line := bufio.NewReader(conn), ""
	for range 2 {
		if line, err = lines.ReadString('\n'); err != nil {
			return "", err
		}
		if strings.HasPrefix(line, "-") {
			return "", errors.New("it answers: " + strings.TrimSpace(line[1:]))
		}
	}
	return strings.TrimSpace(line), nil
}

// URL is for REDIS_URL.
func (r *Redis) URL() secret.Text {
	u := url.URL{Scheme: "redis", User: url.UserPassword("default", r.Password.Reveal()), Host: loopback(r.port), Path: "/0"}
	if r.trust != nil {
		u.Scheme = "rediss"
	}
	return secret.NewText(u.String())
}

// Addr is where it listens.
func (r *Redis) Addr() string { return loopback(r.port) }

// Kill ends the server at once, as kill -9 does.
func (r *Redis) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end((*process).kill)
}

// Restart starts the server again on its port, empty, ending it first where it
// still runs.
func (r *Redis) Restart(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return errors.New("the server was stopped for good")
	}
	r.end((*process).kill)
	if err := r.run(ctx); err != nil {
		r.end((*process).kill)
		return err
	}
	return nil
}

// Stop ends the server for good and removes its files. It may be called twice.
func (r *Redis) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopForGood((*process).kill) // it keeps nothing
}

// Log is the end of what the server has printed since it was last started.
func (r *Redis) Log() string { return r.out.String() }
