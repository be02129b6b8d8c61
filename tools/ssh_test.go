package tools_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// sshPrincipal is one who may name every role that begins as its slug does.
func sshPrincipal(slug string) *auth.Principal {
	return with(principal(slug), func(p *auth.Principal) { p.Grants = auth.Grants{"ssh": {slug, slug + "--*"}} })
}

// sshRole makes a role in the shared Vault.
func sshRole(t testing.TB, v *devstack.Vault, name string, role map[string]any) {
	t.Helper()
	require.NoError(t, v.Request(t.Context(), http.MethodPost, devstacktest.SSHMount+"/roles/"+name, role, nil))
}

// caRole is a role for user certificates, as an operator would make it, with
// what a test has otherwise.
func caRole(users string, more map[string]any) map[string]any {
	role := map[string]any{
		"key_type": "ca", "allow_user_certificates": true, "allowed_users": users, "ttl": "5m", "max_ttl": "1h",
		"allowed_extensions": "permit-pty,permit-port-forwarding", "default_extensions": map[string]string{"permit-pty": ""},
		"allowed_critical_options": "force-command,source-address",
	}
	maps.Copy(role, more)
	return role
}

// newSSHKey is a key pair; the public part as in a .pub file.
func newSSHKey(t testing.TB) (ed25519.PrivateKey, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return private, publicLine(t, public)
}

func publicLine(t testing.TB, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// args are arguments as JSON.
func args(t testing.TB, pairs ...any) string {
	t.Helper()
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return string(b)
}

func parseCert(t testing.TB, line any) *ssh.Certificate {
	t.Helper()
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line.(string)))
	require.NoError(t, err)
	require.Empty(t, comment)
	require.Empty(t, options)
	require.Empty(t, rest)
	cert, ok := key.(*ssh.Certificate)
	require.True(t, ok)
	return cert
}

// A certificate logs in to a real sshd, by OpenSSH's client and by Go's; and is
// refused for another principal, with another's private key, and when it has
// ended.
func TestSSHSignLogsIn(t *testing.T) {
	r, v := realRig(t, tools.Options{})
	server := devstacktest.StartSSHD(t, devstacktest.MountSSH(t, v))
	sshRole(t, v, "login", caRole(server.User+",somebody", nil))
	p := sshPrincipal("login")
	private, public := newSSHKey(t)
	sign := func(principals, ttl string) string {
		t.Helper()
		return r.conform(p, "ssh.sign", args(t, "role", "login", "public_key", public+" me@host\n", "valid_principals", principals, "ttl", ttl))["certificate"].(string)
	}
	const command, says = "echo in-$((40+2))", "in-42\n"

	cert := sign(server.User, "5m")
	out, err := server.Login(t, private, cert, command)
	require.NoError(t, err, out)
	require.Contains(t, out, says)
	require.NoError(t, goLogin(t, server, private, cert))
	out, err = server.Login(t, private, sign("somebody,"+server.User, "60"), command)
	require.NoError(t, err, out)

	another := sign("somebody", "5m")
	out, err = server.Login(t, private, another, command)
	require.Error(t, err, "let in for another principal")
	require.Contains(t, out, "Permission denied")
	require.Error(t, goLogin(t, server, private, another))
	stolen, _ := newSSHKey(t)
	out, err = server.Login(t, stolen, cert, command)
	require.Error(t, err, "let in without the private key")
	require.NotContains(t, out, says)

	short := sign(server.User, "2s")
	require.NoError(t, goLogin(t, server, private, short), "it is good at first")
	end := time.Unix(int64(parseCert(t, short).ValidBefore), 0)
	require.LessOrEqual(t, time.Until(end), 2*time.Second)
	time.Sleep(time.Until(end) + time.Second)
	require.Error(t, goLogin(t, server, private, short), "let in after its end")
	out, err = server.Login(t, private, short, command)
	require.Error(t, err)
	require.Contains(t, out, "Permission denied")
}

// goLogin runs a command by x/crypto/ssh.
func goLogin(t testing.TB, server *devstacktest.SSHD, private ed25519.PrivateKey, certificate string) error {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	certified, err := ssh.NewCertSigner(parseCert(t, certificate), signer)
	require.NoError(t, err)
	client, err := ssh.Dial("tcp", server.Addr(), &ssh.ClientConfig{
		User: server.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(certified)},
		HostKeyCallback: ssh.FixedHostKey(server.HostKey), Timeout: 20 * time.Second,
	})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	session, err := client.NewSession()
	require.NoError(t, err)
	defer func() { _ = session.Close() }()
	out, err := session.Output("echo in")
	require.NoError(t, err)
	require.Equal(t, "in\n", string(out))
	return nil
}

// What is asked for stands in the certificate, and what is not asked for is the
// role's default.
func TestSSHSignCarriesWhatIsAskedFor(t *testing.T) {
	r, v := realRig(t, tools.Options{})
	devstacktest.MountSSH(t, v)
	p := sshPrincipal("carry")
	sshRole(t, v, "carry", caRole("app,web.1@example.org", map[string]any{"allow_user_key_ids": true, "default_user": "app"}))
	sshRole(t, v, "carry--host", map[string]any{
		"key_type": "ca", "allow_host_certificates": true, "allowed_domains": "example.org", "allow_subdomains": true, "max_ttl": "87600h",
	})
	_, public := newSSHKey(t)
	out := r.conform(p, "ssh.sign", args(t, "role", "carry", "public_key", public+" a comment that is not kept", "valid_principals", "app,web.1@example.org",
		"ttl", "10m", "key_id", "deploy:42@ci", "extensions", map[string]string{"permit-port-forwarding": ""},
		"critical_options", map[string]string{"source-address": "192.0.2.0/24", "force-command": "/bin/sh -c 'uptime'"}))
	require.Equal(t, []string{"certificate", "serial_number"}, slices.Sorted(maps.Keys(out)))
	require.NotContains(t, out["certificate"], "comment")
	require.NotContains(t, out["certificate"], "\n")
	cert := parseCert(t, out["certificate"])
	require.Equal(t, uint32(ssh.UserCert), cert.CertType)
	require.Equal(t, []string{"app", "web.1@example.org"}, cert.ValidPrincipals)
	require.Equal(t, "deploy:42@ci", cert.KeyId)
	require.Equal(t, map[string]string{"permit-port-forwarding": ""}, cert.Extensions)
	require.Equal(t, map[string]string{"source-address": "192.0.2.0/24", "force-command": "/bin/sh -c 'uptime'"}, cert.CriticalOptions)
	require.WithinDuration(t, time.Now().Add(10*time.Minute), time.Unix(int64(cert.ValidBefore), 0), 10*time.Second)
	require.Regexp(t, `^[0-9a-f]{1,16}$`, out["serial_number"])

	byDefault := parseCert(t, r.conform(p, "ssh.sign", args(t, "role", "carry", "public_key", public))["certificate"])
	require.Equal(t, []string{"app"}, byDefault.ValidPrincipals)
	require.Equal(t, map[string]string{"permit-pty": ""}, byDefault.Extensions)
	require.Empty(t, byDefault.CriticalOptions)
	require.WithinDuration(t, time.Now().Add(5*time.Minute), time.Unix(int64(byDefault.ValidBefore), 0), 10*time.Second)

	// Why operators must name the options that callers may set: to Vault, one of
	// the caller's takes the place of all of the role's.
	sshRole(t, v, "carry--forced", caRole("app", map[string]any{"default_critical_options": map[string]string{"force-command": "uptime"}, "allowed_critical_options": ""}))
	forced := args(t, "role", "carry--forced", "public_key", public, "valid_principals", "app")
	require.Equal(t, map[string]string{"force-command": "uptime"}, parseCert(t, r.conform(p, "ssh.sign", forced)["certificate"]).CriticalOptions)
	forced = args(t, "role", "carry--forced", "public_key", public, "valid_principals", "app", "critical_options", map[string]string{"source-address": "192.0.2.1"})
	require.Equal(t, map[string]string{"source-address": "192.0.2.1"}, parseCert(t, r.conform(p, "ssh.sign", forced)["certificate"]).CriticalOptions)

	host := parseCert(t, r.conform(p, "ssh.sign", args(t, "role", "carry--host", "public_key", public, "cert_type", "host", "valid_principals", "a.example.org,b-2.example.org", "ttl", "87600h"))["certificate"])
	require.Equal(t, uint32(ssh.HostCert), host.CertType)
	require.Equal(t, []string{"a.example.org", "b-2.example.org"}, host.ValidPrincipals)

	for name, key := range goodSSHKeys(t) {
		signed := parseCert(t, r.conform(p, "ssh.sign", args(t, "role", "carry", "public_key", key))["certificate"])
		require.Equal(t, key, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signed.Key))), name)
	}
}

func goodSSHKeys(t testing.TB) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		keys[name] = publicLine(t, &key.PublicKey)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	keys["RSA"] = publicLine(t, &key.PublicKey)
	return keys
}

// What Vault refuses, it refuses without a word of its own getting out.
func TestSSHRolesDecide(t *testing.T) {
	r, v := realRig(t, tools.Options{})
	devstacktest.MountSSH(t, v)
	p := sshPrincipal("decide")
	sshRole(t, v, "decide", caRole("app", nil))
	sshRole(t, v, "decide--any", caRole("*", map[string]any{"allow_empty_principals": true}))
	sshRole(t, v, "decide--otp", map[string]any{"key_type": "otp", "default_user": "ubuntu", "allowed_users": "deploy", "cidr_list": "192.0.2.0/24"})
	_, public := newSSHKey(t)
	for about, given := range map[string]map[string]any{
		"a principal that it does not allow":    {"valid_principals": "root"},
		"one more than it allows":               {"valid_principals": "app,root"},
		"no principal, and no default":          {},
		"a longer ttl than it allows":           {"valid_principals": "app", "ttl": "2h"},
		"an extension that it does not allow":   {"valid_principals": "app", "extensions": map[string]string{"permit-X11-forwarding": ""}},
		"an option that it does not allow":      {"valid_principals": "app", "critical_options": map[string]string{"verify-required": ""}},
		"a key id, which it does not allow":     {"valid_principals": "app", "key_id": "mine"},
		"a host certificate, which it does not": {"valid_principals": "a.example.org", "cert_type": "host"},
		"a role that is not there":              {"role": "decide--none", "valid_principals": "app"},
		"a role for passwords":                  {"role": "decide--otp", "valid_principals": "app"},
	} {
		whole := map[string]any{"role": "decide", "public_key": public}
		maps.Copy(whole, given)
		raw, err := json.Marshal(whole)
		require.NoError(t, err)
		_, f := r.run(p, "ssh.sign", string(raw))
		require.NotNil(t, f, about)
		require.Equal(t, fault.Invalid, f.Kind, about)
		require.NotContains(t, f.Details, "outcome", about)
		require.Contains(t, f.Msg, "the role does not exist, or does not allow", about)
	}
	for about, given := range map[string]map[string]any{
		"an address outside of its ranges": {"ip": "198.51.100.1"},
		"a user that it does not allow":    {"username": "root"},
		"a role that is not there":         {"role": "decide--none"},
	} {
		whole := map[string]any{"role": "decide--otp", "ip": "192.0.2.7"}
		maps.Copy(whole, given)
		raw, err := json.Marshal(whole)
		require.NoError(t, err)
		_, f := r.run(p, "ssh.otp", string(raw))
		require.NotNil(t, f, about)
		require.Equal(t, fault.Invalid, f.Kind, about)
		require.Contains(t, f.Msg, "the role does not exist or", about)
	}
	_, f := r.run(p, "ssh.otp", args(t, "role", "decide", "ip", "192.0.2.7"))
	require.NotNil(t, f, "a password of a role for certificates")
	require.NotContains(t, r.everywhere(), "Unknown role")

	// Vault gives this one, and we do not: it would be good for everybody.
	_, f = r.run(p, "ssh.sign", args(t, "role", "decide--any", "public_key", public))
	require.NotNil(t, f)
	require.Equal(t, fault.Unavailable, f.Kind)
	require.Contains(t, f.Msg, "withheld: it has no principals")
	require.Equal(t, "unknown", f.Details["outcome"])
	r.conform(p, "ssh.sign", args(t, "role", "decide--any", "public_key", public, "valid_principals", "anybody"))
	_, f = r.run(p, "ssh.sign", args(t, "role", "decide-", "public_key", public))
	require.Equal(t, fault.Forbidden, f.Kind, "no grant")
	_, f = r.run(with(p, func(p *auth.Principal) { p.Grants = auth.Grants{"ssh": {"*"}} }), "ssh.sign", args(t, "role", "decide-", "public_key", public))
	require.Equal(t, fault.NotFound, f.Kind, "a name that the engine has no route for")
}

// Roles are held against grants before Vault is asked.
func TestSSHGrants(t *testing.T) {
	v := devstacktest.Shared(t)
	devstacktest.MountSSH(t, v)
	seen := devstacktest.Recorder(t, v.Addr)
	r := newRig(t, rigOptions{addr: seen.URL, token: v.RootToken})
	p := sshPrincipal("grant")
	_, public := newSSHKey(t)
	for _, role := range []string{"grant--app", "grants", "grant-app", "GRANT", "other", "gran"} {
		sshRole(t, v, role, caRole("app", nil))
		for tool, raw := range map[string]string{
			"ssh.sign": args(t, "role", role, "public_key", public, "valid_principals", "app"),
			"ssh.otp":  args(t, "role", role, "ip", "192.0.2.7"),
		} {
			seen.Reset()
			_, f := r.run(p, tool, raw)
			if role == "grant--app" {
				require.NotEmpty(t, seen.Requests(), role)
				continue
			}
			require.NotNil(t, f)
			require.Equal(t, fault.Forbidden, f.Kind, role)
			require.Equal(t, "/role", f.Details["field"])
			require.Empty(t, seen.Requests(), role)
		}
	}
	for _, grants := range []auth.Grants{nil, {"transit": {"*"}, "database": {"*"}, "kms": {"*"}}} {
		_, f := r.run(with(p, func(p *auth.Principal) { p.Grants = grants }), "ssh.sign", args(t, "role", "grant--app", "public_key", public))
		require.Equal(t, fault.Forbidden, f.Kind, "a grant for another engine")
	}
}

// A password is good once, for the host and user that it was asked for; its
// lease ends it; and it stands nowhere but in the answer.
func TestSSHOTP(t *testing.T) {
	r, v := realRig(t, tools.Options{})
	devstacktest.MountSSH(t, v)
	p := sshPrincipal("otp")
	sshRole(t, v, "otp", map[string]any{"key_type": "otp", "default_user": "ubuntu", "allowed_users": "deploy,ubuntu", "cidr_list": "192.0.2.0/24,2001:db8::/32"})

	out := r.conform(p, "ssh.otp", `{"role":"otp","ip":"192.0.2.7"}`)
	require.Equal(t, []string{"ip", "lease_duration", "lease_id", "otp", "port", "username"}, slices.Sorted(maps.Keys(out)))
	require.Equal(t, "192.0.2.7", out["ip"])
	require.Equal(t, "ubuntu", out["username"])
	require.InDelta(t, 22, out["port"], 0)
	require.Positive(t, out["lease_duration"])
	require.NotEmpty(t, out["lease_id"])
	ip, user, err := verifyOTP(t, v, out["otp"])
	require.NoError(t, err)
	require.Equal(t, "192.0.2.7 ubuntu", ip+" "+user)
	_, _, err = verifyOTP(t, v, out["otp"])
	require.Error(t, err, "good twice")

	other := r.conform(p, "ssh.otp", `{"role":"otp","ip":"2001:DB8:0::7","username":"deploy","port":2222}`)
	require.Equal(t, "2001:db8::7", other["ip"])
	require.Equal(t, "deploy", other["username"])
	require.InDelta(t, 2222, other["port"], 0)
	_, f := r.run(p, "db.renew", args(t, "lease_id", other["lease_id"].(string)))
	require.NotNil(t, f)
	require.Equal(t, fault.Invalid, f.Kind, "it is not renewable")
	require.Equal(t, true, r.conform(p, "db.revoke", args(t, "lease_id", other["lease_id"].(string)))["ok"])
	_, _, err = verifyOTP(t, v, other["otp"])
	require.Error(t, err, "good after its lease")

	wrapped := r.conform(p, "ssh.otp", `{"role":"otp","ip":"192.0.2.7","wrap_ttl":"60s"}`)
	require.NotContains(t, wrapped, "otp")
	require.NotEmpty(t, wrapped["lease_id"], "its lease stays in the open")
	var inside struct {
		Data map[string]string `json:"data"`
	}
	token := wrapped["wrap"].(map[string]any)["token"]
	require.NoError(t, v.Request(t.Context(), http.MethodPost, "sys/wrapping/unwrap", map[string]any{"token": token}, &inside))
	require.Equal(t, []string{"otp"}, slices.Collect(maps.Keys(inside.Data)))
	_, _, err = verifyOTP(t, v, inside.Data["otp"])
	require.NoError(t, err)

	for _, value := range []any{out["otp"], other["otp"], token, inside.Data["otp"]} {
		require.NotContains(t, r.everywhere(), value)
	}
}

// verifyOTP is what the helper on a host asks.
func verifyOTP(t testing.TB, v *devstack.Vault, otp any) (ip, user string, err error) {
	t.Helper()
	var answer struct {
		Data struct{ IP, Username string } `json:"data"`
	}
	err = v.Request(t.Context(), http.MethodPost, devstacktest.SSHMount+"/verify", map[string]any{"otp": otp}, &answer)
	return answer.Data.IP, answer.Data.Username, err
}
