package config

import (
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
)

// consistent checks what concerns several settings, and tolerates a slash
// around mounts and prefixes by taking it off. c is not in use yet.
func consistent(c *Config) error {
	for _, path := range []*string{
		&c.Vault.Namespace, &c.Vault.KVMount, &c.Vault.TransitMount, &c.Vault.DatabaseMount, &c.Vault.SSHMount, &c.Vault.AuthMount, &c.Auth.DefaultPrefix,
	} {
		*path = strings.Trim(*path, "/")
	}
	c.Vault.Addr = strings.TrimSuffix(c.Vault.Addr, "/")
	c.HTTP.PublicURL = strings.TrimSuffix(c.HTTP.PublicURL, "/")
	if (c.Vault.ClientCert == "") != (c.Vault.ClientKey == "") {
		return errors.New("VAULT_CLIENT_CERT and VAULT_CLIENT_KEY: want both or neither")
	}
	return errors.Join(transport(c)...)
}

// transport checks what concerns TLS and the proxies before us.
func transport(c *Config) (mistakes []error) {
	wrong := func(when bool, text string) {
		if when {
			mistakes = append(mistakes, errors.New(text))
		}
	}
	h, a := &c.HTTP, &c.Auth
	wrong((h.CertFile == "") != (h.KeyFile == ""),
		"TLS_CERT_FILE and TLS_KEY_FILE: want both or neither")
	wrong(h.ClientCRLFile != "" && h.ClientCAFile == "",
		"TLS_CLIENT_CRL_FILE: want TLS_CLIENT_CA_FILE, whose authorities the lists are of")
	if !a.MTLS {
		return mistakes
	}
	proxies := len(h.TrustedProxies) > 0
	wrong(!proxies && (h.CertFile == "" || h.ClientCAFile == ""),
		"AUTH_MTLS_ENABLED: want TLS_CERT_FILE, TLS_KEY_FILE and TLS_CLIENT_CA_FILE, or a proxy in TRUSTED_PROXIES that verifies certificates; else there are none")
	wrong(a.MTLSCert != "" && !proxies,
		"MTLS_CERT_HEADER: want TRUSTED_PROXIES; the header counts from nobody else")
	wrong(a.MTLSCert != "" && h.ClientCAFile == "",
		"MTLS_CERT_HEADER: want TLS_CLIENT_CA_FILE, against which certificates are verified again")
	names := []string{strings.ToLower(a.MTLSVerify), strings.ToLower(a.MTLSSubject), strings.ToLower(a.MTLSCert)}
	wrong(names[0] == names[1] || names[0] == names[2] || names[1] == names[2],
		"MTLS_VERIFY_HEADER, MTLS_IDENTITY_HEADER and MTLS_CERT_HEADER: want different headers")
	return mistakes
}

// notices lists what is permitted but hardly wanted.
func notices(c *Config) []string {
	var out []string
	notice := func(when bool, text string) {
		if when {
			out = append(out, text)
		}
	}
	vault, _ := url.Parse(c.Vault.Addr)
	plain := vault != nil && vault.Scheme == "http"
	notice(plain && !isLoopback(vault.Hostname()),
		"VAULT_ADDR is plain http to another machine: the token and every secret cross the network in the clear; want https")
	redis, _ := url.Parse(c.State.RedisURL.Reveal())
	notice(redis != nil && redis.Scheme == "redis" && !isLoopback(redis.Hostname()),
		"REDIS_URL is plain redis to another machine: its password crosses the network in the clear; want rediss")
	notice(c.Vault.SkipVerify && !plain,
		"VAULT_SKIP_VERIFY is on: whoever answers in Vault's place gets the token; want VAULT_CACERT instead")
	notice(c.loaded.origin["VAULT_ADDR"].source == fromFile && c.loaded.found && c.loaded.origin["VAULT_TOKEN"].source == fromEnv,
		"VAULT_TOKEN of the environment goes to the VAULT_ADDR of a configuration file that was only found in the working directory; name the file with APP_CONFIG_FILE if that is wanted")
	notice(c.loaded.origin["VAULT_ADDR"].source == fromFile && c.loaded.found && c.loaded.origin["VAULT_SECRET_ID"].source == fromEnv,
		"VAULT_SECRET_ID of the environment goes to the VAULT_ADDR of a configuration file that was only found in the working directory; name the file with APP_CONFIG_FILE if that is wanted")

	out = append(out, loginNotices(c)...)
	notice(c.Child.Enabled && c.Child.Role == "",
		"CHILD_TOKEN_ENABLED is on without CHILD_TOKEN_ROLE: child tokens, and the leases that agents got with them, end when the server's own token does; make a role by 'vault-mcp policy apply --server'")
	out = append(out, jwtNotices(c)...)

	notice(c.HTTP.ClientCAFile != "" && !c.Auth.MTLS,
		"TLS_CLIENT_CA_FILE has no effect: AUTH_MTLS_ENABLED is off")
	notice(c.HTTP.CertFile != "" && strings.HasPrefix(c.HTTP.PublicURL, "http://"),
		"PUBLIC_URL is http, but TLS_CERT_FILE makes this an https server")
	if isLoopback(c.HTTP.Host) {
		return out
	}
	notice(c.HTTP.CertFile == "" && len(c.HTTP.TrustedProxies) == 0 && !strings.HasPrefix(c.HTTP.PublicURL, "https://"),
		"HOST is reachable from other machines, and there is neither TLS_CERT_FILE nor a proxy in TRUSTED_PROXIES nor an https PUBLIC_URL: keys and secrets may cross the network in the clear")
	_, missing := os.Stat(c.Auth.KeysFile)
	notice(!c.Auth.MTLS && (!c.Auth.APIKeys || c.Auth.KeysJSON.IsZero() && missing != nil) && !c.JWT.Configured(),
		"HOST is reachable from other machines and there is no API key yet: every call is refused; make one with 'vault-mcp key create'")
	notice(len(c.HTTP.AllowedHosts) == 0 && c.HTTP.PublicURL == "",
		"HOST is reachable from other machines, but neither ALLOWED_HOSTS nor PUBLIC_URL says under which name: calls that use another name than a loopback one are refused")
	notice(len(c.HTTP.AuthServers) > 0 && c.HTTP.PublicURL == "",
		"OAUTH_AUTHORIZATION_SERVERS is set, but without a PUBLIC_URL clients of other machines are not told of them: tokens are for a URL, and nothing says which is this server's")
	notice(!c.Calls.RateLimit,
		"HOST is reachable from other machines and RATE_LIMIT_ENABLED is off: one caller can use all of Vault's capacity")
	return out
}

// isLoopback reports whether a host is this machine only.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}
