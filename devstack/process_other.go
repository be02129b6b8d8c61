//go:build !unix

package devstack

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

var errNotUnix = errors.New("starting and building servers needs a Unix system (on Windows: WSL)")

type process struct{ done chan struct{} }

func startProcess(string, io.Writer, []string, string, ...string) (*process, error) {
	return nil, errNotUnix
}

func (*process) pid() int           { return 0 }
func (*process) stop(time.Duration) {}
func (*process) kill()              {}

func lockFile(context.Context, string, time.Duration, func(time.Duration)) (*os.File, error) {
	return nil, errNotUnix
}
