package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// Public keys: one that is taken, a certificate of it, and two that are too weak.
const (
	sshKey      = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJeyVxIXw4GdVnVsKUvLjAGT1W9kJrPSfMUSwRtyD4tB"
	sshKeyOfDSA = "ssh-dss AAAAB3NzaC1kc3MAAACBALVV8b/MPutEocYpi/NwAo3bhC7sUl6jIHQqvUozR9et/zsB7Y2b1LlbugZosFeA9B20bx4lFccVoWDE0GoQ12oofdtyll8JyST+kriuFtIwgq1cdkgQLeLyexTOZyj8UmA52HAg0A2DhmdD4KyYt4pVUwg4pIOzpLKtzXzg2o7dAAAAFQDjHc0ZktkOOCUXuIQu2j0+WmWtPQAAAIAg3FfBcxDAxLq8h6G1mHuEhGy9oAM+9gg5GVEkFDOzI9KPpJsEsa+peTe1Uf5qv2Y1QblVkp356DZSxy0xU6p7hHtqWQ7CbVoquSPt7vzzQRDINOalxHMDYMdks0KoXulszYvVuVybMhEvLttqS7tCJ/dMog1X/4Qriu7Lq4mzCAAAAIBbgfJcbN2R+ZUghQ+0vtS6gczh9obOguM8IOyNxxwB7UDTTeTpDohY8HIEhcpc3ZftBzh8S6tHZz6MRZMG/9zRWynFvRzG3U7Qr4DsxXBE87QoSBX3Ie4aQBlWwHcyHeALb7Jw7olzSBkDIYyBrf75i08lRkkY9yD+cfp7K8AbAQ=="
	sshKeySmall = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDO74C1Uniknv9r/SlV/fnS3jJtB4a1SlbQvTvLX2rx5LErCT0eh1MoSAo3HYzEjgF5RkPbCLpEZ6ztWQyS+1TcK0paeivRTRIAC52bPiEv633dzPDJJB4MZb78kxvZCQirjY2+9kbBx4vmoPrIj5JJtAes5TqV1No1FcW5zoct2w=="
)

// sshRoles gives a Vault the roles that the callers of these tests may name.
func sshRoles(t testing.TB, v *devstack.Vault) {
	t.Helper()
	devstacktest.MountSSH(t, v)
	for name, role := range map[string]obj{
		"dev": {
			"key_type": "ca", "allow_user_certificates": true, "allowed_users": "app", "default_user": "app", "max_ttl": "1h",
			"allowed_extensions": "permit-pty", "default_extensions": obj{"permit-pty": ""},
		},
		"dev--otp": {"key_type": "otp", "default_user": "ubuntu", "cidr_list": "192.0.2.0/24"},
		"dev-bot":  {"key_type": "otp", "default_user": "ubuntu", "cidr_list": "192.0.2.0/24"},
	} {
		require.NoError(t, v.Request(t.Context(), http.MethodPost, devstacktest.SSHMount+"/roles/"+name, role, nil))
	}
}

// sshStory is what a user does with SSH, through every surface: v is asked as a
// host asks it.
func sshStory(v *devstack.Vault) []step {
	sign := func(more ...any) obj {
		return with(obj{"role": "dev", "public_key": sshKey, "valid_principals": "app"}, more...)
	}
	otp := func(more ...any) obj { return with(obj{"role": "dev--otp", "ip": "192.0.2.7"}, more...) }
	field := func(name string) func(*testing.T, obj) { return has("details.field", "/"+name) }
	steps := []step{
		{about: "sign", tool: "ssh.sign", args: sign("ttl", "5m"), want: certificateFor("app")},
		{about: "either spelling", tool: "ssh_sign", args: sign(), want: certificateFor("app")},
		{about: "the role's default user", tool: "ssh.sign", args: obj{"role": "dev", "public_key": sshKey + " me@host\n"}, want: certificateFor("app")},
		{about: "a principal that the role does not allow", tool: "ssh.sign", args: sign("valid_principals", "app,root"), code: "invalid"},
		{about: "longer than the role allows", tool: "ssh.sign", args: sign("ttl", "2h"), code: "invalid"},
		{about: "an extension that the role does not allow", tool: "ssh.sign", args: sign("extensions", obj{"permit-X11-forwarding": ""}), code: "invalid"},
		{about: "a role of another's", tool: "ssh.sign", args: sign("role", "dev-bot"), code: "forbidden", want: field("role")},
		{about: "a role that is not there", tool: "ssh.sign", args: sign("role", "dev--none"), code: "invalid"},
		{about: "a wildcard", tool: "ssh.sign", args: sign("valid_principals", "*"), code: "invalid", want: field("valid_principals")},
		{about: "a blank before a principal", tool: "ssh.sign", args: sign("valid_principals", " root"), code: "invalid", want: field("valid_principals")},
		{about: "a host without a name", tool: "ssh.sign", args: obj{"role": "dev", "public_key": sshKey, "cert_type": "host"}, code: "invalid", want: field("valid_principals")},
		{about: "ttl 0", tool: "ssh.sign", args: sign("ttl", "0"), code: "invalid", want: field("ttl")},
		{about: "ttl -1", tool: "ssh.sign", args: sign("ttl", "-1"), code: "invalid", want: field("ttl")},
		{about: "ttl 1000000h", tool: "ssh.sign", args: sign("ttl", "1000000h"), code: "invalid", want: field("ttl")},
		{about: "ttl 1e9", tool: "ssh.sign", args: sign("ttl", "1e9"), code: "invalid", want: field("ttl")},
		{about: "ttl with a blank", tool: "ssh.sign", args: sign("ttl", "5m "), code: "invalid", want: field("ttl")},
		{about: "ttl without end", tool: "ssh.sign", args: sign("ttl", "\u221e"), code: "invalid", want: field("ttl")},
		{about: "ttl in seconds", tool: "ssh.sign", args: sign("ttl", "5"), want: certificateFor("app")},
		{about: "a comment with a line end", tool: "ssh.sign", args: sign("public_key", sshKey+" me\nssh-ed25519 AAAA"), code: "invalid", want: field("public_key")},
		{about: "options", tool: "ssh.sign", args: sign("public_key", `command="x" `+sshKey), code: "invalid", want: field("public_key")},
		{about: "DSA", tool: "ssh.sign", args: sign("public_key", sshKeyOfDSA), code: "invalid", want: field("public_key")},
		{about: "RSA of 1024 bits", tool: "ssh.sign", args: sign("public_key", sshKeySmall), code: "invalid", want: field("public_key")},
		{about: "no extensions at all", tool: "ssh.sign", args: sign("extensions", obj{}), code: "invalid", want: field("extensions")},

		{about: "a password", tool: "ssh.otp", args: otp(), want: passwordIsGoodOnce(v)},
		{about: "a password for a user, and a port", tool: "ssh.otp", args: otp("username", "ubuntu", "port", 2222), want: has("ip", "192.0.2.7", "username", "ubuntu", "port", 2222)},
		{about: "a wrapped password", tool: "ssh.otp", args: otp("wrap_ttl", "60s"), want: has("otp", nil, "wrap.ttl", 60, "wrap.creation_path", "sys/wrapping/wrap", "ip", "192.0.2.7")},
		{about: "an address that the role does not allow", tool: "ssh.otp", args: otp("ip", "198.51.100.1"), code: "invalid"},
		{about: "a user that the role does not allow", tool: "ssh.otp", args: otp("username", "root"), code: "invalid"},
		{about: "no address", tool: "ssh.otp", args: otp("ip", "host.example.org"), code: "invalid", want: field("ip")},
		{about: "a range of addresses", tool: "ssh.otp", args: otp("ip", "192.0.2.0/24"), code: "invalid", want: field("ip")},
		{about: "several users", tool: "ssh.otp", args: otp("username", "ubuntu,root"), code: "invalid", want: field("username")},
		{about: "port 0", tool: "ssh.otp", args: otp("port", 0), code: "invalid", want: field("port")},
		{about: "a role of another's for passwords", tool: "ssh.otp", args: otp("role", "dev-bot"), code: "forbidden", want: field("role")},
	}
	for _, role := range []string{
		"../creds/dev", "dev/../dev-bot", "dev?x", "dev#x", "dev/config", "dev%2f..%2fdev-bot", "..", ".", "", " dev", "dev ", "dev\n", "dev\x00", "d\u0435v", "dev\\x", strings.Repeat("r", 129), "{{role}}",
	} {
		steps = append(steps,
			step{about: "sign: role " + role, tool: "ssh.sign", args: sign("role", role), code: "invalid", want: field("role")},
			step{about: "otp: role " + role, tool: "ssh.otp", args: otp("role", role), code: "invalid", want: field("role")})
	}
	for _, role := range []string{"DEV", "-1", "0", "1e3", "dev-", "config", "dev-bot--x"} { // names, of somebody else's roles
		steps = append(steps,
			step{about: "sign: role " + role, tool: "ssh.sign", args: sign("role", role), code: "forbidden", want: field("role")},
			step{about: "otp: role " + role, tool: "ssh.otp", args: otp("role", role), code: "forbidden", want: field("role")})
	}
	return steps
}

func certificateFor(principal string) func(*testing.T, obj) {
	return func(t *testing.T, got obj) {
		t.Helper()
		line, _ := got["certificate"].(string)
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		require.NoError(t, err)
		cert, ok := key.(*ssh.Certificate)
		require.True(t, ok)
		require.Equal(t, []string{principal}, cert.ValidPrincipals)
		require.Equal(t, sshKey, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert.Key))))
		require.IsType(t, "", got["serial_number"])
	}
}

func passwordIsGoodOnce(v *devstack.Vault) func(*testing.T, obj) {
	return func(t *testing.T, got obj) {
		t.Helper()
		has("ip", "192.0.2.7", "username", "ubuntu", "port", 22)(t, got)
		require.NotEmpty(t, got["lease_id"])
		body := obj{"otp": got["otp"]}
		require.NoError(t, v.Request(t.Context(), http.MethodPost, devstacktest.SSHMount+"/verify", body, nil))
		require.Error(t, v.Request(t.Context(), http.MethodPost, devstacktest.SSHMount+"/verify", body, nil), "good twice")
	}
}

// TestSSHStory also sees that what is wrong in itself, or not the caller's,
// never reaches Vault.
func TestSSHStory(t *testing.T) {
	v := devstacktest.Shared(t)
	sshRoles(t, v)
	seen := devstacktest.Recorder(t, v.Addr)
	for _, s := range surfaces() {
		t.Run(s.name, func(t *testing.T) {
			call := s.open(t, v, devKey, "VAULT_ADDR="+seen.URL)
			for _, step := range sshStory(v) {
				seen.Reset()
				got := call(t, step.tool, step.args)
				require.Equal(t, step.code, got.code(), "%s: %v", step.about, got.body)
				require.Equal(t, step.code != "", got.failed, step.about)
				if step.want != nil {
					step.want(t, got.body)
				}
				if dig(got.body, "details.field") != nil {
					require.Empty(t, seen.Requests(), step.about)
				}
			}
		})
	}
}
