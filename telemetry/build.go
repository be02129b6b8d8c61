package telemetry

import (
	"runtime"
	"runtime/debug"
)

// version and commit are set by the linker (see the Makefile). Without it, the
// information that the Go tool puts into a binary is used.
var version, commit string

// Build says which build of the program this is.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	SDK     string `json:"sdk"` // of github.com/modelcontextprotocol/go-sdk
}

// BuildInfo is the build of the running program.
func BuildInfo() Build {
	b := Build{Version: version, Commit: commit, Go: runtime.Version(), SDK: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		if b.Version == "" {
			b.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && b.Commit == "" {
				b.Commit = s.Value
			}
		}
		for _, dep := range info.Deps {
			if dep.Path == "github.com/modelcontextprotocol/go-sdk" {
				b.SDK = dep.Version
			}
		}
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "0.0.0-dev"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}
