package main_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lawful says which of the project's packages each package may import. A
// package that is not here may not exist. telemetry may be imported by any;
// tests, and devstack for development, are free.
var lawful = map[string][]string{
	"":          {"cli"},
	"cli":       {"server", "tools", "auth", "vaultx", "kmsx", "events", "audit", "config", "fault", "secret", "devstack"},
	"server":    {"tools", "auth", "events", "fault", "secret"},
	"tools":     {"auth", "vaultx", "kmsx", "events", "audit", "fault", "secret"},
	"auth":      {"redisx", "fault", "secret"},
	"vaultx":    {"gate", "fault", "secret"},
	"kmsx":      {"gate", "fault", "secret"},
	"gate":      {"fault"},
	"events":    {"redisx", "fault", "secret"},
	"redisx":    {"fault", "secret"},
	"audit":     {"fault", "secret"},
	"config":    {"fault", "secret"},
	"telemetry": {},
	"fault":     {},
	"secret":    {},
	"devstack":  {"secret"},
	"fault/faulttest": {
		"fault",
	},
	"devstack/devstacktest": {
		"devstack", "secret",
	},
}

// vendors says which packages may import whose code: each vendor's SDK stays in
// one place.
var vendors = map[string][]string{
	"github.com/hashicorp/vault/":             {"vaultx"},
	"github.com/modelcontextprotocol/go-sdk/": {"server"},
	"golang.org/x/crypto/ssh":                 {"vaultx"},
	"github.com/DeRuina/timberjack":           {"telemetry"},
	"github.com/spf13/":                       {"cli"},
	"github.com/hashicorp/hcl":                {"vaultx"},
	"github.com/knadh/koanf":                  {"config"},
	"github.com/invopop/jsonschema":           {"tools"},
	"github.com/google/jsonschema-go":         {"tools"},
	"github.com/santhosh-tekuri/jsonschema":   {}, // 9 ms of every start; tests check with it
	"github.com/golang-jwt/jwt":               {"auth"},
	"github.com/MicahParks/":                  {"auth"},
	"github.com/aws/":                         {"kmsx"},
	"github.com/redis/":                       {"redisx", "auth", "events"}, // what replicas share
	"github.com/go-redis/":                    {"auth"},
	"github.com/prometheus/":                  {"telemetry"},
	"go.opentelemetry.io/":                    {"telemetry"},
}

// forbidden are packages of the standard library that a package must do
// without.
var forbidden = map[string][]string{
	"tools":  {"net/http", "os"},
	"auth":   {},
	"fault":  {"net/http"},
	"secret": {"net/http"},
}

func TestImports(t *testing.T) {
	const module = "vault-mcp"
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	require.NoError(t, err)
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		require.NoError(t, dec.Decode(&p))
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		may, known := lawful[name]
		require.True(t, known, "package %q stands in no design", name)
		seen++
		for _, imported := range p.Imports {
			if own, ok := strings.CutPrefix(imported, module+"/"); ok {
				require.True(t, own == "telemetry" || slices.Contains(may, own), "%s must not import %s", name, own)
				continue
			}
			require.NotContains(t, forbidden[name], imported, "%s must not import %s", name, imported)
			if strings.HasPrefix(name, "devstack") {
				continue
			}
			for vendor, homes := range vendors {
				if strings.HasPrefix(imported, vendor) {
					require.Contains(t, homes, name, "%s must not import %s", name, imported)
				}
			}
		}
	}
	require.Equal(t, len(lawful), seen, "a package of the design is missing")
}
