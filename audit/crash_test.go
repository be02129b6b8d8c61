//go:build linux

package audit_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

// child is what the test binary does as a process of its own.
func child(mode, path string) {
	say := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	if mode == "small disk" {
		say(syscall.Mount("audit-test", path, "tmpfs", 0, "size=1m"))
		path = filepath.Join(path, "trail.jsonl")
	}
	opt := audit.Options{Key: key(1), Path: path, MaxBytes: 16 << 10, CheckpointEvery: 50, SyncInterval: 5 * time.Millisecond}
	switch mode {
	case "folder":
		opt.Dir, opt.Path = path, ""
	case "size limit":
		opt.MaxBytes = 0 // what is limited is one file
	}
	trail, err := audit.Open(opt)
	say(err)
	switch mode {
	case "hold":
		fmt.Println("open")
		time.Sleep(time.Minute) // until it is killed
	case "folder":
		for i := range 300 {
			say(trail.Append(attempt(i)))
			say(trail.Append(outcome(i)))
		}
	case "endless":
		// Each worker says what was acknowledged to it, until the process is
		// killed.
		for w := range 4 {
			go func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
					say(trail.Append(attempt(id)))
					_, _ = os.Stdout.WriteString(id + "\n")
				}
			}()
		}
		select {}
	case "size limit":
		say(outOfSpace(trail, limitFileSize(path)))
	case "small disk":
		say(outOfSpace(trail, fillDisk(path)))
	}
	say(trail.Close())
}

// command is a child that is not started yet.
func command(mode, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+mode, childVar+"_PATH="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func start(t *testing.T, mode, path string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := command(mode, path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewReader(out)
}

// A process that is killed at any moment leaves a trail that verifies, in which
// everything stands that it was told is written, and the next one goes on.
func TestKilledAtAnyMoment(t *testing.T) {
	rounds := max(30/thin, 8)
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	acknowledged := map[string]bool{}
	for range rounds {
		cmd, out := start(t, "endless", path)
		first, err := out.ReadString('\n')
		require.NoError(t, err, first)
		time.AfterFunc(time.Duration(rand.IntN(40_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		_ = cmd.Wait() // killed
		require.NotContains(t, string(rest), "error:")
		text := first + string(rest)
		for id := range strings.Lines(text) {
			if strings.HasSuffix(id, "\n") {
				acknowledged[strings.TrimSpace(id)] = true
			}
		}
		r := verifyOK(t, path)
		require.False(t, r.Writing)
	}
	write(t, audit.Options{Path: path}, 1)
	r := verifyOK(t, path)
	require.Zero(t, r.Refused)
	require.EqualValues(t, rounds+1+r.Files-1, r.Kinds[audit.Opened])

	inTrail := map[string]bool{}
	for i, rec := range records(t, path) {
		require.EqualValues(t, i+1, rec.Seq)
		inTrail[rec.RequestID] = true
	}
	require.Greater(t, len(acknowledged), rounds)
	for id := range acknowledged {
		require.True(t, inTrail[id], id)
	}
}

func TestTornTailIsRepaired(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	trail := open(t, audit.Options{Path: path, SyncInterval: time.Hour})
	require.NoError(t, trail.Append(attempt(1)))
	path = copyChain(t, path) // as a crash leaves it
	whole := read(t, path)
	for _, torn := range []string{`{"v":1,"seq":3`, "x", strings.Repeat("z", 40<<10)} {
		put(t, path, whole+torn)
		r := verifyOK(t, path)
		require.Contains(t, notes(r), fmt.Sprintf("%d bytes of a partial record", len(torn)))
		write(t, audit.Options{Path: path}, 1)
		r = verifyOK(t, path)
		require.EqualValues(t, 1, r.Kinds[audit.Recovery])
		require.True(t, strings.HasPrefix(read(t, path), whole+torn+"!\n"), "what was torn is kept, and is no record")
		require.Contains(t, read(t, path), fmt.Sprintf(`"torn":%d,`, len(torn)+2))
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Remove(path+".head"))
		path = copyChain(t, trail.Path())
	}
	// A whole record that lacks only its line end is kept as well.
	crashed := copyChain(t, trail.Path())
	put(t, crashed, whole[:len(whole)-1])
	write(t, audit.Options{Path: crashed}, 1)
	require.True(t, strings.HasPrefix(read(t, crashed), whole[:len(whole)-1]+"!\n"))
	require.Contains(t, notes(verifyOK(t, crashed)), ":2: a whole record with the number 2 stands here fenced off")
	put(t, crashed, whole[:len(whole)-1])
	require.Contains(t, problems(verify(t, crashed)), "cut off", "that start has moved the head")
	// Cut within what the head file covers, it is not a crash.
	put(t, path, whole[:len(whole)-1])
	require.Contains(t, notes(verify(t, path)), ":2: record 2 stands whole at the end, but for its line end")
	put(t, path, strings.SplitAfter(whole, "\n")[0][:100])
	require.Contains(t, problems(verify(t, path)), "cut off")
	_, err := audit.Open(audit.Options{Path: path, Key: key(1)})
	require.ErrorContains(t, err, "does not verify")
}

func TestProcessesSideBySide(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 6 {
		cmd, out := start(t, "folder", dir)
		wg.Go(func() {
			text, err := io.ReadAll(out)
			if err != nil || len(text) > 0 {
				t.Errorf("%s %v", text, err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	report, err := audit.Verify(dir, audit.VerifyOptions{Key: key(1)})
	require.NoError(t, err)
	require.True(t, report.OK, "%+v", report)
	require.Len(t, report.Chains, 6)
	for _, c := range report.Chains {
		require.EqualValues(t, 300, c.Kinds[audit.Outcome])
		require.Greater(t, c.Files, 2)
		require.Zero(t, c.Unanswered)
	}
}

func TestOneProcessPerFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	cmd, out := start(t, "hold", path)
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "open\n", line)

	_, err = audit.Open(audit.Options{Path: path, Key: key(1)})
	require.ErrorContains(t, err, "being written by another process")
	require.True(t, verifyOK(t, path).Writing)

	// The lock ends with the process.
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	r := verifyOK(t, path)
	require.False(t, r.Writing)
	require.Contains(t, notes(r), "without closing it")
	write(t, audit.Options{Path: path}, 1)
	verifyOK(t, path)
}

func TestFilesThatAreNotOurs(t *testing.T) {
	for what, place := range map[string]func(path string) error{
		"a symbolic link": func(path string) error {
			target := filepath.Join(filepath.Dir(path), "target")
			if err := os.WriteFile(target, nil, 0o600); err != nil {
				return err
			}
			return os.Symlink(target, path)
		},
		"a link to nothing": func(path string) error { return os.Symlink(path+".nowhere", path) },
		"a FIFO":            func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a folder":          func(path string) error { return os.Mkdir(path, 0o700) },
		"open to others":    func(path string) error { return writeMode(path, 0o640) },
		"open to all":       func(path string) error { return writeMode(path, 0o606) },
	} {
		for _, end := range []string{"", ".head", ".000001"} {
			dir := t.TempDir()
			path := filepath.Join(dir, "trail.jsonl")
			require.NoError(t, place(path+end), what)
			_, err := audit.Open(audit.Options{Path: path, Key: key(1)})
			require.Error(t, err, what+end)
			_, err = os.Lstat(path + ".nowhere")
			require.ErrorIs(t, err, os.ErrNotExist, "the link was followed")
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err := audit.Open(audit.Options{Dir: dir, Key: key(1)})
	require.ErrorContains(t, err, "can be written by everybody")
}

// What has the name of a part of a chain and is no file is no empty part.
func TestPartThatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trail.jsonl")
	require.NoError(t, os.Mkdir(path, 0o700))
	_, err := audit.Open(audit.Options{Path: path, Key: key(1)})
	require.Error(t, err)
	require.NoError(t, os.Remove(path))
	require.NotEmpty(t, read(t, path+".head"), "the chain has begun, and has no record yet")

	require.NoError(t, syscall.Mkfifo(path+".000001", 0o600))
	_, err = audit.Open(audit.Options{Path: path, Key: key(1)})
	require.ErrorContains(t, err, "not a regular file")
	require.NoError(t, os.Remove(path+".000001"))
	verifyOK(t, write(t, audit.Options{Path: path}, 1))
}

func writeMode(path string, mode os.FileMode) error {
	if err := os.WriteFile(path, nil, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask
}
