package auth_test

import (
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
)

func TestProxies(t *testing.T) {
	p, err := auth.ParseProxies([]string{"192.0.2.1", "10.0.0.0/8", "2001:db8::/32", "::1"})
	require.NoError(t, err)
	for _, addr := range []string{"192.0.2.1", "10.255.0.1", "::ffff:10.0.0.1", "2001:db8:1::1", "::1", "2001:db8::1%eth0"} {
		require.True(t, p.Trusts(netip.MustParseAddr(addr)), addr)
	}
	for _, addr := range []string{"192.0.2.2", "11.0.0.1", "2001:db9::1", "127.0.0.1", "::", "::10.0.0.1"} {
		require.False(t, p.Trusts(netip.MustParseAddr(addr)), addr)
	}
	require.False(t, p.Trusts(netip.Addr{}))
	var nobody *auth.Proxies
	require.False(t, nobody.Trusts(netip.MustParseAddr("127.0.0.1")))
	for _, bad := range []string{"", "canary", "canary.example", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:10.0.0.1", "::ffff:0:0/96", "fe80::1%eth0", "10.0.0.1:80", " 10.0.0.1"} {
		_, err := auth.ParseProxies([]string{"127.0.0.1", bad})
		require.ErrorIs(t, err, fault.Invalid, bad)
		require.ErrorContains(t, err, "entry 2", bad)
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestBadMTLSOptions(t *testing.T) {
	ca := devstacktest.NewCA(t, "authority")
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	good := file("good", ca.PEM())
	_, key := devstacktest.WritePair(t, dir, ca.Issue(t, "x"))
	keyText, err := os.ReadFile(key)
	require.NoError(t, err)
	critical := ca.Revoke(t, time.Hour)
	for about, tc := range map[string]struct {
		change func(*auth.MTLSOptions)
		want   string
	}{
		"another kind of name": {func(o *auth.MTLSOptions) { o.Identity = "email" }, "MTLS_IDENTITY"},
		"no file":              {func(o *auth.MTLSOptions) { o.CAFile = dir + "/none" }, "TLS_CLIENT_CA_FILE"},
		"an empty file":        {func(o *auth.MTLSOptions) { o.CAFile = file("empty", nil) }, "TLS_CLIENT_CA_FILE"},
		"no PEM":               {func(o *auth.MTLSOptions) { o.CAFile = file("der", ca.Cert.Raw) }, "TLS_CLIENT_CA_FILE"},
		"a key in it":          {func(o *auth.MTLSOptions) { o.CAFile = file("key", append(ca.PEM(), keyText...)) }, "TLS_CLIENT_CA_FILE"},
		"half of one":          {func(o *auth.MTLSOptions) { o.CAFile = file("half", append(ca.PEM()[:200], ca.PEM()...)) }, "TLS_CLIENT_CA_FILE"},
		"far too large":        {func(o *auth.MTLSOptions) { o.CAFile = file("large", make([]byte, 2<<20)) }, "TLS_CLIENT_CA_FILE"},
		"no list":              {func(o *auth.MTLSOptions) { o.CRLFile = file("none", nil) }, "TLS_CLIENT_CRL_FILE"},
		"certificates as list": {func(o *auth.MTLSOptions) { o.CRLFile = good }, "TLS_CLIENT_CRL_FILE"},
		"half a list":          {func(o *auth.MTLSOptions) { o.CRLFile = file("crl", critical[:len(critical)/2]) }, "TLS_CLIENT_CRL_FILE"},
		"nothing to verify by": {func(o *auth.MTLSOptions) { o.CAFile, o.CertHeader = "", "client-cert" }, "MTLS_CERT_HEADER"},
		"a prefix without =":   {func(o *auth.MTLSOptions) { o.VerifyHeader, o.SubjectPrefix = "x-v", "CN" }, "MTLS_SUBJECT_CN_PREFIX"},
		"a prefix of nothing":  {func(o *auth.MTLSOptions) { o.VerifyHeader, o.SubjectPrefix = "x-v", "=" }, "MTLS_SUBJECT_CN_PREFIX"},
	} {
		opt := auth.MTLSOptions{Identity: "uri", CAFile: good}
		tc.change(&opt)
		_, err := auth.New(auth.Options{Prefix: "mcp", MTLS: &opt})
		require.ErrorIs(t, err, fault.Invalid, about)
		require.ErrorContains(t, err, tc.want, about)
		require.NotContains(t, err.Error(), dir, about)
	}
}

// What is known of a certificate ends with it, and with the list of its
// authority, to the second, also where it was found good before.
func TestEndOfCertificates(t *testing.T) {
	ca := devstacktest.NewCA(t, "authority")
	dir := t.TempDir()
	cas, crl := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "crl.pem")
	require.NoError(t, os.WriteFile(cas, ca.PEM(), 0o600))
	require.NoError(t, os.WriteFile(crl, ca.Revoke(t, 10*time.Minute), 0o600))
	leaf := ca.Issue(t, "agent", devstacktest.Ends(30*time.Second)).Leaf
	longer := ca.Issue(t, "agent").Leaf
	now := time.Now()
	a := authenticator(t, "", func(o *auth.Options) {
		o.MTLS = &auth.MTLSOptions{Identity: "cn", CAFile: cas, CRLFile: crl}
		o.Now = func() time.Time { return now }
	})
	show := func(cert *x509.Certificate) error {
		_, err := a.Authenticate(t.Context(), auth.Presented{Certificates: []*x509.Certificate{cert}})
		return err
	}
	p, err := a.Authenticate(t.Context(), auth.Presented{Certificates: []*x509.Certificate{leaf}})
	require.NoError(t, err)
	require.Equal(t, "agent", p.Slug)
	require.Equal(t, auth.MethodMTLS, p.Method)
	require.Equal(t, auth.AllScopes(), p.Scopes)
	require.Equal(t, leaf.NotAfter, p.ExpiresAt)
	require.NoError(t, show(longer))
	now = leaf.NotAfter.Add(time.Second)
	require.ErrorIs(t, show(leaf), fault.Unauthenticated)
	require.NoError(t, show(longer))
	now = now.Add(10 * time.Minute)
	require.ErrorContains(t, show(longer), "no current list")
}

// A revocation is heeded within seconds, though the certificate was found good
// just before.
func TestRevocationIsTakenUp(t *testing.T) {
	ca := devstacktest.NewCA(t, "authority")
	dir := t.TempDir()
	cas, crl := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "crl.pem")
	require.NoError(t, os.WriteFile(cas, ca.PEM(), 0o600))
	require.NoError(t, os.WriteFile(crl, ca.Revoke(t, time.Hour), 0o600))
	leaf, other := ca.Issue(t, "agent").Leaf, ca.Issue(t, "other").Leaf
	a := authenticator(t, "", func(o *auth.Options) { o.MTLS = &auth.MTLSOptions{Identity: "cn", CAFile: cas, CRLFile: crl} })
	show := func(cert *x509.Certificate) error {
		_, err := a.Authenticate(t.Context(), auth.Presented{Certificates: []*x509.Certificate{cert}})
		return err
	}
	require.NoError(t, show(leaf))
	require.NoError(t, os.WriteFile(crl, ca.Revoke(t, time.Hour, leaf), 0o600))
	require.Eventually(t, func() bool { return show(leaf) != nil }, 10*time.Second, 20*time.Millisecond)
	require.ErrorContains(t, show(leaf), "revoked")
	require.NoError(t, show(other))
}

// What cannot be read is told at once, and in force only so long, where there is
// an end to patience.
func TestWatchedFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	synctest.Test(t, func(t *testing.T) {
		write := func(text string) { require.NoError(t, os.WriteFile(name, []byte(text), 0o600)) }
		write("one")
		read := func() (string, error) {
			data, err := os.ReadFile(name)
			if err != nil || strings.HasPrefix(string(data), "bad") {
				return "", fault.New(fault.Invalid, "it is not right")
			}
			return string(data), nil
		}
		var told []error
		w, err := auth.Watch([]string{name}, read, auth.WatchOptions{Patience: time.Minute, Told: func(err error) { told = append(told, err) }})
		require.NoError(t, err)
		forever, err := auth.Watch([]string{name}, read, auth.WatchOptions{})
		require.NoError(t, err)
		require.Equal(t, "one", w.Current())
		write("second")
		require.Equal(t, "one", w.Current(), "looked at a moment ago")
		time.Sleep(time.Second)
		require.Equal(t, "second", w.Current())
		require.Equal(t, "second", forever.Current())
		require.Equal(t, []error{nil}, told)

		write("bad, very")
		time.Sleep(2 * time.Second)
		require.Equal(t, "second", w.Current())
		require.Error(t, w.Failure())
		time.Sleep(2 * time.Second)
		require.Error(t, w.Failure())
		require.Len(t, told, 2, "once")
		require.Error(t, told[1])
		time.Sleep(time.Minute)
		require.Empty(t, w.Current())
		require.Equal(t, "second", forever.Current())

		write("third, good")
		time.Sleep(2 * time.Second)
		require.Equal(t, "third, good", w.Current())
		require.NoError(t, w.Failure())
		require.Len(t, told, 3)
		require.NoError(t, told[2])
	})
	_, err := auth.Watch([]string{name + "-none"}, func() (int, error) { return 0, fault.New(fault.Invalid, "no") }, auth.WatchOptions{})
	require.Error(t, err)
}

func FuzzDN(f *testing.F) {
	for _, dn := range []string{
		"CN=dev,OU=agents,O=Example", `CN=a\,CN\=b`, "CN=#0C00", "CN=a+UID=b", "/C=US/CN=a", `CN=\C3\A9`, `CN=a\ ,O=b`, "2.5.4.3=x", "CN=", ",", `CN=\`,
	} {
		f.Add(dn)
	}
	f.Fuzz(func(t *testing.T, dn string) {
		for _, older := range []bool{false, true} {
			name, err := auth.CommonName(dn, older)
			if err != nil {
				require.ErrorIs(t, err, fault.Unauthenticated)
				continue
			}
			// Who is named is named by text that can be shown and stands there but for
			// escapes, and written again it names the same.
			require.NotEmpty(t, name)
			require.Regexp(t, `^[\PC\PZ]+$`, name)
			if older {
				require.Contains(t, dn, "="+name)
				continue
			}
			again, err := auth.CommonName("O=x,CN="+escapeDN(name)+",OU=y", false)
			require.NoError(t, err)
			require.Equal(t, name, again)
			// To write a second one beside it makes nobody of it.
			_, err = auth.CommonName(dn+",CN=admin", false)
			require.Error(t, err)
			_, err = auth.CommonName("CN=admin,"+dn, false)
			require.Error(t, err)
		}
	})
}

// escapeDN writes a value as RFC 4514 has it, every byte in hexadecimal that is
// no letter.
func escapeDN(value string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'\\', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func FuzzCertificateHeader(f *testing.F) {
	f.Add(":AAAA:")
	f.Add("-----BEGIN%20CERTIFICATE-----%0A")
	f.Add("%zz")
	f.Fuzz(func(t *testing.T, value string) {
		certs, err := auth.CertificatesOf(value)
		if err != nil {
			require.ErrorIs(t, err, fault.Unauthenticated)
			return
		}
		require.NotEmpty(t, certs)
	})
}
