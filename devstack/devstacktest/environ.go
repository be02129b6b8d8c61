package devstacktest

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// MainWithoutAWS is Main for packages that use the AWS SDK, which reads the
// environment: its variables differ from machine to machine, and are taken away.
func MainWithoutAWS(m *testing.M, opts ...goleak.Option) int {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			_ = os.Unsetenv(name)
		}
	}
	return Main(m, opts...)
}
