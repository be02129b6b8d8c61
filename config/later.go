package config

import "fmt"

// later are settings of the specification that this version does not have, and
// whose silence would leave an operator with less than was asked for. What is
// built is taken off this list; a test sees to that.
var later = []string{
	"METRICS_ADDR",
}

// ignored are warnings about settings in the environment that have no effect.
func ignored(env map[string]string) (warnings []string) {
	for _, name := range later {
		if env[name] != "" {
			warnings = append(warnings, fmt.Sprintf("%s is set, and this version does not have it: it has no effect", name))
		}
	}
	return warnings
}
