package tools_test

import (
	"os"
	"strings"
	"testing"

	"vault-mcp/devstack/devstacktest"
)

func TestMain(m *testing.M) {
	// The AWS SDK reads them, and they differ from machine to machine.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(devstacktest.Main(m))
}
