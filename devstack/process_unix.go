//go:build unix

package devstack

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a server that ends with its owner.
//
// The owner holds one end of a pipe, a guard (a few lines of shell) the other.
// The server's id is written into the pipe by the server's own process before
// it becomes the server, so there is no moment at which a server runs unknown to
// its guard. When the owner ends, however it ends, the kernel closes the pipe,
// and the guard kills the server. A server that has ended in order is reported
// to the guard, so that it never kills whoever has the id next.
//
// Both stand in process groups of their own: an interrupt from the terminal
// reaches the owner alone, which stops its servers in its own order.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the server has ended and its guard too
}

const (
	announce = `echo $$ >&3; exec "$0" "$@" 3>&-`
	// The pause lets the killed server go before its folder does.
	guard = `read -r pid || exit 0
read -r word && [ "$word" = ended ] && exit 0
kill -s "$2" -- "-$pid"
sleep 1
[ "$2" = KILL ] || kill -s KILL -- "-$pid" 2>/dev/null
rm -rf -- "$1"`
	drainTime = 2 * time.Second // for output that a server's children still hold open
)

// startProcess starts a server in its folder, its output going to out. If the
// owner is killed, the folder is removed after the server.
func startProcess(c command, out io.Writer) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	own := &syscall.SysProcAttr{Setpgid: true}
	orphaned := "KILL"
	if c.cleansUp {
		orphaned = "QUIT"
	}
	watch := exec.Command("/bin/sh", "-c", guard, "guard", c.dir, orphaned)
	watch.Stdin, watch.Env, watch.Dir, watch.SysProcAttr = r, []string{"PATH=/usr/bin:/bin"}, "/", own
	err = watch.Start()
	_ = r.Close()
	if err != nil {
		_ = w.Close()
		return nil, err
	}
	p := &process{done: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", announce, c.bin}, c.args...)...)
	p.cmd.Env, p.cmd.Dir, p.cmd.SysProcAttr = c.env, c.dir, asUser(c.user)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.ExtraFiles = []*os.File{w} // descriptor 3 of the script
	p.cmd.WaitDelay = drainTime
	if err := p.cmd.Start(); err != nil {
		_ = w.Close() // the guard reads no id and ends
		return nil, errors.Join(err, watch.Wait())
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in its output
		// What it started, such as plugins, has no other owner.
		_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
		_, _ = w.WriteString("ended\n")
		_ = w.Close()
		_ = watch.Wait()
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// succeeded reports whether the server, which has ended, was content.
func (p *process) succeeded() bool { return p.cmd.ProcessState.Success() }

// stop asks the server to end, and kills it after a while.
func (p *process) stop(grace time.Duration) { p.end(syscall.SIGTERM, grace) }

// quit tells a server that cleans up to drop everything, and kills it after a
// while.
func (p *process) quit(grace time.Duration) { p.end(syscall.SIGQUIT, grace) }

func (p *process) end(signal os.Signal, grace time.Duration) {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.kill()
	}
}

// kill ends the server at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// asUser starts a process in a group of its own, as another user if one is given.
func asUser(u *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if u != nil {
		attr.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid}
	}
	return attr
}

// lockFile takes the lock of a file, making the file if there is none. It ends
// with the file's last descriptor. While it waits, it calls waiting after each
// interval, first at once.
func lockFile(ctx context.Context, path string, interval time.Duration, waiting func(time.Duration)) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	start, told := time.Now(), time.Time{}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(err, f.Close())
		}
		if time.Since(told) >= interval {
			told = time.Now()
			waiting(time.Since(start))
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
