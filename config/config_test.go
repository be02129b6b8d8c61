package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/config"
)

// none is an environment with nothing in it but a home.
var none = []string{"HOME=/home/somebody"}

// load loads from an environment only, in a folder without files.
func load(t *testing.T, env ...string) (*config.Config, error) {
	t.Helper()
	return config.Load(config.Options{Dir: t.TempDir(), Env: append(env, none...)})
}

// write makes a file, readable by us alone, and returns its name.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestDefaults(t *testing.T) {
	c, err := load(t)
	require.NoError(t, err)
	require.Equal(t, "http://localhost:8200", c.Vault.Addr)
	require.Equal(t, "secret", c.Vault.KVMount)
	require.True(t, c.Vault.Token.IsZero())
	require.Equal(t, "mcp", c.Auth.DefaultPrefix)
	require.True(t, c.Auth.APIKeys)
	require.Equal(t, "stdio-agent", c.Auth.Subject)
	require.Equal(t, 10*time.Second, c.Calls.Timeout)
	require.Equal(t, 300*time.Second, c.Calls.WrapTTLMax)
	require.Equal(t, 60, c.Calls.RateRequests)
	require.Equal(t, time.Minute, c.Calls.RateWindow)
	require.Equal(t, 60, c.Calls.RateBurst)
	require.Equal(t, "auto", c.Tools.Names)
	require.False(t, c.Tools.ReadOnly)
	require.Empty(t, c.Tools.Exclude)
	require.Empty(t, c.Tools.Sets)
	require.Empty(t, c.Auth.Principals)
	require.Empty(t, c.Auth.Grants)
	require.Equal(t, "127.0.0.1", c.HTTP.Host)
	require.Equal(t, 8089, c.HTTP.Port)
	require.Equal(t, 15*time.Second, c.HTTP.Keepalive)
	require.Equal(t, "/home/somebody/.local/state/vault-mcp", c.State.Dir)
	require.Equal(t, "/home/somebody/.local/state/vault-mcp/api-keys.json", c.Auth.KeysFile)
	require.Equal(t, "interval", c.State.AuditSync)
	require.Empty(t, c.Warnings())
	require.Empty(t, c.File())
	require.Equal(t, "default", c.Source("PORT"))
}

func TestDefaultsFollowOtherSettings(t *testing.T) {
	c, err := load(t, "STATE_DIR=/srv/$HOME", "RATE_LIMIT_REQUESTS=7", "XDG_STATE_HOME=/elsewhere")
	require.NoError(t, err)
	require.Equal(t, "/srv/$HOME", c.State.Dir, "what a person writes is taken as it stands")
	require.Equal(t, "/srv/$HOME/api-keys.json", c.Auth.KeysFile)
	require.Equal(t, 7, c.Calls.RateBurst)

	c, err = load(t, "XDG_STATE_HOME=/elsewhere")
	require.NoError(t, err)
	require.Equal(t, "/elsewhere/vault-mcp", c.State.Dir)

	c, err = load(t, "XDG_STATE_HOME=relative")
	require.NoError(t, err)
	require.Equal(t, "/home/somebody/.local/state/vault-mcp", c.State.Dir)
}

func TestLaterSourcesWin(t *testing.T) {
	file := write(t, "c.toml", "port = 1\nhost = \"10.0.0.1\"\nlog_level = \"error\"\ntools_exclude = []\n[grants]\nssh = [\"a\"]\n")
	c, err := config.Load(config.Options{
		File:  file,
		Env:   []string{"PORT=2", "HOST=10.0.0.2", "LOG_LEVEL=", `GRANTS={"kms":["alias/b*"]}`},
		Flags: map[string]string{"PORT": "3"},
	})
	require.NoError(t, err)
	require.Equal(t, 3, c.HTTP.Port)
	require.Equal(t, "10.0.0.2", c.HTTP.Host)
	require.Equal(t, "error", c.Log.Level, "an empty variable counts as not set")
	require.Equal(t, map[string][]string{"kms": {"alias/b*"}}, c.Auth.Grants, "maps are replaced, not merged")
	require.Equal(t, file, c.File())
	for env, source := range map[string]string{
		"PORT": "flag", "HOST": "environment", "LOG_LEVEL": "file", "TOOLS_EXCLUDE": "file", "KV_MOUNT": "default", "NOTHING": "",
	} {
		require.Equal(t, source, c.Source(env), env)
	}
}

func TestValuesAreTolerantOfSlashesAndSpellings(t *testing.T) {
	c, err := load(t, "KV_MOUNT=/team/kv/", "TRANSIT_MOUNT=transit/", "DATABASE_MOUNT=/db", "SSH_MOUNT=a/b/", "DEFAULT_PREFIX=a/b/", "VAULT_ADDR=https://v:8200/", "LOG_LEVEL=INFO",
		"READ_ONLY=yes", "TOOLS_EXCLUDE= kv.destroy, kv.*,", "PUBLIC_URL=https://x.example/mcp/")
	require.NoError(t, err)
	require.Equal(t, "team/kv", c.Vault.KVMount)
	require.Equal(t, []string{"transit", "db", "a/b"}, []string{c.Vault.TransitMount, c.Vault.DatabaseMount, c.Vault.SSHMount})
	require.Equal(t, "a/b", c.Auth.DefaultPrefix)
	require.Equal(t, "https://v:8200", c.Vault.Addr)
	require.Equal(t, "info", c.Log.Level)
	require.True(t, c.Tools.ReadOnly)
	require.Equal(t, []string{"kv.destroy", "kv.*"}, c.Tools.Exclude)
	require.Equal(t, "https://x.example/mcp", c.HTTP.PublicURL)
}

func TestBadValues(t *testing.T) {
	bad := map[string][]string{
		"VAULT_ADDR":                {"localhost:8200", "https://", "https://u:p@v", "https://v/x", "https://v?a", "https://v#", "unix:///x"},
		"VAULT_NAMESPACE":           {"a//b", "..", "a b"},
		"VAULT_TOKEN":               {"a b", "a\nb", "é"},
		"VAULT_CACERT":              {"/nonexistent", "/"},
		"VAULT_CAPATH":              {"/nonexistent", "/dev/null"},
		"VAULT_TLS_SERVER_NAME":     {"a b", "-x"},
		"KV_MOUNT":                  {"/", "a/../b", "a%2fb", "sécret"},
		"TRANSIT_MOUNT":             {"/", "a/../b"},
		"DATABASE_MOUNT":            {"/", "a%2fb"},
		"SSH_MOUNT":                 {"//", "a b"},
		"DEFAULT_PREFIX":            {"a//b", "."},
		"VAULT_MAX_CONCURRENT":      {"0", "4097", "1.5", "many"},
		"AWS_KMS_ENABLED":           {"maybe"},
		"AWS_REGION":                {"eu west", "EU-WEST-1", "evil.example/", strings.Repeat("a", 33)},
		"AWS_KMS_ENDPOINT":          {"kms.example", "ftp://kms.example", "https://u:p@kms.example", "https://kms.example/x"},
		"AWS_SECRET_ACCESS_KEY":     {"a b", "a\nb"},
		"AWS_KMS_MAX_CONCURRENT":    {"0", "4097"},
		"API_KEYS_JSON":             {"[]", "null", "{", `{"a":"b","a":"c"}`, `{"a":"b"} x`},
		"SUBJECT":                   {strings.Repeat("x", 129), "a\x01", "\xff"},
		"GRANTS":                    {"x", `{"ssh":"a*b"}`, `{"kv":["a"]}`, `{"ssh":["a**"]}`, `{"ssh":[1]}`, `[]`},
		"CALL_TIMEOUT":              {"10", "1ms", "1h", "-1s", "soon"},
		"WRAP_TTL_MAX":              {"300", "0s", "25h"},
		"RATE_LIMIT_ENABLED":        {"maybe", "2"},
		"RATE_LIMIT_WINDOW_SECONDS": {"0", "60s", "99999999999999999999"},
		"RATE_LIMIT_BURST":          {"0", "-1"},
		"TOOL_NAMES":                {"dots"},
		"PRINCIPALS":                {"x", "{}", "null", `["a"]`, `[null]`, `[{"a":1,"a":2}]`, `[{"a":"\u0001"}]`, `[{}] x`, `[{}`},
		"TOOLS_EXCLUDE":             {"KV.*", "*", "kv.a.b"},
		"TOOLSETS":                  {"KV", "*", "kv.*", "kv_x", "a b"},
		"HOST":                      {"localhost:80", "a/b", "::g"},
		"PORT":                      {"-1", "65536", "0x50"},
		"PUBLIC_URL":                {"mcp.example", "ftp://x", "https://x?y", "https://u@x"},
		"ALLOWED_HOSTS":             {"*", "*.example", "https://x", "a:b", "::1", "a,b c"},
		"CORS_ALLOW_ORIGINS":        {"*", "null", "app.example", "https://x/", "https://u@x", "https://*.x"},
		"AUDIT_SYNC":                {"never"},
		"AUDIT_HMAC_KEY":            {"abc", strings.Repeat("g", 64), strings.Repeat("a", 66)},
		"LOG_LEVEL":                 {"loud"},
		"AUTH_MTLS_ENABLED":         {"perhaps"},
		"MTLS_IDENTITY":             {"email", "uri,cn"},
		"MTLS_VERIFY_HEADER":        {"x_ssl_client_verify", "X-Api-Key", "a b", strings.Repeat("a", 65)},
		"MTLS_IDENTITY_HEADER":      {"x:y", "Forwarded"},
		"MTLS_CERT_HEADER":          {"client_cert", "Authorization"},
		"MTLS_SUBJECT_CN_PREFIX":    {"CN", "=", "/=", "C N="},
		"TLS_CERT_FILE":             {"/nonexistent", "/"},
		"TLS_KEY_FILE":              {"/nonexistent"},
		"TLS_CLIENT_CA_FILE":        {"/nonexistent"},
		"TLS_CLIENT_CRL_FILE":       {"/nonexistent"},
		"TRUSTED_PROXIES":           {"proxy.example", "10.0.0.1:80", "10.0.0.1/8", "0.0.0.0/0", "::/0", "::ffff:10.0.0.1", "10.0.0.0/33", "*"},
		"FORWARDED_HEADER":          {"x-real-ip"},
		"OAUTH_AUTHORIZATION_SERVERS": {
			"issuer.example", "http://issuer.example", "https://", "https://u@issuer.example", "https://issuer.example?x",
			"https://issuer.example#x", "https://issuer.example,http://x", `https://issuer.example/"`,
		},
		"REDIS_URL": {
			"redis.example:6379", "http://redis.example", "redis://", "redis:///0", "rediss://r?skip_verify=true", "rediss://r?", "redis://r#x",
			"redis://r/x", "redis://r/0/1", "redis://r:port", "unix:///run/redis", "redis://u:p@",
		},
	}
	for env, values := range bad {
		for _, value := range values {
			c, err := load(t, env+"="+value)
			require.Error(t, err, "%s=%s", env, value)
			require.Nil(t, c)
			require.Regexp(t, `^`+env+` \(environment\): (want|there) `, err.Error())
		}
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	file := write(t, "c.yaml", "prot: 1\nlog_format: xml\nread_only: perhaps\n")
	_, err := config.Load(config.Options{
		File: file, Env: []string{"HOST=a/b", "CALL_TIMEOUT=x"}, Flags: map[string]string{"PORT": "x", "NOPE": "1"},
	})
	require.Error(t, err)
	require.ElementsMatch(t, []string{
		`"prot" (file): there is no such setting; is port meant?`,
		`log_format (file): want one of json, console`,
		`read_only (file): want true or false`,
		`HOST (environment): want an IP address or a host name, without port`,
		`CALL_TIMEOUT (environment): want a duration from 100ms to 10m, written like 10s or 5m`,
		`PORT (flag): want a whole number from 0 to 65535`,
		`NOPE (flag): there is no such setting`,
	}, strings.Split(err.Error(), "\n"))
}

func TestClientCertificateNeedsItsKey(t *testing.T) {
	pem := write(t, "c.pem", "x")
	for _, env := range []string{"VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY"} {
		_, err := load(t, env+"="+pem)
		require.EqualError(t, err, "VAULT_CLIENT_CERT and VAULT_CLIENT_KEY: want both or neither")
	}
	_, err := load(t, "VAULT_CLIENT_CERT="+pem, "VAULT_CLIENT_KEY="+pem)
	require.NoError(t, err)
}

// What cannot work is said before it is tried, all of it at once.
func TestTransportSettings(t *testing.T) {
	pem := write(t, "c.pem", "x")
	pair := []string{"TLS_CERT_FILE=" + pem, "TLS_KEY_FILE=" + pem}
	for _, tc := range []struct {
		env  []string
		want []string
	}{
		{[]string{"TLS_CERT_FILE=" + pem}, []string{"TLS_CERT_FILE and TLS_KEY_FILE"}},
		{[]string{"TLS_KEY_FILE=" + pem}, []string{"TLS_CERT_FILE and TLS_KEY_FILE"}},
		{[]string{"TLS_CLIENT_CRL_FILE=" + pem}, []string{"TLS_CLIENT_CRL_FILE"}},
		{[]string{"AUTH_MTLS_ENABLED=true"}, []string{"AUTH_MTLS_ENABLED"}},
		{[]string{"AUTH_MTLS_ENABLED=true", "TLS_CLIENT_CA_FILE=" + pem}, []string{"AUTH_MTLS_ENABLED"}},
		{append(pair, "AUTH_MTLS_ENABLED=true"), []string{"AUTH_MTLS_ENABLED"}},
		{append(pair, "AUTH_MTLS_ENABLED=true", "TLS_CLIENT_CA_FILE="+pem, "MTLS_CERT_HEADER=client-cert"), []string{"MTLS_CERT_HEADER: want TRUSTED_PROXIES"}},
		{[]string{"AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=10.0.0.1", "MTLS_CERT_HEADER=client-cert"}, []string{"MTLS_CERT_HEADER: want TLS_CLIENT_CA_FILE"}},
		{[]string{"AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=10.0.0.1", "MTLS_VERIFY_HEADER=X-Same", "MTLS_IDENTITY_HEADER=x-same"}, []string{"want different headers"}},
		{[]string{"AUTH_MTLS_ENABLED=true", "MTLS_CERT_HEADER=client-cert", "TLS_KEY_FILE=" + pem, "TLS_CLIENT_CRL_FILE=" + pem}, []string{
			"TLS_CERT_FILE and TLS_KEY_FILE", "TLS_CLIENT_CRL_FILE", "AUTH_MTLS_ENABLED", "MTLS_CERT_HEADER: want TRUSTED_PROXIES", "MTLS_CERT_HEADER: want TLS_CLIENT_CA_FILE",
		}},
		{append(pair, "AUTH_MTLS_ENABLED=true", "TLS_CLIENT_CA_FILE="+pem), nil},
		{[]string{"AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=127.0.0.1,::1,10.0.0.0/8,2001:db8::/32"}, nil},
		{[]string{"AUTH_MTLS_ENABLED=true", "TRUSTED_PROXIES=10.0.0.1", "MTLS_CERT_HEADER=client-cert", "TLS_CLIENT_CA_FILE=" + pem}, nil},
	} {
		c, err := load(t, tc.env...)
		if tc.want == nil {
			require.NoError(t, err, tc.env)
			require.Empty(t, c.Warnings(), tc.env)
			continue
		}
		require.Error(t, err, tc.env)
		require.NotContains(t, err.Error(), pem)
		lines := strings.Split(err.Error(), "\n")
		require.Len(t, lines, len(tc.want), err)
		for i, want := range tc.want {
			require.Contains(t, lines[i], want)
		}
	}
}

func TestWarnings(t *testing.T) {
	expect := func(name string, env []string, warnings ...string) {
		t.Helper()
		c, err := load(t, env...)
		require.NoError(t, err, name)
		require.Len(t, c.Warnings(), len(warnings), "%s: %q", name, c.Warnings())
		for i, w := range warnings {
			require.Contains(t, c.Warnings()[i], w, name)
		}
	}
	pem := write(t, "c.pem", "x")
	expect("plain http elsewhere", []string{"VAULT_ADDR=http://vault.example:8200"}, "plain http to another machine")
	expect("plain http here", []string{"VAULT_ADDR=http://[::1]:8200"})
	expect("plain redis elsewhere", []string{"REDIS_URL=redis://:canary@redis.example/1"}, "REDIS_URL is plain redis")
	expect("plain redis here", []string{"REDIS_URL=redis://127.0.0.1:6379"})
	expect("redis over TLS", []string{"REDIS_URL=rediss://u:p@redis.example:6380/2"})
	expect("no check", []string{"VAULT_ADDR=https://v", "VAULT_SKIP_VERIFY=true"}, "VAULT_SKIP_VERIFY")
	expect("all addresses", []string{"HOST=0.0.0.0"}, "https PUBLIC_URL", "no API key yet", "ALLOWED_HOSTS")
	expect("keys, but not accepted", []string{"HOST=::", "PUBLIC_URL=https://x", `API_KEYS_JSON={"a":"b"}`, "AUTH_API_KEY_ENABLED=false"}, "no API key yet")
	expect("well set up", []string{"HOST=::", "PUBLIC_URL=https://x", `API_KEYS_JSON={"a":"b"}`})
	expect("nobody is told of the issuer", []string{"HOST=::", "ALLOWED_HOSTS=x", `API_KEYS_JSON={"a":"b"}`, "OAUTH_AUTHORIZATION_SERVERS=https://i"}, "https PUBLIC_URL", "OAUTH_AUTHORIZATION_SERVERS")
	expect("TLS of our own", []string{"HOST=::", "TLS_CERT_FILE=" + pem, "TLS_KEY_FILE=" + pem, `API_KEYS_JSON={"a":"b"}`, "ALLOWED_HOSTS=x"})
	expect("a proxy", []string{"HOST=::", "TRUSTED_PROXIES=10.0.0.1", `API_KEYS_JSON={"a":"b"}`, "ALLOWED_HOSTS=x"})
	expect("certificates instead of keys", []string{"HOST=::", "TRUSTED_PROXIES=10.0.0.1", "AUTH_MTLS_ENABLED=true", "ALLOWED_HOSTS=x"})
	expect("authorities for nothing", []string{"TLS_CLIENT_CA_FILE=" + pem}, "TLS_CLIENT_CA_FILE has no effect")
	expect("TLS under an http name", []string{"TLS_CERT_FILE=" + pem, "TLS_KEY_FILE=" + pem, "PUBLIC_URL=http://x"}, "PUBLIC_URL is http")
	expect("no limit", []string{"HOST=::", "PUBLIC_URL=https://x", `API_KEYS_JSON={"a":"b"}`, "RATE_LIMIT_ENABLED=false"}, "RATE_LIMIT_ENABLED")
}

func TestShow(t *testing.T) {
	const canary = "canary-0123456789"
	token := write(t, "token", canary)
	c, err := load(t, "VAULT_TOKEN_FILE="+token, `API_KEYS_JSON={"`+canary+`":"dev"}`, "PORT=9",
		`GRANTS={"ssh":["b","a"],"kms":[]}`, "TOOLS_EXCLUDE=kv.read,kv.list", "RATE_LIMIT_WINDOW_SECONDS=90",
		`PRINCIPALS=[ {"subject": "dev",  "scopes": ["kv:read"]} ]`, "TOOLSETS=kv, read")
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, c.Show(&out))
	shown := out.String()
	require.NotContains(t, shown+fmt.Sprintf("%v %+v %#v", c, *c, c), canary)
	for _, line := range []string{
		`VAULT_TOKEN +\[redacted\] +environment \(VAULT_TOKEN_FILE\)`,
		`API_KEYS_JSON +\[redacted\] +environment`,
		`SEAL_KEY +default`,
		`PORT +9 +environment`,
		`CALL_TIMEOUT +10s +default`,
		`RATE_LIMIT_WINDOW_SECONDS +90 +environment`,
		`TOOLS_EXCLUDE +kv\.read,kv\.list +environment`,
		`GRANTS +\{"kms":\[\],"ssh":\["b","a"\]\} +environment`,
		`PRINCIPALS +\[\{"subject":"dev","scopes":\["kv:read"\]\}\] +environment`,
		`TOOLSETS +kv,read +environment`,
	} {
		require.Regexp(t, `(?m)^`+line+`$`, shown)
	}
	require.Len(t, c.Rows(), len(config.Reference()))
}

func TestReference(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range config.Reference() {
		require.False(t, seen[s.Env], "%s is declared twice", s.Env)
		seen[s.Env] = true
		require.Equal(t, strings.ToLower(s.Env), s.Key)
		require.True(t, strings.HasSuffix(s.Help, "."), s.Env)
	}
	for _, s := range config.Reference() {
		require.False(t, s.Secret && seen[s.Env+"_FILE"], "%s_FILE means two things", s.Env)
	}
	var b strings.Builder
	require.NoError(t, config.Markdown(&b))
	for env := range seen {
		require.Equal(t, 1, strings.Count(b.String(), "| `"+env+"` |"), env)
	}
	require.Contains(t, b.String(), "| `VAULT_TOKEN` |  | Token with which the server calls Vault. Secret, or `VAULT_TOKEN_FILE`. |")
	require.Contains(t, b.String(), "| `AUDIT_SYNC` | `interval` |")
}
