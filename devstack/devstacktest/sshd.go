package devstacktest

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"vault-mcp/devstack"
)

// SSHMount is where MountSSH has its engine.
const SSHMount = "ssh"

// MountSSH gives a Vault the SSH engine with a signing key, unless it has it
// already, and returns the public part, for TrustedUserCAKeys. Tests make roles
// with names of their own.
func MountSSH(tb testing.TB, v *devstack.Vault) string {
	tb.Helper()
	ctx := context.Background()
	var status *devstack.StatusError
	err := v.Request(ctx, http.MethodPost, "sys/mounts/"+SSHMount, map[string]any{"type": "ssh"}, nil)
	if errors.As(err, &status) && status.Status == http.StatusBadRequest {
		err = nil // it is there; what follows fails if it is another engine
	}
	require.NoError(tb, err)
	var ca struct {
		Data struct {
			PublicKey string `json:"public_key"`
		} `json:"data"`
	}
	path := SSHMount + "/config/ca"
	if v.Request(ctx, http.MethodGet, path, nil, &ca) != nil {
		require.NoError(tb, v.Request(ctx, http.MethodPost, path, map[string]any{"generate_signing_key": true, "key_type": "ed25519"}, nil))
		require.NoError(tb, v.Request(ctx, http.MethodGet, path, nil, &ca))
	}
	require.NotEmpty(tb, ca.Data.PublicKey)
	return ca.Data.PublicKey
}

// SSHD is a real OpenSSH server on loopback. It lets in User, by a certificate
// of the authority that it trusts with User among its principals, and in no
// other way.
type SSHD struct {
	Host    string
	Port    int
	User    string        // who runs the tests
	HostKey ssh.PublicKey // by which it is known
}

// StartSSHD starts a server that ends with the test, and trusts the authority
// whose public key is given as one line. What it has said is logged if the test
// fails.
func StartSSHD(tb testing.TB, authority string) *SSHD {
	tb.Helper()
	bin := sshdBinary(tb)
	me, err := user.Current()
	require.NoError(tb, err)
	if me.Uid == "0" {
		// It drops its rights there; a machine that never ran it as a service
		// has no such folder.
		require.NoError(tb, os.MkdirAll("/run/sshd", 0o755))
	}
	dir := tb.TempDir()
	s := &SSHD{Host: "127.0.0.1", User: me.Username}
	s.HostKey = writeHostKey(tb, filepath.Join(dir, "host"))
	require.NoError(tb, os.WriteFile(filepath.Join(dir, "ca.pub"), []byte(authority), 0o600))
	for attempt := 1; ; attempt++ {
		if s.Port, err = freePort(); err == nil {
			err = s.start(tb, bin, dir)
		}
		if err == nil {
			return s
		}
		require.Less(tb, attempt, 5, "%v", err)
	}
}

func sshdBinary(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if path, err := exec.LookPath(name); err == nil {
			path, err = filepath.Abs(path) // it starts itself anew, and wants to know where it is
			require.NoError(tb, err)
			return path
		}
	}
	Cannot(tb, "there is no sshd: apt-get install openssh-server")
	return ""
}

func writeHostKey(tb testing.TB, path string) ssh.PublicKey {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(tb, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(tb, err)
	require.NoError(tb, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	key, err := ssh.NewPublicKey(public)
	require.NoError(tb, err)
	return key
}

// config is all of the server's settings: nothing of the machine's own is read.
func (s *SSHD) config(dir string) string {
	return strings.Join([]string{
		"ListenAddress " + s.Addr(),
		"HostKey " + filepath.Join(dir, "host"),
		"TrustedUserCAKeys " + filepath.Join(dir, "ca.pub"),
		"AuthenticationMethods publickey",
		"AuthorizedKeysFile none",
		"UsePAM no", "StrictModes no", "PidFile none", "LogLevel VERBOSE", "UseDNS no",
		"PermitRootLogin prohibit-password", "AllowUsers " + s.User, "",
	}, "\n")
}

// start starts the server below a shell that ends it when its input does, which
// is also when the test's process is killed.
func (s *SSHD) start(tb testing.TB, bin, dir string) error {
	tb.Helper()
	config, log := filepath.Join(dir, "config"), filepath.Join(dir, "log")
	// Newer servers turn away an address after failed logins, which tests make.
	lenient := s.config(dir) + "PerSourcePenalties no\n"
	require.NoError(tb, os.WriteFile(config, []byte(lenient), 0o600))
	if exec.Command(bin, "-t", "-f", config).Run() != nil {
		require.NoError(tb, os.WriteFile(config, []byte(s.config(dir)), 0o600))
	}
	cmd := exec.Command("/bin/sh", "-c", `"$@" & read -r _; kill $!; wait`, "sh", bin, "-D", "-f", config, "-E", log)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	stop := func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
	if err := s.await(tb); err != nil {
		stop()
		said, _ := os.ReadFile(log)
		return fmt.Errorf("%w; sshd said:\n%s", err, said)
	}
	tb.Cleanup(func() {
		stop()
		if tb.Failed() {
			said, _ := os.ReadFile(log)
			tb.Logf("sshd said last:\n%s", said[max(0, len(said)-8192):])
		}
	})
	return nil
}

// await returns when the server greets.
func (s *SSHD) await(tb testing.TB) error {
	tb.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", s.Addr(), time.Second); err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		greeting, readErr := bufio.NewReader(conn).ReadString('\n')
		_ = conn.Close()
		if err = readErr; err == nil && strings.HasPrefix(greeting, "SSH-2.0-OpenSSH") {
			return nil
		}
	}
	return fmt.Errorf("sshd does not greet: %w", err)
}

// Addr is where it listens.
func (s *SSHD) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Login runs a command on the server by the `ssh` client, as User, with a
// private key and the certificate for it, and returns what the command and the
// client printed.
func (s *SSHD) Login(tb testing.TB, private ed25519.PrivateKey, certificate, command string) (string, error) {
	tb.Helper()
	client, err := exec.LookPath("ssh")
	if err != nil {
		Cannot(tb, "there is no ssh: apt-get install openssh-client")
	}
	dir := tb.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(tb, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(tb, err)
	known := fmt.Sprintf("[%s]:%d %s", s.Host, s.Port, ssh.MarshalAuthorizedKey(s.HostKey))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, client, "-F", "none", "-T", "-p", strconv.Itoa(s.Port),
		"-i", file("id", string(pem.EncodeToMemory(block))), "-o", "CertificateFile="+file("id-cert.pub", certificate+"\n"),
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile="+file("known_hosts", known), "-o", "GlobalKnownHostsFile=none",
		s.User+"@"+s.Host, command)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// freePort returns a port of loopback on which nobody listens now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
