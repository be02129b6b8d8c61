package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/server"
	"vault-mcp/tools"
)

func TestClientCertificates(t *testing.T) {
	ca := devstacktest.NewCA(t, "clients")
	between := ca.Between(t, "between")
	s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, auth.MTLSOptions{CAFile: writeFile(t, ca.PEM())}))
	for about, pair := range map[string]tls.Certificate{
		"of the authority":       ca.Issue(t, "other", devstacktest.URI("spiffe://td/agent")),
		"of one between":         between.Issue(t, "other", devstacktest.URI("spiffe://td/agent")),
		"with other kinds, too":  ca.Issue(t, "root", devstacktest.URI("spiffe://td/agent"), devstacktest.DNS("a.example", "b.example")),
		"two CNs, which are not": ca.Issue(t, "", devstacktest.URI("spiffe://td/agent"), commonNames("a", "b")),
	} {
		for _, path := range []string{"/mcp", "/mcp/rpc"} {
			me := s.as(t, pair)
			if path == "/mcp" {
				r := me.do(t, http.MethodPost, path, initialize(t, legacy, "test"), "Content-Type", "application/json", "Accept", "application/json, text/event-stream")
				require.Equal(t, http.StatusOK, r.status, r.raw)
				continue
			}
			t.Log(about)
			me.known(t, "spiffe://td/agent")
			rec := s.records(t, audit.Outcome)
			require.Regexp(t, `^cert-[0-9a-f]{16}$`, rec[len(rec)-1].CredentialID)
			require.Equal(t, "mtls", rec[len(rec)-1].AuthMethod)
		}
	}
	good := ca.Issue(t, "agent", devstacktest.URI("spiffe://td/agent"))
	nameless := ca.Issue(t, "agent")
	key := aliceKey + "-long"

	// A key beside a certificate counts, and a bad key is no reason to look further.
	for _, pair := range []tls.Certificate{good, nameless} {
		s.as(t, pair).known(t, "alice", "X-API-Key", key)
	}
	s.as(t, good).refused(t, "a bad key", "X-API-Key", "wrong-key-"+marked)
	s.as(t, good).refused(t, "an empty key", "X-API-Key", "")
	s.as(t, good).refused(t, "a bad bearer", "Authorization", "Bearer wrong")
	s.known(t, "alice", "X-API-Key", key)
	s.refused(t, "nothing")
	require.Contains(t, s.refused(t, "headers of a proxy that is none", "X-SSL-Client-Verify", "SUCCESS", "X-SSL-Client-S-DN", "CN=admin"), "a credential is needed")
	s.as(t, good).known(t, "spiffe://td/agent", "X-SSL-Client-Verify", "SUCCESS", "X-SSL-Client-S-DN", "CN=admin")
}

// Every certificate that is not good is refused as any bad credential is, also
// beside a good key: it is there, and bad.
func TestBadClientCertificates(t *testing.T) {
	ca, stranger := devstacktest.NewCA(t, "clients"), devstacktest.NewCA(t, "clients")
	constrained := ca.Between(t, "constrained", func(c *x509.Certificate) {
		c.PermittedURIDomains, c.PermittedDNSDomainsCritical = []string{"permitted.example"}, true
	})
	uri := devstacktest.URI("spiffe://td/canary")
	good := ca.Issue(t, "agent", devstacktest.URI("spiffe://td/agent"))
	deep := ca
	for range 50 {
		deep = deep.Between(t, "deep")
	}
	selfSigned := devstacktest.NewCA(t, "agent").Issue(t, "agent", uri)
	revoked := ca.Issue(t, "agent", uri)
	withdrawn := ca.Between(t, "withdrawn")
	late := ca.Between(t, "late")
	for about, tc := range map[string]struct {
		pair tls.Certificate
		said string
	}{
		"expired":              {ca.Issue(t, "agent", uri, devstacktest.Ends(-time.Minute)), "has expired"},
		"not yet valid":        {ca.Issue(t, "agent", uri, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "not valid yet"},
		"for servers":          {ca.Issue(t, "agent", uri, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "not one for clients"},
		"of a stranger":        {stranger.Issue(t, "agent", uri), "not one for clients of an authority"},
		"self-signed":          {selfSigned, "not one for clients of an authority"},
		"name constraints":     {constrained.Issue(t, "agent", uri), "not one for clients of an authority"},
		"critical and unknown": {ca.Issue(t, "agent", uri, func(c *x509.Certificate) { c.ExtraExtensions = unknownExtension() }), "not one for clients of an authority"},
		"fifty between":        {deep.Issue(t, "agent", uri), "too many certificates"},
		"none between":         {tls.Certificate{Certificate: deep.Issue(t, "agent", uri).Certificate[:1], PrivateKey: good.PrivateKey}, ""},
		"revoked":              {revoked, "is revoked"},
		"one between revoked":  {withdrawn.Issue(t, "agent", uri), "is revoked"},
		"its list is old":      {late.Issue(t, "agent", uri), "no current list"},
		"its list is missing":  {ca.Between(t, "listless").Issue(t, "agent", uri), "no current list"},
	} {
		t.Run(about, func(t *testing.T) {
			lists := writeFile(t, ca.Revoke(t, time.Hour, revoked.Leaf, withdrawn.Cert), withdrawn.Revoke(t, time.Hour), late.Revoke(t, -time.Minute), stranger.Revoke(t, time.Hour))
			s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, auth.MTLSOptions{CAFile: writeFile(t, ca.PEM()), CRLFile: lists}))
			if tc.said == "" { // without the key of its own, TLS does not come about
				_, err := s.client(t, tc.pair).Get(s.url + "/livez")
				require.Error(t, err)
				return
			}
			s.as(t, good).known(t, "spiffe://td/agent")
			bad := s.as(t, tc.pair)
			require.Contains(t, bad.refused(t, about), tc.said)
			require.Contains(t, bad.refused(t, about+" beside a good key", "X-API-Key", aliceKey+"-long"), tc.said)
			s.unheard(t, "td/canary")
		})
	}
}

// One name of the kind that is asked for names the caller: not none, not two,
// and not one of another kind.
func TestNamesOfCertificates(t *testing.T) {
	ca := devstacktest.NewCA(t, "clients")
	uri, dns := devstacktest.URI, devstacktest.DNS
	for identity, cases := range map[string]map[string]struct {
		pair tls.Certificate
		want string // the subject; empty: refused
	}{
		"uri": {
			"one":           {ca.Issue(t, "admin", uri("spiffe://td/a"), dns("b.example")), "spiffe://td/a"},
			"as it stands":  {ca.Issue(t, "", uri("spiffe://td/a%2Fb")), "spiffe://td/a%2Fb"},
			"none":          {ca.Issue(t, "admin", dns("b.example")), ""},
			"two":           {ca.Issue(t, "admin", uri("spiffe://td/a", "spiffe://td/b")), ""},
			"the same two":  {ca.Issue(t, "admin", uri("spiffe://td/a", "spiffe://td/a")), ""},
			"too long":      {ca.Issue(t, "admin", uri("spiffe://td/"+strings.Repeat("a", 200))), ""},
			"too many else": {ca.Issue(t, "admin", uri("spiffe://td/a"), dns(strings.Split(strings.Repeat("a.example ", 70)+"b.example", " ")...)), ""},
		},
		"dns": {
			"one":  {ca.Issue(t, "admin", uri("spiffe://td/a"), dns("b.example")), "b.example"},
			"none": {ca.Issue(t, "b.example"), ""},
			"two":  {ca.Issue(t, "b.example", dns("b.example", "c.example")), ""},
		},
		"cn": {
			"one":     {ca.Issue(t, "b", uri("spiffe://td/a"), dns("admin")), "b"},
			"words":   {ca.Issue(t, "Größe, Frau"), "Größe, Frau"},
			"none":    {ca.Issue(t, "", uri("spiffe://td/a")), ""},
			"empty":   {ca.Issue(t, "", commonNames("")), ""},
			"two":     {ca.Issue(t, "", commonNames("a", "admin")), ""},
			"NUL":     {ca.Issue(t, "admin\x00.example"), ""},
			"line":    {ca.Issue(t, "admin\nroot"), ""},
			"unseen":  {ca.Issue(t, "admin\u200b"), ""},
			"reverse": {ca.Issue(t, "\u202enimda"), ""},
			"bytes":   {ca.Issue(t, "", rawName(0x14, "adm\xefn")), "admïn"}, // T61, which is Latin-1
			"a DN":    {ca.Issue(t, "a,CN=root"), "a,CN=root"},
		},
	} {
		s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, auth.MTLSOptions{Identity: identity, CAFile: writeFile(t, ca.PEM())}))
		for about, tc := range cases {
			t.Run(identity+" "+about, func(t *testing.T) {
				me := s.as(t, tc.pair)
				if tc.want == "" {
					require.NotContains(t, me.refused(t, about), "admin")
					return
				}
				me.known(t, tc.want)
			})
		}
	}
}

// Twins of a name are different principals.
func TestTwinsOfNames(t *testing.T) {
	ca := devstacktest.NewCA(t, "clients")
	s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, auth.MTLSOptions{Identity: "cn", CAFile: writeFile(t, ca.PEM())}))
	seen := map[string]string{}
	for _, name := range []string{"admin", "Admin", "аdmin", "admin.", "admin-x", "é", "e\u0301", "spiffe://td/a", "spiffe:==td=a"} {
		r := s.as(t, ca.Issue(t, name)).whoami(t, "/mcp/rpc")
		slug, ok := r.result(t)["structuredContent"].(object)["prefix"].(string)
		require.True(t, ok, r.raw)
		require.Empty(t, seen[slug], name)
		seen[slug] = name
	}
}

// What an authority takes back, and what the operator no longer trusts, ends on
// connections and streams that are open.
func TestAuthoritiesAreReplaced(t *testing.T) {
	ca, other := devstacktest.NewCA(t, "clients"), devstacktest.NewCA(t, "other clients")
	cas := writeFile(t, ca.PEM())
	s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, auth.MTLSOptions{CAFile: cas}),
		func(o *server.Options, _ *tools.Options) { o.Recheck = 50 * time.Millisecond })
	me := s.as(t, ca.Issue(t, "a", devstacktest.URI("spiffe://td/a")))
	them := s.as(t, other.Issue(t, "b", devstacktest.URI("spiffe://td/b")))
	accept := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}
	r := me.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), accept...)
	require.Equal(t, http.StatusOK, r.status)
	req, err := http.NewRequest(http.MethodGet, s.url+"/mcp", nil)
	require.NoError(t, err)
	req.Header = http.Header{"Accept": {"text/event-stream"}, "Mcp-Session-Id": r.header["Mcp-Session-Id"]}
	stream, err := me.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = stream.Body.Close() }()
	require.Equal(t, http.StatusOK, stream.StatusCode)
	them.refused(t, "of another authority")

	require.NoError(t, os.WriteFile(cas, other.PEM(), 0o600))
	eventually(t, "the new authority counts", func() bool {
		time.Sleep(50 * time.Millisecond) // a flood of refusals is not recorded one by one
		return them.whoami(t, "/mcp/rpc").status == http.StatusOK
	})
	me.refused(t, "of the authority before, on the connection of before")
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, stream.Body); ended <- err }()
	receive(t, "the stream ends", ended)

	require.NoError(t, os.WriteFile(cas, other.PEM()[:100], 0o600))
	eventually(t, "a broken file shows", func() bool {
		return s.do(t, http.MethodGet, "/readyz", "").status == http.StatusServiceUnavailable
	})
	require.Equal(t, http.StatusOK, them.whoami(t, "/mcp/rpc").status, "the authorities of before are in force for a while")
}

// The key in a certificate is what TLS asks for.
func TestCertificateWithoutItsKey(t *testing.T) {
	ca := devstacktest.NewCA(t, "clients")
	s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, auth.MTLSOptions{Identity: "cn", CAFile: writeFile(t, ca.PEM())}))
	_, err := s.client(t, weak(t, ca)).Get(s.url + "/livez")
	require.Error(t, err)
	require.Empty(t, s.records(t, audit.Attempt))
}
