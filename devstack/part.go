package devstack

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"regexp"
)

// part is a server, or what a server needs, that is found or else built.
type part struct {
	name    string   // of its file
	title   string   // for people
	pkg     string   // what is built
	module  string   // whose version the checkout pins
	takes   string   // how long a build takes
	env     string   // the variable that names the binary; empty: there is none
	onPath  []string // names under which it may be on PATH
	missing error    // says that there is none, and how to get one

	// probe runs or reads a binary and returns its version, or why it will not do.
	probe func(ctx context.Context, path string) (string, error)
}

// What the development stack has besides Vault, and how to get it.
var (
	// ErrNoVault says that there is no usable Vault and that none can be built.
	ErrNoVault = errors.New("no usable Vault was found: install Vault (https://developer.hashicorp.com/vault/install) " +
		"or OpenBao (https://openbao.org), so that `vault` or `bao` is on PATH, or set VAULT_BIN to the binary; " +
		"in a checkout of vault-mcp with Go on PATH, one is built")
	// ErrNoPostgresPlugin says the same of the database plugin.
	ErrNoPostgresPlugin = errors.New("no plugin of Vault for PostgreSQL was found: " +
		"in a checkout of vault-mcp with Go on PATH, it is built")
	// ErrNoLocalKMS says the same of the AWS KMS.
	ErrNoLocalKMS = errors.New("no local-kms was found: set LOCAL_KMS_BIN to the binary (https://github.com/nsmithuk/local-kms), " +
		"or have it on PATH; in a checkout of vault-mcp with Go on PATH, one is built")
)

const vaultModule = "github.com/hashicorp/vault"

// pluginName is the file and the name in Vault of the database plugin.
const pluginName = "postgresql-database-plugin"

var (
	vaultPart = &part{
		name: "vault", title: "Vault", pkg: vaultModule, module: vaultModule,
		takes: "about 5 to 10 minutes on two cores",
		env:   "VAULT_BIN", onPath: []string{"vault", "bao"}, missing: ErrNoVault, probe: probe,
	}
	pluginPart = &part{
		name: pluginName, title: "Vault's plugin for PostgreSQL",
		pkg: vaultModule + "/plugins/database/postgresql/" + pluginName, module: vaultModule,
		takes:   "about 2 minutes on two cores, less after Vault",
		missing: ErrNoPostgresPlugin,
	}
	kmsPart = &part{
		name: "local-kms", title: "local-kms",
		pkg: "github.com/nsmithuk/local-kms", module: "github.com/nsmithuk/local-kms",
		takes: "about a minute on two cores",
		env:   "LOCAL_KMS_BIN", onPath: []string{"local-kms"}, missing: ErrNoLocalKMS,
	}
)

// Find returns the path of a Vault or OpenBao that runs. It looks at VAULT_BIN,
// which if set must be good; at `vault` and `bao` on PATH; at devstack/vault
// beside this program; and in the checkout around the working directory, where
// it builds one if need be. What it passes over, and that it builds, it says
// to log.
func Find(ctx context.Context, log func(string)) (string, error) { return vaultPart.find(ctx, log) }

// FindPostgresPlugin returns the path of the plugin with which a Vault without
// one of its own gives out credentials of PostgreSQL. It looks beside this
// program and in the checkout, as Find does.
func FindPostgresPlugin(ctx context.Context, log func(string)) (string, error) {
	return pluginPart.find(ctx, log)
}

// FindLocalKMS returns the path of a local-kms, which plays AWS KMS. It looks at
// LOCAL_KMS_BIN, which if set must be good, on PATH, beside this program and in
// the checkout, as Find does.
func FindLocalKMS(ctx context.Context, log func(string)) (string, error) {
	return kmsPart.find(ctx, log)
}

// version is what the probe says. A part without a `version` command is judged
// by what Go wrote into the binary.
func (p *part) version(ctx context.Context, path string) (string, error) {
	if p.probe != nil {
		return p.probe(ctx, path)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s is not a %s: %w", path, p.name, err)
	}
	if info.Path != p.pkg {
		return "", fmt.Errorf("%s is not a %s: it was built from another package", path, p.name)
	}
	return info.Main.Version, nil
}

// pinned is the version that the text of a go.mod requires, without its v.
func (p *part) pinned(mod []byte) (string, bool) {
	want := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(p.module) + ` v(\S+)`).FindSubmatch(mod)
	if want == nil {
		return "", false
	}
	return string(want[1]), true
}
