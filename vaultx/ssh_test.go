package vaultx_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

var (
	sshSign  = vaultx.MustTemplate("{ssh}/sign/{role}")
	sshCreds = vaultx.MustTemplate("{ssh}/creds/{role}")
)

// sshBound is bound to a role, as the runner does it.
func sshBound(t testing.TB, c *vaultx.Client, tmpl vaultx.Template, role string) *vaultx.Bound {
	t.Helper()
	op, err := vaultx.NewOperation("update", tmpl, map[string]string{"ssh": devstacktest.SSHMount, "role": role})
	require.NoError(t, err)
	return c.Bind(op, vaultx.BindOptions{Owner: prefix})
}

func sshSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return signer
}

func sshLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// A Vault that gives another certificate than was asked for, whether by its
// role, a plugin or whoever stands between: it goes no further.
func TestSSHSignWithholds(t *testing.T) {
	authority, owner, stranger := sshSigner(t), sshSigner(t), sshSigner(t)
	key, err := vaultx.ParseSSHPublicKey(sshLine(owner.PublicKey()))
	require.NoError(t, err)
	asked := vaultx.SSHSignRequest{
		Key: key, CertType: vaultx.SSHUser, Principals: []string{"app", "web"}, TTL: 5 * time.Minute, KeyID: "mine",
		Extensions: map[string]string{"permit-pty": ""}, CriticalOptions: map[string]string{"force-command": "uptime"},
	}
	least := vaultx.SSHSignRequest{Key: key, CertType: vaultx.SSHUser}
	host := vaultx.SSHSignRequest{Key: key, CertType: vaultx.SSHHost, Principals: []string{"a.example.org"}}
	seconds := func(from time.Duration) uint64 { return uint64(time.Now().Add(from).Unix()) }
	for about, row := range map[string]struct {
		asked  vaultx.SSHSignRequest
		change func(*ssh.Certificate)
		words  string // empty: it is handed over
	}{
		"as asked":                       {asked, func(*ssh.Certificate) {}, ""},
		"fewer principals":               {asked, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"web"} }, ""},
		"no extension":                   {asked, func(c *ssh.Certificate) { c.Extensions = nil }, ""},
		"an earlier end":                 {asked, func(c *ssh.Certificate) { c.ValidBefore = seconds(time.Minute) }, ""},
		"the role's defaults":            {least, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"ubuntu"}; c.KeyId = "vault-x" }, ""},
		"a host":                         {host, hostCert, ""},
		"another key":                    {asked, func(c *ssh.Certificate) { c.Key = stranger.PublicKey() }, "another key"},
		"another kind":                   {asked, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, "other kind"},
		"a user's instead of a host's":   {host, func(c *ssh.Certificate) { hostCert(c); c.CertType = ssh.UserCert }, "other kind"},
		"a kind that is none":            {asked, func(c *ssh.Certificate) { c.CertType = 3 }, "other kind"},
		"one principal more":             {asked, func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "root") }, "not asked for"},
		"no principals":                  {asked, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, "no principals"},
		"no principals by default":       {least, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, "no principals"},
		"no principals for a host":       {host, func(c *ssh.Certificate) { hostCert(c); c.ValidPrincipals = nil }, "no principals"},
		"all principals by default":      {least, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"*"} }, "no plain name"},
		"an empty principal":             {least, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"app", ""} }, "no plain name"},
		"a wildcard for hosts":           {host, func(c *ssh.Certificate) { hostCert(c); c.ValidPrincipals = []string{"*.example.org"} }, "no plain name"},
		"a later end":                    {asked, func(c *ssh.Certificate) { c.ValidBefore = seconds(7 * time.Minute) }, "longer than was asked for"},
		"no end":                         {asked, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, "longer than was asked for"},
		"no end by default":              {least, func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity }, "longer than was asked for"},
		"an end beyond what is counted":  {least, func(c *ssh.Certificate) { c.ValidBefore = 1 << 63 }, "its times"},
		"an end before its beginning":    {asked, func(c *ssh.Certificate) { c.ValidAfter, c.ValidBefore = seconds(time.Minute), seconds(0) }, "its times"},
		"another key id":                 {asked, func(c *ssh.Certificate) { c.KeyId = "root" }, "key id"},
		"one extension more":             {asked, func(c *ssh.Certificate) { c.Extensions["permit-agent-forwarding"] = "" }, "extension"},
		"an extension of another value":  {asked, func(c *ssh.Certificate) { c.Extensions["permit-pty"] = "x" }, "extension"},
		"without the restriction":        {asked, func(c *ssh.Certificate) { c.CriticalOptions = nil }, "critical options"},
		"another restriction":            {asked, func(c *ssh.Certificate) { c.CriticalOptions["force-command"] = "sh" }, "critical options"},
		"one restriction more":           {asked, func(c *ssh.Certificate) { c.CriticalOptions["source-address"] = "192.0.2.1" }, "critical options"},
		"a signature of somebody else's": {asked, func(c *ssh.Certificate) { c.SignatureKey = stranger.PublicKey() }, "signature"},
	} {
		cert := &ssh.Certificate{
			Key: owner.PublicKey(), CertType: ssh.UserCert, Serial: 0xabc, KeyId: "mine", ValidPrincipals: []string{"app", "web"},
			ValidAfter: seconds(-30 * time.Second), ValidBefore: seconds(5 * time.Minute),
			Permissions: ssh.Permissions{Extensions: maps.Clone(asked.Extensions), CriticalOptions: maps.Clone(asked.CriticalOptions)},
		}
		row.change(cert)
		other := cert.SignatureKey
		require.NoError(t, cert.SignCert(rand.Reader, authority))
		if other != nil {
			cert.SignatureKey = other
		}
		got, err := signedBy(t, sshLine(cert), row.asked)
		if row.words == "" {
			require.NoError(t, err, about)
			require.Equal(t, vaultx.SSHCertificate{Line: sshLine(cert), Serial: "abc"}, got, about)
			continue
		}
		f := requireKind(t, fault.Unavailable, err)
		require.Contains(t, f.Msg, row.words, about)
		require.Contains(t, f.Msg, "withheld", about)
		require.Equal(t, "unknown", f.Details["outcome"], about)
		require.Zero(t, got, about)
	}
	for _, body := range []string{`{"data":["x"]}`, `{"data":{"signed_key":5}}`, `{}`} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		_, err := vaultx.SSHSign(t.Context(), sshBound(t, f.client(t), sshSign, "app"), asked)
		require.Equal(t, "unknown", requireKind(t, fault.Unavailable, err).Details["outcome"], body)
	}
	for _, line := range []string{"", "x", sshLine(owner.PublicKey()), "ssh-ed25519-cert-v01@openssh.com AAAA"} {
		_, err := signedBy(t, line, asked)
		require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "no SSH certificate")
	}
}

func hostCert(c *ssh.Certificate) {
	c.CertType, c.ValidPrincipals, c.Permissions = ssh.HostCert, []string{"a.example.org"}, ssh.Permissions{}
}

// signedBy asks a Vault that answers with one certificate.
func signedBy(t *testing.T, line string, asked vaultx.SSHSignRequest) (vaultx.SSHCertificate, error) {
	t.Helper()
	answer, err := json.Marshal(map[string]any{"data": map[string]string{"signed_key": line + "\n", "serial_number": "abc"}})
	require.NoError(t, err)
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
	return vaultx.SSHSign(t.Context(), sshBound(t, f.client(t), sshSign, "app"), asked)
}

// Nothing of the line but the key itself is sent.
func TestSSHSignSendsTheKeyAnew(t *testing.T) {
	var sent map[string]any
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewDecoder(r.Body).Decode(&sent)
		w.WriteHeader(http.StatusBadRequest)
	})
	line := sshLine(sshSigner(t).PublicKey())
	key, err := vaultx.ParseSSHPublicKey(line + " me@host with words\n")
	require.NoError(t, err)
	bound := sshBound(t, f.client(t), sshSign, "app")
	_, err = vaultx.SSHSign(t.Context(), bound, vaultx.SSHSignRequest{Key: key, CertType: vaultx.SSHUser})
	requireKind(t, fault.Invalid, err)
	require.Equal(t, map[string]any{"public_key": line, "cert_type": "user"}, sent, "what was not asked for is left to the role")
	_, err = vaultx.SSHSign(t.Context(), bound, vaultx.SSHSignRequest{
		Key: key, CertType: vaultx.SSHHost, Principals: []string{"a", "b"}, TTL: time.Hour, KeyID: "k",
		Extensions: map[string]string{"x": ""}, CriticalOptions: map[string]string{"y": "z"},
	})
	requireKind(t, fault.Invalid, err)
	require.Equal(t, map[string]any{
		"public_key": line, "cert_type": "host", "valid_principals": "a,b", "ttl": 3600.0, "key_id": "k",
		"extensions": map[string]any{"x": ""}, "critical_options": map[string]any{"y": "z"},
	}, sent)
}

// A password for another host or user than was asked for is withheld.
func TestSSHOTPWithholds(t *testing.T) {
	good := map[string]any{"key_type": "otp", "key": "canary-otp", "ip": "192.0.2.7", "username": "app", "port": 22}
	lease := "ssh/creds/app/x"
	for about, change := range map[string]func(map[string]any){
		"":                  func(map[string]any) {},
		"another address":   func(m map[string]any) { m["ip"] = "192.0.2.8" },
		"no address":        func(m map[string]any) { m["ip"] = "" },
		"another user":      func(m map[string]any) { m["username"] = "root" },
		"no user":           func(m map[string]any) { delete(m, "username") },
		"no password":       func(m map[string]any) { m["key"] = "" },
		"of another kind":   func(m map[string]any) { m["key_type"] = "dynamic" },
		"without its lease": func(map[string]any) { lease = "" },
		"another's lease":   func(map[string]any) { lease = "ssh/creds/other/x" },
	} {
		lease = "ssh/creds/app/x"
		data := maps.Clone(good)
		change(data)
		answer, err := json.Marshal(map[string]any{"data": data, "lease_id": lease, "lease_duration": 60})
		require.NoError(t, err)
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
		got, err := vaultx.SSHOTP(t.Context(), sshBound(t, f.client(t), sshCreds, "app"), netip.MustParseAddr("192.0.2.7"), "app")
		if about == "" {
			require.NoError(t, err)
			require.Equal(t, "canary-otp", got.OTP.Reveal())
			require.Equal(t, 60, got.Lease.Duration)
			continue
		}
		failure := requireKind(t, fault.Unavailable, err)
		require.Equal(t, "unknown", failure.Details["outcome"], about)
		want := vaultx.SSHPassword{} // with the lease, to be given back, if it is this role's
		if lease == "ssh/creds/app/x" {
			want.Lease = vaultx.Lease{ID: lease, Duration: 60}
		}
		require.Equal(t, want, got, about)
	}
}

// Vault's reasons are texts, with roles and principals in them: what is told is
// ours, by the operation and the status.
func TestSSHErrors(t *testing.T) {
	key, err := vaultx.ParseSSHPublicKey(sshLine(sshSigner(t).PublicKey()))
	require.NoError(t, err)
	for status, want := range map[int]struct {
		kind       fault.Kind
		sign, otp  string
		mayBeThere bool
	}{
		http.StatusBadRequest:          {fault.Invalid, "which principals", "which ranges of addresses", false},
		http.StatusNotFound:            {fault.NotFound, "no such role", "no such role", false},
		http.StatusForbidden:           {fault.Forbidden, "Vault's policy", "Vault's policy", false},
		http.StatusInternalServerError: {fault.Unavailable, "config/ca", "one for one-time passwords", true},
		http.StatusBadGateway:          {fault.Unavailable, "could not do this now", "could not do this now", true},
	} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"errors":["canary is not a valid value for valid_principals","check canary"]}`)
		})
		f.alive = true
		_, signErr := vaultx.SSHSign(t.Context(), sshBound(t, f.client(t), sshSign, "app"), vaultx.SSHSignRequest{Key: key, CertType: vaultx.SSHUser})
		_, otpErr := vaultx.SSHOTP(t.Context(), sshBound(t, f.client(t), sshCreds, "app"), netip.MustParseAddr("192.0.2.7"), "")
		for words, err := range map[string]error{want.sign: signErr, want.otp: otpErr} {
			failure := requireKind(t, want.kind, err)
			require.Contains(t, failure.Msg, words, status)
			require.NotContains(t, failure.Msg, "canary")
			require.NotContains(t, failure.Err.Error(), "canary")
			require.Equal(t, want.mayBeThere, failure.Details["outcome"] != nil, status)
		}
		require.Equal(t, int32(2), f.requests.Load(), "asked twice")
	}
	f := newFake(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err = vaultx.SSHSign(t.Context(), sshBound(t, f.client(t), sshSign, "app"), vaultx.SSHSignRequest{Key: key, CertType: vaultx.SSHUser})
	require.Equal(t, "the connection to Vault broke", requireKind(t, fault.Unavailable, err).Msg, "no answer is none of the engine's")
}

// A mount without a signing key is the operator's to mend, and the words say so.
func TestSSHSignWithoutAnAuthority(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	require.NoError(t, v.Request(t.Context(), http.MethodPost, "sys/mounts/ssh", map[string]any{"type": "ssh"}, nil))
	require.NoError(t, v.Request(t.Context(), http.MethodPost, "ssh/roles/app", map[string]any{"key_type": "ca", "allow_user_certificates": true, "allowed_users": "app"}, nil))
	key, err := vaultx.ParseSSHPublicKey(sshLine(sshSigner(t).PublicKey()))
	require.NoError(t, err)
	_, err = vaultx.SSHSign(t.Context(), sshBound(t, realClient(t, v), sshSign, "app"), vaultx.SSHSignRequest{Key: key, CertType: vaultx.SSHUser, Principals: []string{"app"}})
	require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "config/ca")
}

// FuzzSSHPublicKey: what is taken has one meaning, which is that of the key
// written anew.
func FuzzSSHPublicKey(f *testing.F) {
	line := sshLine(sshSigner(f).PublicKey())
	for _, seed := range []string{line, line + " c", "restrict " + line, line + "\n" + line, "ssh-rsa AAAA", "", "ssh-ed25519"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := vaultx.ParseSSHPublicKey(text); err != nil {
			requireKind(t, fault.Invalid, err)
			return
		}
		require.Equal(t, 0, strings.Count(strings.TrimSuffix(text, "\n"), "\n"))
		key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
		require.NoError(t, err)
		require.Empty(t, options)
		require.Empty(t, rest)
		again := sshLine(key)
		require.True(t, strings.HasPrefix(text, key.Type()+" "), "%q", text)
		_, err = vaultx.ParseSSHPublicKey(again)
		require.NoError(t, err)
	})
}
