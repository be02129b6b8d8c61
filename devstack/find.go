package devstack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// probeTimeout bounds `vault version`, with the first load of a large binary on
// a busy machine in mind.
const probeTimeout = 30 * time.Second

// builtFolder holds what build makes, in the checkout's bin, which is also
// where the product's own binary stands.
const builtFolder = "devstack"

// find looks for the part and builds it if need be.
func (p *part) find(ctx context.Context, log func(string)) (string, error) {
	if log == nil {
		log = func(string) {}
	}
	if name := p.named(); name != "" {
		path, err := lookPath(name)
		if err == nil {
			_, err = p.version(ctx, path)
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.env, err)
		}
		return path, nil
	}
	for _, path := range p.installed() {
		if _, err := p.version(ctx, path); err != nil {
			if ctx.Err() != nil {
				return "", err
			}
			log("passed over: " + err.Error())
			continue
		}
		return path, nil
	}
	root, ok := checkout()
	if !ok {
		return "", p.missing
	}
	if path, ok := p.built(ctx, root); ok {
		return path, nil
	}
	return p.build(ctx, root, log)
}

// named is what the part's variable says.
func (p *part) named() string {
	if p.env == "" {
		return ""
	}
	return os.Getenv(p.env)
}

// installed lists the binaries that exist in the usual places.
func (p *part) installed() []string {
	var found []string
	for _, name := range p.onPath {
		if path, err := lookPath(name); err == nil {
			found = append(found, path)
		}
	}
	if self, err := os.Executable(); err == nil {
		// A checkout's own product stands in bin too; checkout looks there, and
		// knows which version it should be.
		beside := filepath.Join(filepath.Dir(self), builtFolder, p.name)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && !isCheckout(filepath.Dir(filepath.Dir(self))) {
			found = append(found, beside)
		}
	}
	return found
}

func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path) // servers run in a folder of their own
}

// versionLine is how Vault and OpenBao begin the answer to `version`.
var versionLine = regexp.MustCompile(`^(Vault|OpenBao) v((\d+)\.(\d+)\.[^\s,]+)`)

// probe runs `version` and returns the version of a Vault or OpenBao that is
// new enough.
func probe(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out := &tail{max: 4 << 10}
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + os.TempDir()}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s does not run: %w", path, err)
	}
	m := versionLine.FindStringSubmatch(out.String())
	if m == nil {
		return "", fmt.Errorf("%s is not a Vault: `version` does not answer like one", path)
	}
	major, _ := strconv.Atoi(m[3])
	minor, _ := strconv.Atoi(m[4])
	// 1.12 has everything the product uses, as does each OpenBao, whose
	// versions begin at 2.0.
	if major < 1 || major == 1 && minor < 12 {
		return "", fmt.Errorf("%s is too old: version %s, at least 1.12 is needed", path, m[2])
	}
	return m[2], nil
}

// checkout finds the source tree of vault-mcp around the working directory, or
// around this program.
func checkout() (string, bool) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if self, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(self))
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			if isCheckout(dir) {
				return dir, true
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", false
}

func isCheckout(dir string) bool {
	b, err := os.ReadFile(pins(dir))
	return err == nil && strings.HasPrefix(string(b), "module vault-mcp/testdata/devstack\n")
}

// pins is the file that says which servers a checkout builds.
func pins(root string) string { return filepath.Join(root, "testdata", "devstack", "go.mod") }
