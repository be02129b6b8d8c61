package main_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

var updateScripts = flag.Bool("update", false, "write the scripts' transcripts anew")

// TestScript runs the scripts of testdata/script: the command line as people
// and other programs see it, and raw JSON-RPC sessions. Each script has a folder
// and a state folder of its own; all share one Vault. `vault-mcp` is on PATH.
//
// Besides testscript's own commands there are
//
//	exits CODE PROGRAM [ARG...]  run a program; it ends with this exit code
//	serve NAME PROGRAM [ARG...]  start a program; its output goes to NAME.out and NAME.err
//	[!] finish NAME              end it by SIGTERM; it succeeds (or fails)
//	take VAR REGEXP FILE         wait until a file, or stdout, matches; VAR is the first group
//	mode OCTAL FILE              the file has this mode
//	[!] listens HOST:PORT        somebody takes connections there
//	rotate FILE                  write a trail that has rotated some times
//	chat, web                    play a transcript; see script_play_test.go
//
// and the condition [local-kms], that there is one for LOCAL_KMS_BIN.
//
// With -update, transcripts and other files with which cmp finds a difference are
// written anew.
func TestScript(t *testing.T) {
	v := devstacktest.Shared(t)
	bin, err := devstack.Find(t.Context(), nil)
	require.NoError(t, err)
	token, err := v.CreateToken(t.Context(), scriptPolicy())
	require.NoError(t, err)
	kms, err := devstack.FindLocalKMS(t.Context(), nil)
	if !errors.Is(err, devstack.ErrNoLocalKMS) {
		require.NoError(t, err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		UpdateScripts:       *updateScripts,
		Setup: func(env *testscript.Env) error {
			env.Values[processes{}] = map[string]*exec.Cmd{}
			for name, value := range map[string]string{
				"PATH":       filepath.Dir(binary) + string(filepath.ListSeparator) + os.Getenv("PATH"),
				"HOME":       filepath.Join(env.WorkDir, "home"),
				"STATE_DIR":  filepath.Join(env.WorkDir, "state"),
				"VAULT_ADDR": v.Addr, "VAULT_TOKEN": token.Reveal(), "OPERATOR_TOKEN": v.RootToken.Reveal(), "VAULT_BIN": bin, "LOCAL_KMS_BIN": kms,
				"API_KEYS_JSON":       apiKeys,
				"DEFAULT_PREFIX":      path.Join("scripts", filepath.Base(filepath.Dir(env.WorkDir)), filepath.Base(env.WorkDir)), // of this run
				"RATE_LIMIT_REQUESTS": "10000",
			} {
				env.Setenv(name, value)
			}
			return os.Mkdir(env.Getenv("HOME"), 0o700)
		},
		Condition: func(name string) (bool, error) {
			if name != "local-kms" {
				return false, fmt.Errorf("no such condition: %s", name)
			}
			return kms != "", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "serve": scriptServe, "finish": scriptFinish, "take": scriptTake,
			"mode": scriptMode, "listens": scriptListens, "rotate": scriptRotate, "chat": scriptChat, "web": scriptWeb,
		},
	})
}

// scriptPolicy is what a server needs of Vault, below the prefix of all scripts.
func scriptPolicy() string {
	all := &auth.Principal{Prefix: "scripts", Grants: auth.Grants{"transit": {"*"}, "database": {"*"}, "ssh": {"*"}}}
	mounts := vaultx.Mounts{KV: "secret", Transit: "transit", Database: "database", SSH: "ssh"}
	return tools.PolicyHCL(tools.NewCatalog(), mounts, all) + `
path "sys/capabilities-self"  { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
`
}

// processes is the key of what a script has started and not stopped.
type processes struct{}

func started(ts *testscript.TestScript) map[string]*exec.Cmd {
	return ts.Value(processes{}).(map[string]*exec.Cmd)
}

// patience is how long scripts wait for what happens soon.
const patience = 20 * time.Second

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("the exit code is %d, want %d", code, want)
	}
}

// environ is the script's environment, as far as the product looks at it.
func environ(ts *testscript.TestScript) []string {
	names := []string{"PATH", "HOME", "TMPDIR", "XDG_STATE_HOME", "VAULT_BIN", "LOCAL_KMS_BIN", "APP_CONFIG_FILE", "API_KEYS_FILE"}
	for _, s := range config.Reference() {
		names = append(names, s.Env, s.Env+"_FILE")
	}
	var env []string
	for _, name := range names {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// program is a command in the script's folder and environment.
func program(ts *testscript.TestScript, args []string) *exec.Cmd {
	name := args[0]
	if name == "vault-mcp" {
		name = binary
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), environ(ts)
	return cmd
}

func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serve NAME PROGRAM [ARG...]")
	}
	name := args[0]
	if started(ts)[name] != nil {
		ts.Fatalf("%s runs already", name)
	}
	cmd := program(ts, args[1:])
	out, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	errOut, err := os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = out, errOut
	err = cmd.Start()
	ts.Check(errors.Join(err, out.Close(), errOut.Close()))
	started(ts)[name] = cmd
	ts.Defer(func() { // where the script failed before it came to finish
		if started(ts)[name] == cmd {
			_ = end(cmd)
		}
	})
}

func scriptFinish(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || started(ts)[args[0]] == nil {
		ts.Fatalf("usage: [!] finish NAME, of what was started by serve")
	}
	cmd := started(ts)[args[0]]
	delete(started(ts), args[0])
	if err := end(cmd); (err != nil) != neg {
		ts.Fatalf("%s ended with %v\n%s", args[0], err, ts.ReadFile(args[0]+".err"))
	}
}

// end asks a process to end, and waits for it.
func end(cmd *exec.Cmd) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	return cmd.Wait()
}

func scriptTake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: take VAR REGEXP FILE")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	for until := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		text := ts.ReadFile(args[2])
		if m := re.FindStringSubmatch(text); m != nil {
			ts.Setenv(args[0], m[len(m)-1])
			return
		}
		if args[2] == "stdout" || args[2] == "stderr" || time.Now().After(until) {
			ts.Fatalf("%s does not match %s:\n%s", args[2], args[1], text)
		}
	}
}

func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode OCTAL FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("the mode of %s is %s, want %s", args[1], got, args[0])
	}
}

func scriptListens(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] listens HOST:PORT")
	}
	conn, err := net.DialTimeout("tcp", args[0], patience)
	if err == nil {
		_ = conn.Close()
	}
	if (err == nil) == neg {
		ts.Fatalf("a connection to %s: %v", args[0], err)
	}
}

// scriptRotate writes a trail with the key of the script's state folder. By its
// own means the product rotates only after 64 MiB.
func scriptRotate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: rotate FILE")
	}
	key, err := secret.LoadKey(filepath.Join(ts.Getenv("STATE_DIR"), "audit.key"))
	ts.Check(err)
	trail, err := audit.Open(audit.Options{Path: ts.MkAbs(args[0]), Key: key, MaxBytes: 4 << 10})
	ts.Check(err)
	for range 40 {
		ts.Check(trail.Append(audit.Record{Kind: audit.Reject, Subject: "script", Outcome: "invalid", Detail: "a record among others"}))
	}
	ts.Check(trail.Close())
}
