package config

import "fmt"

// later are settings of the specification that this version does not have, and
// whose silence would leave an operator with less than was asked for. What is
// built is taken off this list; a test sees to that.
var later = []string{
	"AUTH_JWT_ENABLED", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_HS256_SECRET", "JWT_JWKS_URL", "JWT_JWKS_FILE", "OIDC_ISSUER",
	"OAUTH_AUTHORIZATION_SERVERS",
	"CHILD_TOKEN_ENABLED", "CHILD_TOKEN_TTL", "CHILD_TOKEN_ROLE",
	"VAULT_AUTH_METHOD", "VAULT_AUTH_MOUNT", "VAULT_AUTH_ROLE", "VAULT_ROLE_ID", "VAULT_SECRET_ID", "VAULT_JWT_FILE",
	"TOOLSETS", "REDIS_URL", "METRICS_ADDR",
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
