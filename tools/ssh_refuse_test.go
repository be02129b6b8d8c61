package tools_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
)

// What no certificate is made for is refused before Vault is asked, with the
// field and without the value.
func TestSSHSignRefuses(t *testing.T) {
	v := devstacktest.Shared(t)
	seen := devstacktest.Recorder(t, v.Addr)
	r := newRig(t, rigOptions{addr: seen.URL, token: v.RootToken})
	p := with(sshPrincipal("refuse"), func(p *auth.Principal) { p.Grants = auth.Grants{"ssh": {"*"}} })
	private, public := newSSHKey(t)
	for about, row := range badSSHArguments(t, private, public) {
		tool, given := "ssh.sign", map[string]any{"role": "refuse", "public_key": public, "valid_principals": "app", "ttl": "5m"}
		if row.otp {
			tool, given = "ssh.otp", map[string]any{"role": "refuse", "ip": "192.0.2.7"}
		}
		if given[row.field] = row.value; row.value == nil {
			delete(given, row.field)
		}
		maps.Copy(given, row.more)
		raw, err := json.Marshal(given)
		require.NoError(t, err)
		_, f := r.run(p, tool, string(raw))
		require.NotNil(t, f, about)
		require.Equal(t, fault.Invalid, f.Kind, about)
		require.Equal(t, "/"+row.field, f.Details["field"], about)
		if text, ok := row.value.(string); ok && len(text) > 4 && len(text) < 4096 {
			require.NotContains(t, f.Msg, text, about)
		}
		if row.words != "" {
			require.Contains(t, f.Msg, row.words, about)
		}
	}
	require.Empty(t, seen.Requests())
}

type badSSH struct {
	field string
	value any            // nil: left out
	words string         // in the message
	more  map[string]any // further arguments
	otp   bool
}

func badSSHArguments(t *testing.T, private ed25519.PrivateKey, public string) map[string]badSSH {
	t.Helper()
	rows := map[string]badSSH{}
	for about, line := range badSSHKeys(t, private, public) {
		rows["key: "+about] = badSSH{field: "public_key", value: line}
	}
	for _, name := range []string{
		"*", " root", "root ", "app, root", "", ",", "app,", ",app", "app,,web", "-oProxyCommand=x", "a*", "app\nroot", "app\x00", "a/b", "a:b", "{{identity.entity.name}}",
		"\u0430pp", "app,app", ".app", "@app", strings.Repeat("a", 129), strings.Repeat("a,", 2048) + "b", `["app"]`,
	} {
		rows["principals: "+name] = badSSH{field: "valid_principals", value: name}
	}
	many := make([]string, 65)
	for i := range many {
		many[i] = "u" + strings.Repeat("x", i)
	}
	rows["too many principals"] = badSSH{field: "valid_principals", value: strings.Join(many, ","), words: "at most 64"}
	host := map[string]any{"cert_type": "host"}
	rows["a host without names"] = badSSH{field: "valid_principals", more: host, words: "is required for a host certificate"}
	for _, name := range []string{"a..b", "a@b", "a.", strings.Repeat("a", 64), "a.-b", strings.Repeat("a.", 127) + "b"} {
		rows["host: "+name] = badSSH{field: "valid_principals", value: name, more: host, words: "a host's name"}
	}
	for _, ttl := range []string{"0", "-1", "0s", "1000000h", "87601h", "9999999m", "1e9", "5m ", " 5m", "\u221e", "5d", "5.5m", "1h5m", "", "\u0663", "10000000", "+5"} {
		rows["ttl: "+ttl] = badSSH{field: "ttl", value: ttl}
	}
	rows["ttl: number"] = badSSH{field: "ttl", value: 300}
	for _, id := range []string{"", "-a", "a b", "a\nb", `a"b`, strings.Repeat("a", 129), "a,b"} {
		rows["key_id: "+id] = badSSH{field: "key_id", value: id}
	}
	for _, field := range []string{"extensions", "critical_options"} {
		for about, pairs := range map[string]any{
			"empty": map[string]string{}, "list": []string{"permit-pty"}, "text": "permit-pty", "number": map[string]int{"permit-pty": 1},
			"no name": map[string]string{"": ""}, "blank": map[string]string{"permit pty": ""}, "long name": map[string]string{strings.Repeat("a", 65): ""},
			"newline": map[string]string{"a": "b\nc"}, "long": map[string]string{"a": strings.Repeat("b", 1025)}, "star": map[string]string{"*": ""},
		} {
			rows[field+": "+about] = badSSH{field: field, value: pairs}
		}
		pairs := map[string]string{}
		for i := range 17 {
			pairs[strings.Repeat("a", i+1)] = ""
		}
		rows[field+": many"] = badSSH{field: field, value: pairs, words: "1 to 16"}
	}
	for _, kind := range []string{"", "User", "user,host", "any"} {
		rows["cert_type: "+kind] = badSSH{field: "cert_type", value: kind}
	}
	for _, role := range []string{"../creds/admin", "ro/../admin", "ro?x", "key/config", "", ".", "..", "a b", "ro%2fadmin", strings.Repeat("r", 129), "ro\n", "r\u043e"} {
		rows["role: "+role] = badSSH{field: "role", value: role}
		rows["role for a password: "+role] = badSSH{field: "role", value: role, otp: true}
	}
	for _, ip := range []string{
		"", "localhost", "192.0.2", "192.0.2.07", "192.0.2.7/24", "192.0.2.7:22", "192.0.2.7 ", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%eth0", "::ffff:192.0.2.7",
		"[2001:db8::7]", "3221225985", "0xc0.0.2.7", "192.0.2.\uff17", strings.Repeat("1", 46), "1.2.3.4\n",
	} {
		rows["ip: "+ip] = badSSH{field: "ip", value: ip, otp: true}
	}
	for _, name := range []string{"", "*", " root", "root ", "app,root", "-l", "a\nb", "a/b", strings.Repeat("a", 129)} {
		rows["username: "+name] = badSSH{field: "username", value: name, otp: true}
	}
	for about, port := range map[string]any{"zero": 0, "negative": -1, "large": 65536, "text": "22", "half": 22.5} {
		rows["port: "+about] = badSSH{field: "port", value: port, otp: true}
	}
	return rows
}

// Keys of kinds that are too weak.
const (
	oldDSAKey   = "ssh-dss AAAAB3NzaC1kc3MAAACBALVV8b/MPutEocYpi/NwAo3bhC7sUl6jIHQqvUozR9et/zsB7Y2b1LlbugZosFeA9B20bx4lFccVoWDE0GoQ12oofdtyll8JyST+kriuFtIwgq1cdkgQLeLyexTOZyj8UmA52HAg0A2DhmdD4KyYt4pVUwg4pIOzpLKtzXzg2o7dAAAAFQDjHc0ZktkOOCUXuIQu2j0+WmWtPQAAAIAg3FfBcxDAxLq8h6G1mHuEhGy9oAM+9gg5GVEkFDOzI9KPpJsEsa+peTe1Uf5qv2Y1QblVkp356DZSxy0xU6p7hHtqWQ7CbVoquSPt7vzzQRDINOalxHMDYMdks0KoXulszYvVuVybMhEvLttqS7tCJ/dMog1X/4Qriu7Lq4mzCAAAAIBbgfJcbN2R+ZUghQ+0vtS6gczh9obOguM8IOyNxxwB7UDTTeTpDohY8HIEhcpc3ZftBzh8S6tHZz6MRZMG/9zRWynFvRzG3U7Qr4DsxXBE87QoSBX3Ie4aQBlWwHcyHeALb7Jw7olzSBkDIYyBrf75i08lRkkY9yD+cfp7K8AbAQ=="
	smallRSAKey = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDO74C1Uniknv9r/SlV/fnS3jJtB4a1SlbQvTvLX2rx5LErCT0eh1MoSAo3HYzEjgF5RkPbCLpEZ6ztWQyS+1TcK0paeivRTRIAC52bPiEv633dzPDJJB4MZb78kxvZCQirjY2+9kbBx4vmoPrIj5JJtAes5TqV1No1FcW5zoct2w=="
)

// badSSHKeys are lines that are no plain public key of a kind that is taken.
func badSSHKeys(t *testing.T, private ed25519.PrivateKey, public string) map[string]string {
	t.Helper()
	kind, blob, _ := strings.Cut(public, " ")
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	require.NoError(t, cert.SignCert(rand.Reader, signer))
	return map[string]string{
		"nothing": "", "newline": "\n", "comment alone": "# " + public, "type alone": kind, "blob alone": blob, "wrong type": "ssh-rsa " + blob, "no base64": kind + " !!!!",
		"cut": public[:len(public)-4], "two lines": public + "\n" + public, "comment with a newline": public + " me\nssh-ed25519 AAAA", "carriage return": public + "\r\n",
		"two line ends": public + "\n\n", "leading blank": " " + public, "two blanks": kind + "  " + blob, "tab": kind + "\t" + blob, "NUL": public + "\x00", "escape": public + " \x1b[2J",
		"options": `command="x" ` + public, "restrict": "restrict " + public, "authority": "cert-authority " + public, "principals": `principals="root" ` + public,
		"certificate": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert))), "DSA": oldDSAKey, "RSA of 1024 bits": smallRSAKey,
		"private key": string(pem.EncodeToMemory(block)), "long": public + " " + strings.Repeat("c", 16<<10), "long comment in bytes": public + " " + strings.Repeat("ü", 8<<10),
		"base64 for URLs": kind + " " + strings.NewReplacer("A", "-").Replace(blob), "something after it": kind + " " + blob + "AAAA",
	}
}
