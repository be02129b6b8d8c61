package telemetry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"vault-mcp/secret"
	"vault-mcp/telemetry"
)

func TestLinesGoToStderrAndToAPrivateFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	var stderr bytes.Buffer
	log, closeLog, err := telemetry.NewLogger(telemetry.LogOptions{Level: "info", Format: "json", Dir: dir, Name: "x", Stderr: &stderr})
	require.NoError(t, err)
	log.Debug("not logged")
	log.Info("call", zap.String("tool", "kv.read"), zap.Any("token", secret.NewText("hvs.CANARY")), zap.Reflect("again", struct{ T secret.Text }{secret.NewText("hvs.CANARY")}))
	require.NoError(t, closeLog())

	path := filepath.Join(dir, fmt.Sprintf("x-%d.log", os.Getpid()))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, stderr.String(), string(file))
	require.Equal(t, 1, strings.Count(string(file), "\n"))
	require.NotContains(t, string(file), "CANARY")
	var line map[string]any
	require.NoError(t, json.Unmarshal(file, &line))
	require.Equal(t, "call", line["msg"])
	require.Equal(t, "kv.read", line["tool"])
}

func TestOldFilesOfOtherProcessesGo(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"x-1.log": 31 * 24 * time.Hour, "x-2.log": time.Hour, "y-1.log": 999 * time.Hour} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	_, closeLog, err := telemetry.NewLogger(telemetry.LogOptions{Level: "info", Dir: dir, Name: "x", Stderr: io.Discard})
	require.NoError(t, err)
	require.NoError(t, closeLog())
	require.NoFileExists(t, filepath.Join(dir, "x-1.log"))
	require.FileExists(t, filepath.Join(dir, "x-2.log"))
	require.FileExists(t, filepath.Join(dir, "y-1.log"), "not ours")
}

func TestConsoleFormat(t *testing.T) {
	var stderr bytes.Buffer
	log, closeLog, err := telemetry.NewLogger(telemetry.LogOptions{Level: "warn", Format: "console", Stderr: &stderr})
	require.NoError(t, err)
	log.Info("not logged")
	log.Warn("careful")
	require.NoError(t, closeLog())
	require.Contains(t, stderr.String(), "careful")
	require.NotContains(t, stderr.String(), "not logged")
	require.False(t, json.Valid(stderr.Bytes()))
}

func TestBadOptions(t *testing.T) {
	_, _, err := telemetry.NewLogger(telemetry.LogOptions{Level: "loud"})
	require.ErrorContains(t, err, "LOG_LEVEL")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, _, err = telemetry.NewLogger(telemetry.LogOptions{Level: "info", Dir: file, Name: "x"})
	require.ErrorContains(t, err, "LOG_DIR")
}

// A full log must cost lines and not calls: zap reports to its error output.
func TestAFullLogFileLosesNothingElse(t *testing.T) {
	var stderr bytes.Buffer
	log, closeLog, err := telemetry.NewLogger(telemetry.LogOptions{Level: "info", Stderr: &failing{&stderr}})
	require.NoError(t, err)
	require.NotPanics(t, func() { log.Info("lost") })
	require.NoError(t, closeLog())
}

type failing struct{ *bytes.Buffer }

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestBuildInfoIsNeverEmpty(t *testing.T) {
	b := telemetry.BuildInfo()
	require.NotEmpty(t, b.Version)
	require.NotEmpty(t, b.Commit)
	require.NotEmpty(t, b.Go)
	require.NotEmpty(t, b.SDK)
}
