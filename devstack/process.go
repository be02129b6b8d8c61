package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// command is how a server is started.
type command struct {
	dir  string // where it runs and keeps its files
	env  []string
	bin  string
	args []string
	user *account // as whom; nil: as its owner

	// The server leaves something in the system when it is killed, so that it is
	// told to quit first (SIGQUIT) when its owner has gone.
	cleansUp bool
}

// account is a user of the system.
type account struct{ uid, gid uint32 }

// errPortTaken says that somebody else was faster: another port may do.
var errPortTaken = errors.New("the port was taken by another process")

// server is what all servers have: a folder, what they print, and a process.
type server struct {
	bin, dir string
	out      *tail

	mu      sync.Mutex // serialises Stop, Kill and Restart
	proc    *process
	stopped bool
}

// settle makes the folder in which the server runs, among the temporary files of
// its owner unless another place is given.
func (s *server) settle(bin, among string) (err error) {
	s.bin, s.out = bin, &tail{max: logKept}
	s.dir, err = os.MkdirTemp(among, "vault-mcp-devstack-")
	return err
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

// Done is closed when the process that runs now has ended, for whatever reason.
func (s *server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.done
}

// Pid is the server's process id.
func (s *server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.pid()
}

// start starts the process anew, with what it prints.
func (s *server) start(c command) (err error) {
	s.out.reset()
	c.dir = s.dir
	s.proc, err = startProcess(c, s.out)
	return err
}

// end ends the process, if there is one, in the way given.
func (s *server) end(how func(*process)) {
	if s.proc != nil {
		how(s.proc)
	}
}

// stopForGood ends the process and removes its files.
func (s *server) stopForGood(how func(*process)) {
	s.end(how)
	s.stopped = true
	_ = os.RemoveAll(s.dir) // a temporary folder: nobody can act on the error
}

// await polls until ready returns nil, the process ends or ctx does. said is what
// the server has printed so far.
func (s *server) await(ctx context.Context, said func() string, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.proc.done:
			cause := errors.New("the server ended while it started")
			if strings.Contains(strings.ToLower(said()), "address already in use") {
				cause = errPortTaken
			}
			return fmt.Errorf("%s: %w; its last words:\n%s", s.bin, cause, lastLines(said()))
		case <-ctx.Done():
			return fmt.Errorf("%s: not ready: %w (%w); its last words:\n%s", s.bin, context.Cause(ctx), err, lastLines(said()))
		case <-time.After(pollEvery):
		}
	}
}

// attempts starts a server, on another port where somebody else was faster.
func attempts[S any](start func() (S, error)) (S, error) {
	for attempt := 1; ; attempt++ {
		s, err := start()
		if err == nil || attempt == portAttempts || !errors.Is(err, errPortTaken) {
			return s, err
		}
	}
}

// lastLines are those that fit into an error.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
