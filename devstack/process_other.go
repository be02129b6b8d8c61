//go:build !unix

package devstack

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

var errNotUnix = errors.New("starting and building servers needs a Unix system (on Windows: WSL)")

type process struct{ done chan struct{} }

func startProcess(command, io.Writer) (*process, error) { return nil, errNotUnix }

func asUser(*account) *syscall.SysProcAttr { return nil }

func (*process) pid() int           { return 0 }
func (*process) stop(time.Duration) {}
func (*process) quit(time.Duration) {}
func (*process) succeeded() bool    { return false }
func (*process) kill()              {}

func lockFile(context.Context, string, time.Duration, func(time.Duration)) (*os.File, error) {
	return nil, errNotUnix
}
