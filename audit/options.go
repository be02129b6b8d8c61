package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"vault-mcp/secret"
)

// Sync says when records are forced to the disk.
type Sync string

// Interval forces them every second, from a goroutine of its own: a power
// failure can lose that second, a crash of the process nothing. Always forces
// them before Append returns; calls that wait at the same time share one fsync.
const (
	Interval Sync = "interval"
	Always   Sync = "always"
)

// Options say where and how a trail is written. Either Dir or Path must be
// set; everything else but Key has a default.
type Options struct {
	Dir  string // folder in which the process makes a file of its own
	Path string // or a file; one process at a time, and its chain goes on
	Key  []byte // secret.KeySize bytes

	Sync            Sync          // Interval
	SyncInterval    time.Duration // 1 s; with Always, how often the files are looked after
	MaxBytes        int64         // 64 MiB; a file is rotated when it has reached this
	CheckpointEvery int           // 1000 records; one a minute is written too, if there were any

	Now func() time.Time // time.Now

	// LogError hears of failures that no caller of Append is told: of fsync,
	// rotation and the head file in the background. It must not use the trail.
	LogError func(error)
}

func (o Options) withDefaults() (Options, error) {
	if (o.Dir == "") == (o.Path == "") {
		return o, errors.New("audit: want either a folder or a file for the trail")
	}
	switch o.Sync {
	case "":
		o.Sync = Interval
	case Interval, Always:
	default:
		return o, fmt.Errorf("audit: sync is %q; want %q or %q", o.Sync, Interval, Always)
	}
	if o.SyncInterval <= 0 {
		o.SyncInterval = time.Second
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.CheckpointEvery <= 0 {
		o.CheckpointEvery = 1000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LogError == nil {
		o.LogError = func(error) {}
	}
	if o.Path == "" {
		o.Path = filepath.Join(o.Dir, fmt.Sprintf("audit-%s-%d-%s.jsonl",
			o.Now().UTC().Format("20060102T150405Z"), os.Getpid(), secret.RandomHex(4)))
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return o, fmt.Errorf("audit: %w", err)
	}
	if chainOf(path) != path {
		return o, fmt.Errorf("audit: %s: the name of a trail must not end like those of its other files", path)
	}
	o.Path = path
	return o, nil
}
