// Package telemetry is what operators see of the server: its logs, and which
// build it is.
//
// A log line never holds an argument or a result of a call. Fields are chosen
// one by one where a line is written; nothing logs a whole request.
package telemetry

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/DeRuina/timberjack"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Rotation of log files: by size, with a bounded number kept.
const (
	logMegabytes = 50
	logBackups   = 10
	logMode      = 0o600
	logAge       = 30 * 24 * time.Hour // after which nobody's file is kept
)

// LogOptions say what is logged and where.
type LogOptions struct {
	Level  string    // debug, info, warn or error
	Format string    // json or console
	Dir    string    // folder for rotating files; empty: none
	Name   string    // of the file in Dir, before the process's id and .log
	Stderr io.Writer // where lines go in any case
}

// NewLogger makes a logger that writes to Stderr and, if there is a folder, to
// a rotating file of mode 0600 in it. A file that cannot be written later, as
// on a full disk, loses lines and nothing else: it is the audit trail that must
// not lose any. Call the returned function at the end.
func NewLogger(o LogOptions) (*zap.Logger, func() error, error) {
	level, err := zapcore.ParseLevel(o.Level)
	if err != nil {
		return nil, nil, fmt.Errorf("LOG_LEVEL: want debug, info, warn or error")
	}
	keys := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "msg",
		EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder, LineEnding: zapcore.DefaultLineEnding,
	}
	encoder := zapcore.NewJSONEncoder(keys)
	if o.Format == "console" {
		keys.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(keys)
	}
	stderr := zapcore.Lock(zapcore.AddSync(o.Stderr))
	core := zapcore.NewCore(encoder, stderr, level)
	closeLog := func() error { return nil }
	if o.Dir != "" {
		file, err := openLogFile(o.Dir, o.Name)
		if err != nil {
			return nil, nil, err
		}
		core = zapcore.NewTee(core, zapcore.NewCore(encoder.Clone(), zapcore.AddSync(file), level))
		closeLog = file.Close
	}
	return zap.New(core, zap.ErrorOutput(stderr)), closeLog, nil
}

// openLogFile opens a file of this process alone, since the library overwrites
// what another has written; those of processes of long ago are taken away.
func openLogFile(dir, name string) (*timberjack.Logger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("LOG_DIR: %w", err)
	}
	forget(filepath.Join(dir, name+"-*.log*"))
	file := &timberjack.Logger{
		Filename: filepath.Join(dir, fmt.Sprintf("%s-%d.log", name, os.Getpid())),
		MaxSize:  logMegabytes, MaxBackups: logBackups, FileMode: logMode,
	}
	// The library opens on the first write; a folder that cannot be written is
	// to be known at the start.
	if _, err := file.Write(nil); err != nil {
		return nil, fmt.Errorf("LOG_DIR: %w", err)
	}
	return file, nil
}

// forget removes log files that nothing was written to for long. One that
// cannot be removed stays.
func forget(pattern string) {
	old, _ := filepath.Glob(pattern)
	for _, name := range old {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > logAge {
			_ = os.Remove(name)
		}
	}
}
