//go:build linux

package audit_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
)

// outOfSpace takes a trail through failures of writing and back, several times.
// space(room) leaves about that many bytes, a negative room all that there is.
func outOfSpace(trail *audit.Trail, space func(room int64) error) error {
	id, refused := 0, uint64(0)
	next := func() error {
		id++
		return trail.Append(attempt(id))
	}
	for round := range 24 {
		for range 3 {
			if err := next(); err != nil {
				return fmt.Errorf("with space: %w", err)
			}
		}
		// Nothing fits, or a part of a record, or one and a part of the next.
		if err := space(int64(round) * 45); err != nil {
			return err
		}
		fails := uint64(0)
		for range 15 {
			switch err := next(); {
			case errors.Is(err, fault.Unavailable):
				fails++
			case err != nil:
				return fmt.Errorf("not for callers: %w", err)
			case fails > 0:
				return errors.New("a record was taken although the one before was refused")
			}
		}
		if fails == 0 {
			return errors.New("space did not run out")
		}
		refused += fails
		// The record of a recovery is smaller than others and may just fit.
		if err := trail.Check(); round == 0 && !errors.Is(err, fault.Unavailable) {
			return fmt.Errorf("check without space: %v", err) //nolint:errorlint // it may be nil
		}
		if err := space(-1); err != nil {
			return err
		}
		if round%2 == 0 { // else the next record is what finds out
			if err := trail.Check(); err != nil {
				return fmt.Errorf("check with space: %w", err)
			}
		}
	}
	if err := next(); err != nil {
		return err
	}
	if err := trail.Close(); err != nil {
		return err
	}
	report, err := audit.Verify(trail.Path(), audit.VerifyOptions{Key: key(1)})
	if err != nil {
		return err
	}
	r := report.Chains[0]
	if !r.OK || r.Refused != refused || r.Kinds[audit.Attempt] != uint64(id)-refused {
		return fmt.Errorf("refused %d of %d: %+v", refused, id, report)
	}
	return nil
}

// limitFileSize makes writes behind an offset of the trail's file fail.
func limitFileSize(path string) func(int64) error {
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was)
	return func(room int64) error {
		info, serr := os.Stat(path)
		if err := errors.Join(err, serr); err != nil {
			return err
		}
		now := was
		if room >= 0 {
			now.Cur = uint64(max(info.Size(), 600) + room)
		}
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &now)
	}
}

// fillDisk fills the disk of the trail, all but what is left of a page.
func fillDisk(path string) func(int64) error {
	name := filepath.Join(filepath.Dir(path), "junk")
	return func(room int64) error {
		if room < 0 {
			return os.Remove(name)
		}
		f, err := os.Create(name)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		return f.Close()
	}
}

// A file that cannot grow: calls are refused, also when a part of a record got
// into the file, and go through again when there is space; the trail tells of
// it and verifies.
func TestFileCannotGrow(t *testing.T) {
	cmd, out := start(t, "size limit", filepath.Join(t.TempDir(), "trail.jsonl"))
	text, err := io.ReadAll(out)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait(), string(text))
}

// The same on a disk that is full.
func TestDiskIsFull(t *testing.T) {
	cmd := command("small disk", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
	}
	text, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		devstacktest.Cannot(t, "this machine does not let its users mount a small disk: %v", err)
	}
	require.NoError(t, err, string(text))
}
