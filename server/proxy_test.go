package server_test

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// byHeaders is how a proxy is configured in the prototype.
func byHeaders(proxies *auth.Proxies) auth.MTLSOptions {
	return auth.MTLSOptions{
		Proxies: proxies, VerifyHeader: "x-ssl-client-verify", SubjectHeader: "x-ssl-client-s-dn", SubjectPrefix: "CN=",
	}
}

const verify, subject = "X-SSL-Client-Verify", "X-SSL-Client-S-DN"

func TestSubjectsOfAProxy(t *testing.T) {
	s := listen(t, knows(t, byHeaders(trusting(t, "127.0.0.1"))))
	for dn, want := range map[string]string{
		"CN=dev":                       "dev",
		"CN=dev,OU=agents,O=Example":   "dev",
		"O=Example, OU=agents, CN=dev": "dev",
		"C=US,O=x\\,CN\\=root,cn=dev":  "dev",
		"C=US,O=x=y,2.5.4.3=dev":       "dev",
		"CN=Gr\\C3\\B6\\C3\\9Fe":       "Größe",
		"CN=a\\+UID\\=admin":           "a+UID=admin",
		"CN=a\\\\":                     `a\`,
	} {
		s.known(t, want, verify, "SUCCESS", subject, dn)
	}
	rec := s.records(t, audit.Outcome)
	require.Regexp(t, `^dn-[0-9a-f]{16}$`, rec[0].CredentialID)
	key := aliceKey + "-long"
	s.known(t, "alice", "X-API-Key", key, verify, "SUCCESS", subject, "CN=dev")
	s.known(t, "alice", "X-API-Key", key, verify, "NONE")
	s.refused(t, "a bad key beside a certificate", "X-API-Key", "wrong", verify, "SUCCESS", subject, "CN=dev")
	s.refused(t, "a failed certificate beside a key", "X-API-Key", key, verify, "FAILED:expired", subject, "CN=dev")
}

// badSubjects are headers that make nobody of a client, whoever sends them.
var badSubjects = map[string][]string{
	"no subject":              {verify, "SUCCESS"},
	"an empty subject":        {verify, "SUCCESS", subject, ""},
	"no word of the proxy":    {subject, "CN=admin"},
	"an empty word":           {verify, "", subject, "CN=admin"},
	"none":                    {verify, "NONE", subject, "CN=admin"},
	"none at all":             {verify, "NONE"},
	"failed":                  {verify, "FAILED:self signed certificate", subject, "CN=admin"},
	"lower case":              {verify, "success", subject, "CN=admin"},
	"two words":               {verify, "SUCCESS, NONE", subject, "CN=admin"},
	"two words of one":        {verify, "SUCCESS,SUCCESS", subject, "CN=admin"},
	"blanks within":           {verify, "SUC CESS", subject, "CN=admin"},
	"the word twice":          {verify, "SUCCESS", verify, "SUCCESS", subject, "CN=admin"},
	"the word and none":       {verify, "SUCCESS", verify, "NONE", subject, "CN=admin"},
	"the subject twice":       {verify, "SUCCESS", subject, "CN=a", subject, "CN=admin"},
	"underscores":             {"X_SSL_Client_Verify", "SUCCESS", "X_SSL_Client_S_DN", "CN=admin"},
	"underscore, in part":     {"X-SSL-Client_Verify", "SUCCESS", subject, "CN=admin"},
	"hop by hop":              {verify, "SUCCESS", subject, "CN=admin", "Connection", "X-SSL-Client-Verify"},
	"hop by hop, of many":     {verify, "SUCCESS", subject, "CN=admin", "Connection", "keep-alive, x-ssl-client-s-dn"},
	"another header":          {"X-SSL-Client-CN", "admin", verify, "SUCCESS"},
	"escaped comma":           {verify, "SUCCESS", subject, `CN=admin,OU=x\,CN=root,CN=b`},
	"no DN":                   {verify, "SUCCESS", subject, "admin"},
	"two CNs":                 {verify, "SUCCESS", subject, "CN=a,CN=admin"},
	"two CNs by number":       {verify, "SUCCESS", subject, "CN=a,2.5.4.3=admin"},
	"two CNs by long name":    {verify, "SUCCESS", subject, "commonName=a,cn=admin"},
	"no CN":                   {verify, "SUCCESS", subject, "UID=admin,O=x"},
	"an empty CN":             {verify, "SUCCESS", subject, "CN=,O=x"},
	"two in one part":         {verify, "SUCCESS", subject, "CN=a+UID=admin"},
	"NUL":                     {verify, "SUCCESS", subject, `CN=admin\00.example`},
	"line break":              {verify, "SUCCESS", subject, `CN=admin\0Aroot`},
	"half a rune":             {verify, "SUCCESS", subject, `CN=adm\C3`},
	"bytes":                   {verify, "SUCCESS", subject, "CN=adm\xefn"},
	"in hexadecimal":          {verify, "SUCCESS", subject, "CN=#0C0561646D696E"},
	"quoted":                  {verify, "SUCCESS", subject, `CN="admin"`},
	"semicolons":              {verify, "SUCCESS", subject, "CN=admin;O=x"},
	"the form of OpenSSL":     {verify, "SUCCESS", subject, "/C=US/CN=admin"},
	"two in that form":        {verify, "SUCCESS", subject, "/C=US/CN=a/CN=admin"},
	"a comma at the end":      {verify, "SUCCESS", subject, "CN=admin,"},
	"a backslash at the end":  {verify, "SUCCESS", subject, `CN=admin\`},
	"a blank in front":        {verify, "SUCCESS", subject, "CN= admin"},
	"an unknown escape":       {verify, "SUCCESS", subject, `CN=ad\min`},
	"far too long":            {verify, "SUCCESS", subject, "CN=admin,O=" + strings.Repeat("x", 20<<10)},
	"a name that is too long": {verify, "SUCCESS", subject, "CN=" + strings.Repeat("x", 129)},
}

func TestBadHeadersOfAProxy(t *testing.T) {
	s := listen(t, knows(t, byHeaders(trusting(t, "127.0.0.0/8"))))
	for about, headers := range badSubjects {
		require.NotContains(t, s.refused(t, about, headers...), "admin")
	}
	s.unheard(t, "admin")
}

// From anybody else the headers do not exist: good ones make nobody of a client,
// and bad ones do not matter beside a key.
func TestHeadersOfStrangers(t *testing.T) {
	s := listen(t, knows(t, byHeaders(trusting(t, "192.0.2.1", "127.0.0.2"))))
	require.Contains(t, s.refused(t, "all right but the sender", verify, "SUCCESS", subject, "CN=admin"), "TRUSTED_PROXIES")
	require.Contains(t, s.refused(t, "who says to be one", verify, "SUCCESS", subject, "CN=admin", "X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1"), "TRUSTED_PROXIES")
	for about, headers := range badSubjects {
		s.refused(t, about, headers...)
		s.known(t, "alice", append(headers, "X-API-Key", aliceKey+"-long")...)
	}
	s.unheard(t, "admin")
}

// OpenSSL's older form is read only where it is asked for, and then no other.
func TestOlderFormOfSubjects(t *testing.T) {
	opt := byHeaders(trusting(t, "127.0.0.1"))
	opt.SubjectPrefix = "/CN="
	s := listen(t, knows(t, opt))
	s.known(t, "dev", verify, "SUCCESS", subject, "/C=US/O=A, B/CN=dev")
	for _, dn := range []string{"CN=admin", "/C=US/CN=a/CN=admin", "/CN=", "/CN=a/admin", `/CN=admin\x00`, "/O=x", "C=US/CN=admin", "//CN=admin", "/CN=admin/"} {
		s.refused(t, dn, verify, "SUCCESS", subject, dn)
	}
}

// A proxy that sends the certificate itself need not be believed what it says.
func TestCertificatesOfAProxy(t *testing.T) {
	ca, stranger := devstacktest.NewCA(t, "clients"), devstacktest.NewCA(t, "clients")
	uri := devstacktest.URI("spiffe://td/agent")
	opt := byHeaders(trusting(t, "127.0.0.1"))
	opt.CAFile, opt.CertHeader = writeFile(t, ca.PEM()), "client-cert"
	s := listen(t, knows(t, opt))
	good, between := ca.Issue(t, "other", uri), ca.Between(t, "between")
	indirect := between.Issue(t, "other", uri)
	chain := escapedPEM(indirect) + escapedPEM(tls509(between))
	for about, value := range map[string]string{"RFC 9440": rfc9440(good), "escaped PEM": escapedPEM(good), "with one between": chain} {
		t.Log(about)
		s.known(t, "spiffe://td/agent", verify, "SUCCESS", "Client-Cert", value, subject, "CN=admin")
	}
	for about, headers := range map[string][]string{
		"a subject alone":   {verify, "SUCCESS", subject, "CN=admin"},
		"no word":           {"Client-Cert", rfc9440(good)},
		"failed":            {verify, "FAILED", "Client-Cert", rfc9440(good)},
		"twice":             {verify, "SUCCESS", "Client-Cert", rfc9440(good), "Client-Cert", rfc9440(good)},
		"two in one":        {verify, "SUCCESS", "Client-Cert", rfc9440(good) + ", " + rfc9440(good)},
		"hop by hop":        {verify, "SUCCESS", "Client-Cert", rfc9440(good), "Connection", "client-cert"},
		"no colons":         {verify, "SUCCESS", "Client-Cert", strings.Trim(rfc9440(good), ":")},
		"one colon":         {verify, "SUCCESS", "Client-Cert", strings.TrimSuffix(rfc9440(good), ":")},
		"parameters":        {verify, "SUCCESS", "Client-Cert", rfc9440(good) + ";a=b"},
		"not base64":        {verify, "SUCCESS", "Client-Cert", ":???:"},
		"cut off":           {verify, "SUCCESS", "Client-Cert", rfc9440(good)[:100] + ":"},
		"nothing":           {verify, "SUCCESS", "Client-Cert", "::"},
		"PEM cut off":       {verify, "SUCCESS", "Client-Cert", escapedPEM(good)[:200]},
		"a key":             {verify, "SUCCESS", "Client-Cert", strings.ReplaceAll(escapedPEM(good), "CERTIFICATE", "PRIVATE%20KEY")},
		"bad escapes":       {verify, "SUCCESS", "Client-Cert", escapedPEM(good) + "%zz"},
		"of a stranger":     {verify, "SUCCESS", "Client-Cert", rfc9440(stranger.Issue(t, "admin", uri))},
		"expired":           {verify, "SUCCESS", "Client-Cert", rfc9440(ca.Issue(t, "admin", uri, devstacktest.Ends(-1)))},
		"without a URI":     {verify, "SUCCESS", "Client-Cert", rfc9440(ca.Issue(t, "admin"))},
		"the one between":   {verify, "SUCCESS", "Client-Cert", rfc9440(indirect)},
		"far too long":      {verify, "SUCCESS", "Client-Cert", ":" + strings.Repeat("A", 20<<10) + ":"},
		"beside a good key": {verify, "SUCCESS", "Client-Cert", "::", "X-API-Key", aliceKey + "-long"},
	} {
		s.refused(t, about, headers...)
	}
}

// A trusted proxy speaks for others, and its own certificate makes nobody of
// them.
func TestCertificateOfTheProxyItself(t *testing.T) {
	ca := devstacktest.NewCA(t, "clients")
	opt := byHeaders(trusting(t, "127.0.0.1"))
	opt.CAFile = writeFile(t, ca.PEM())
	s := listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, opt))
	proxy := s.as(t, ca.Issue(t, "proxy", devstacktest.URI("spiffe://td/proxy")))
	proxy.refused(t, "for a client without a certificate")
	proxy.refused(t, "for a client without a certificate", verify, "NONE")
	proxy.known(t, "dev", verify, "SUCCESS", subject, "CN=dev")

	failed := &countingAddresses{}
	count := func(o *server.Options, _ *tools.Options) { o.Addresses = failed }
	s = listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, opt), count)
	s.as(t, ca.Issue(t, "proxy", devstacktest.URI("spiffe://td/proxy"))).refused(t, "a client that tried nothing")
	require.Zero(t, failed.failed)
	opt.Proxies = nil
	s = listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, opt), count)
	s.as(t, devstacktest.NewCA(t, "others").Issue(t, "x", devstacktest.URI("spiffe://td/x"))).refused(t, "a certificate of a caller's own")
	require.Equal(t, 1, failed.failed)

	opt.Proxies = trusting(t, "127.0.0.1")
	opt.VerifyHeader = "" // trusted with addresses alone
	s = listenTLS(t, server.TLSOptions{ClientCertificates: true}, knows(t, opt))
	s.refused(t, "headers that are not asked for", verify, "SUCCESS", subject, "CN=admin")
}

// seenAddresses is a limiter that notes whom it was asked about.
type seenAddresses struct {
	asked, failed chan string
}

func (a *seenAddresses) Allow(addr string) bool { a.asked <- addr; return true }
func (a *seenAddresses) Failed(addr string)     { a.failed <- addr }

// The client's address is what the last trusted proxy says it is, for limits,
// failures and records; whatever stands before that is the client's invention.
func TestAddressBehindProxies(t *testing.T) {
	const xff, forwarded = "X-Forwarded-For", "Forwarded"
	behind := func(header string, list ...string) (*stack, *seenAddresses) {
		a := &seenAddresses{make(chan string, 1), make(chan string, 1)}
		return listen(t, func(o *server.Options, _ *tools.Options) {
			o.Addresses, o.Proxies, o.ForwardedBy = a, trusting(t, list...), header
		}), a
	}
	for _, group := range []struct {
		header  string
		trusted []string
		cases   map[string][]string // the address, then the headers
	}{
		{"", nil, map[string][]string{
			"nobody is trusted": {"127.0.0.1", xff, "198.51.100.7", forwarded, "for=198.51.100.7"},
		}},
		{"", []string{"192.0.2.0/24"}, map[string][]string{
			"the peer is not": {"127.0.0.1", xff, "198.51.100.7, 192.0.2.1"},
		}},
		{"", []string{"127.0.0.1", "192.0.2.0/24", "2001:db8:1::/48"}, map[string][]string{
			"one proxy":           {"198.51.100.7", xff, "198.51.100.7"},
			"invented before":     {"198.51.100.7", xff, "203.0.113.9, 198.51.100.7"},
			"invented header":     {"198.51.100.7", xff, "203.0.113.9", xff, "198.51.100.7"},
			"invented proxies":    {"198.51.100.7", xff, "203.0.113.9, 192.0.2.1, 198.51.100.7, 192.0.2.2"},
			"two proxies":         {"198.51.100.7", xff, "198.51.100.7,192.0.2.1"},
			"with a port":         {"198.51.100.7", xff, "198.51.100.7:4711"},
			"IPv6":                {"2001:db8::7", xff, "2001:db8::7, 2001:db8:1::1"},
			"IPv6 and port":       {"2001:db8::7", xff, "[2001:db8::7]:4711"},
			"IPv4 in IPv6":        {"198.51.100.7", xff, "::ffff:198.51.100.7"},
			"proxies alone":       {"192.0.2.1", xff, "192.0.2.1, 192.0.2.2"},
			"nothing said":        {"127.0.0.1"},
			"nothing in it":       {"127.0.0.1", xff, ""},
			"no address":          {"127.0.0.1", xff, "198.51.100.7, unknown"},
			"no address further":  {"192.0.2.1", xff, "evil, 192.0.2.1"},
			"a comma at the end":  {"127.0.0.1", xff, "198.51.100.7,"},
			"the other header":    {"127.0.0.1", forwarded, "for=198.51.100.7", "X-Real-IP", "198.51.100.7"},
			"endless":             {"192.0.2.1", xff, "198.51.100.7" + strings.Repeat(", 192.0.2.1", 500)},
			"names without sense": {"198.51.100.7", xff, "198.51.100.7", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "gopher"},
		}},
		{"forwarded", []string{"127.0.0.1", "192.0.2.0/24"}, map[string][]string{
			"one proxy":        {"198.51.100.7", forwarded, "for=198.51.100.7;proto=https;by=192.0.2.1"},
			"invented before":  {"198.51.100.7", forwarded, `for=203.0.113.9, For="198.51.100.7:80", for=192.0.2.1`},
			"IPv6":             {"2001:db8::7", forwarded, `proto=http; for="[2001:db8::7]:4711"`},
			"for twice":        {"127.0.0.1", forwarded, "for=198.51.100.7;for=203.0.113.9"},
			"hidden":           {"127.0.0.1", forwarded, "for=_hidden"},
			"no for":           {"127.0.0.1", forwarded, "by=198.51.100.7"},
			"a comma in words": {"127.0.0.1", forwarded, `for=198.51.100.7;host="a,b"`},
			"the other header": {"127.0.0.1", xff, "198.51.100.7"},
		}},
	} {
		s, addresses := behind(group.header, group.trusted...)
		for about, tc := range group.cases {
			before := len(s.records(t, audit.Reject))
			r := s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), append(posted("wrong"), tc[1:]...)...)
			require.Equal(t, http.StatusUnauthorized, r.status, about)
			require.Equal(t, tc[0], <-addresses.asked, about)
			require.Equal(t, tc[0], <-addresses.failed, about)
			require.Equal(t, tc[0], s.rejected(t, before).Remote, about)
		}
		s.unheard(t, "evil")
	}
}

// Behind a trusted proxy, bad keys of one client do not lock out another.
func TestFailedKeysBehindAProxy(t *testing.T) {
	s := listen(t, func(o *server.Options, _ *tools.Options) {
		o.Addresses, o.Proxies = auth.NewAddressLimiter(), trusting(t, net.IPv4(127, 0, 0, 1).String())
	})
	from := func(addr, key string) int {
		return s.do(t, http.MethodPost, "/mcp", initialize(t, legacy, "test"), posted(key, "X-Forwarded-For", addr)...).status
	}
	for range 20 {
		from("198.51.100.7", "wrong")
	}
	require.Equal(t, http.StatusTooManyRequests, from("198.51.100.7", aliceKey))
	require.Equal(t, http.StatusTooManyRequests, from("203.0.113.9, 198.51.100.7", aliceKey), "nor does an invention help")
	require.Equal(t, http.StatusOK, from("198.51.100.8", aliceKey))
}
