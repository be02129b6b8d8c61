package devstack_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// roleEnv makes the test binary play another process.
const roleEnv = "DEVSTACK_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(devstacktest.Main(m))
	case "vault": // starts one and waits to be killed
		v, err := devstack.Start(context.Background(), devstack.Options{Bin: os.Getenv("DEVSTACK_TEST_BIN")})
		orEnd(err)
		fmt.Println(v.Pid(), v.Addr)
		time.Sleep(time.Hour)
	case "postgres": // likewise
		p, err := devstack.StartPostgres(context.Background(), devstack.PostgresOptions{})
		orEnd(err)
		fmt.Printf("%d http://127.0.0.1:%d\n", p.Pid(), p.Port)
		time.Sleep(time.Hour)
	case "finder": // prints what Find finds from another place on the disk
		path, err := devstack.Find(context.Background(), func(line string) { fmt.Fprintln(os.Stderr, line) })
		orEnd(err)
		fmt.Println(path)
	}
}

// orEnd ends this process with an error, if there is one.
func orEnd(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// script writes an executable shell script.
func script(t *testing.T, path, body string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700))
	return path
}

// eventually waits for what another process does; it is generous, as nothing is
// measured.
func eventually(t *testing.T, done func() bool, what string) {
	t.Helper()
	require.Eventually(t, done, 30*time.Second, 50*time.Millisecond, what)
}

// closed reports whether nobody listens at the address.
func closed(addr string) bool {
	u, err := url.Parse(addr)
	if err != nil {
		return false
	}
	c, err := net.Dial("tcp", u.Host)
	if err == nil {
		_ = c.Close()
	}
	return err != nil
}

// gone reports whether a process has ended. In a container whose first process
// does not collect orphans, an ended one stays as a zombie.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// readPid waits for a process id that a script writes.
func readPid(t *testing.T, path string) int {
	t.Helper()
	var pid int
	eventually(t, func() bool {
		b, err := os.ReadFile(path)
		if err == nil && strings.HasSuffix(string(b), "\n") {
			pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err == nil && pid > 0
	}, "the script did not start")
	return pid
}
