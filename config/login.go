package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// podToken is where Kubernetes puts a pod's own token.
const podToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path

// loginSettings are the settings of logins to Vault, with the methods that use
// them.
var loginSettings = []struct {
	env     string
	methods []string
	set     func(*Vault) bool
}{
	{"VAULT_TOKEN", []string{"token"}, func(v *Vault) bool { return !v.Token.IsZero() }},
	{"VAULT_AUTH_MOUNT", []string{"approle", "kubernetes", "jwt", "cert"}, func(v *Vault) bool { return v.AuthMount != "" }},
	{"VAULT_AUTH_ROLE", []string{"approle", "kubernetes", "jwt", "cert"}, func(v *Vault) bool { return v.AuthRole != "" }},
	{"VAULT_ROLE_ID", []string{"approle"}, func(v *Vault) bool { return !v.RoleID.IsZero() }},
	{"VAULT_SECRET_ID", []string{"approle"}, func(v *Vault) bool { return !v.SecretID.IsZero() }},
	{"VAULT_SECRET_ID_WRAPPED", []string{"approle"}, func(v *Vault) bool { return v.SecretWrapped }},
	{"VAULT_JWT_FILE", []string{"kubernetes", "jwt"}, func(v *Vault) bool { return v.JWTFile != "" }},
}

// login completes what says how the server logs in to Vault, and reports all that
// is missing for it. c is not in use yet.
func login(c *Config) error {
	v := &c.Vault
	if said := c.loaded.origin["VAULT_AUTH_METHOD"].source != fromDefault; !said && (!v.RoleID.IsZero() || !v.SecretID.IsZero()) {
		if !v.Token.IsZero() {
			return errors.New("VAULT_TOKEN and VAULT_ROLE_ID or VAULT_SECRET_ID: want one of the two ways, or VAULT_AUTH_METHOD to say which")
		}
		v.AuthMethod = "approle"
	}
	if v.AuthMethod == "kubernetes" && v.JWTFile == "" {
		v.JWTFile = podToken
		if _, err := os.Stat(podToken); err != nil {
			return errors.Join(missing(c), errors.New("VAULT_JWT_FILE: is missing; VAULT_AUTH_METHOD=kubernetes needs it where the pod's own token is not in its usual place"))
		}
	}
	return missing(c)
}

// missing reports what a method needs and has not.
func missing(c *Config) error {
	v := &c.Vault
	var mistakes []error
	needs := func(ok bool, env, how string) {
		if !ok {
			mistakes = append(mistakes, fmt.Errorf("%s: is missing; VAULT_AUTH_METHOD=%s needs it%s", env, v.AuthMethod, how))
		}
	}
	switch v.AuthMethod {
	case "approle":
		needs(!v.RoleID.IsZero(), "VAULT_ROLE_ID", "")
		needs(!v.SecretID.IsZero(), "VAULT_SECRET_ID", "")
	case "kubernetes":
		needs(v.AuthRole != "", "VAULT_AUTH_ROLE", "")
	case "jwt":
		needs(v.JWTFile != "", "VAULT_JWT_FILE", "")
	case "cert":
		needs(v.ClientCert != "" || v.ClientKey != "", "VAULT_CLIENT_CERT", ", with VAULT_CLIENT_KEY")
		if !strings.HasPrefix(strings.ToLower(v.Addr), "https://") {
			mistakes = append(mistakes, errors.New("VAULT_ADDR: want https; VAULT_AUTH_METHOD=cert is a certificate within TLS"))
		}
	}
	return errors.Join(mistakes...)
}

// loginNotices lists what was set and is of no use to the method.
func loginNotices(c *Config) (out []string) {
	for _, s := range loginSettings {
		if s.set(&c.Vault) && !slices.Contains(s.methods, c.Vault.AuthMethod) {
			out = append(out, fmt.Sprintf("%s is set, and VAULT_AUTH_METHOD=%s has no use for it: it has no effect", s.env, c.Vault.AuthMethod))
		}
	}
	return out
}
