package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/secret"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// knows makes the server one that knows callers by API key and certificate.
func knows(t testing.TB, opt auth.MTLSOptions) change {
	t.Helper()
	if opt.Identity == "" {
		opt.Identity = "uri"
	}
	a, err := auth.New(auth.Options{
		Prefix: "mcp", APIKeys: true, KeysJSON: secret.NewText(`{"` + aliceKey + `-long": "alice"}`), MTLS: &opt,
	})
	require.NoError(t, err)
	return func(o *server.Options, _ *tools.Options) {
		o.Authenticate, o.Proxies = a.Authenticate, opt.Proxies
		o.Ready = map[string]func(context.Context) error{"keys": a.Check}
	}
}

// trusting makes proxies of addresses.
func trusting(t testing.TB, list ...string) *auth.Proxies {
	t.Helper()
	p, err := auth.ParseProxies(list)
	require.NoError(t, err)
	return p
}

func writeFile(t testing.TB, data ...[]byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.pem")
	require.NoError(t, os.WriteFile(name, []byte(strings.Join(texts(data), "")), 0o600))
	return name
}

func texts(data [][]byte) (list []string) {
	for _, d := range data {
		list = append(list, string(d))
	}
	return list
}

// whoami asks who the server takes the client for.
func (s *stack) whoami(t testing.TB, path string, headers ...string) reply {
	t.Helper()
	body := message(t, 1, "tools/call", object{"name": "whoami", "arguments": object{}})
	return s.do(t, http.MethodPost, path, body, append([]string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}, headers...)...)
}

// known wants the client to be taken for a subject.
func (s *stack) known(t testing.TB, subject string, headers ...string) {
	t.Helper()
	slug, err := auth.Slug(subject)
	require.NoError(t, err)
	r := s.whoami(t, "/mcp/rpc", headers...)
	require.Equal(t, http.StatusOK, r.status, r.raw)
	require.Equal(t, slug, r.result(t)["structuredContent"].(object)["subject"])
}

// refused wants a request refused for its credential: by 401, with one record of
// it, nothing told and Vault not reached. It gives what the record says.
func (s *stack) refused(t testing.TB, about string, headers ...string) string {
	t.Helper()
	before, asked := len(s.records(t, audit.Reject)), s.vault.requests()
	body := message(t, 1, "tools/call", object{"name": "kv.read", "arguments": object{"path": "a"}})
	r := s.do(t, http.MethodPost, "/mcp/rpc", body, append([]string{"Content-Type", "application/json"}, headers...)...)
	require.Equal(t, http.StatusUnauthorized, r.status, "%s: %s", about, r.raw)
	require.Equal(t, "a valid credential is needed", r.refusal(t).Message, about)
	rec := s.rejected(t, before)
	require.Equal(t, "unauthenticated", rec.Outcome, about)
	require.Empty(t, rec.Subject, about)
	require.Equal(t, asked, s.vault.requests(), about)
	return rec.Detail
}

func unknownExtension() []pkix.Extension {
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: []byte{5, 0}}}
}

// commonNames gives a certificate further CNs.
func commonNames(list ...string) devstacktest.Change {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = ""
		for _, name := range list {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name})
		}
	}
}

// rawName gives a certificate a CN of a kind of string.
func rawName(tag int, value string) devstacktest.Change {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = ""
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{
			Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: tag, Bytes: []byte(value)},
		}}
	}
}

// escapedPEM is a certificate as nginx and Envoy send it.
func escapedPEM(pair tls.Certificate) string {
	return strings.ReplaceAll(url.QueryEscape(string(devstacktest.CertPEM(pair.Leaf))), "+", "%20")
}

// rfc9440 is a certificate as RFC 9440 has it.
func rfc9440(pair tls.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(pair.Leaf.Raw) + ":"
}

// tls509 is the certificate of an authority, as if it were a client's.
func tls509(ca *devstacktest.CA) tls.Certificate { return tls.Certificate{Leaf: ca.Cert} }

func weak(t testing.TB, ca *devstacktest.CA) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	pair := ca.Issue(t, "right key, other name")
	pair.PrivateKey = key
	return pair
}
