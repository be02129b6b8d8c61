package auth_test

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

// served is an issuer over HTTP on this machine that answers what a test wants.
func served(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s
}

// from makes an Authenticator with keys from a URL.
func from(t *testing.T, address string) *auth.Authenticator {
	t.Helper()
	return world(t, func(o *auth.Options) { o.JWT.Home.JWKSFile, o.JWT.Home.JWKSURL = "", address })
}

// unavailable demands that a good token is refused since there are no keys, and
// that the reason names nothing of the other side.
func unavailable(t *testing.T, a *auth.Authenticator, want string) {
	t.Helper()
	_, err := try(t, a, signed("EdDSA", "ed", nil, claims(nil)))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, want)
	require.NotContains(t, err.Error(), "canary")
	require.NotContains(t, err.Error(), "127.0.0.1")
	ready := a.Check(t.Context())
	require.ErrorIs(t, ready, fault.Unavailable)
	require.ErrorContains(t, ready, "the issuer of JWTs")
}

func TestJWKSURL(t *testing.T) {
	var asked atomic.Int64
	s := served(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/jwks", http.StatusFound) // within the host it may
		case "/jwks":
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Etag", `"x"`)
			_, _ = w.Write(worldKeys())
		}
	})
	for _, path := range []string{"/jwks", "/moved"} {
		asked.Store(0)
		a := from(t, s.URL+path)
		require.NoError(t, a.Check(t.Context()), "readiness fetches the keys")
		for range 20 {
			p, err := try(t, a, signed("RS256", "rsa", nil, claims(nil)))
			require.NoError(t, err)
			require.Equal(t, "dev-bot", p.Slug)
		}
		require.LessOrEqual(t, asked.Load(), int64(2), "what the answer says of caching counts for nothing")
	}
}

func TestJWKSURLRefused(t *testing.T) {
	elsewhere := served(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(worldKeys()) })
	for about, c := range map[string]struct {
		want   string
		answer http.HandlerFunc
	}{
		"500":          {"status 500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusInternalServerError) }},
		"204":          {"status 204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
		"HTML":         {"not a JSON Web Key Set", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>canary")) }},
		"no set":       {"no key", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) }},
		"an empty set": {"no key", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(keySet()) }},
		"symmetric keys alone": {"no key", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(keySet(obj{"kty": "oct", "k": "Y2FuYXJ5"}))
		}},
		"keys twice":         {"not a JSON Web Key Set", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[],"keys":[]}`)) }},
		"65 keys":            {"at most 64", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(keySet(make([]obj, 65)...)) }},
		"a body without end": {"over 262144 bytes", endless},
		"another host":       {"redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }},
		"a cloud's credentials": {"redirects", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/canary", http.StatusTemporaryRedirect)
		}},
		"a redirect to itself": {"redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }},
		"a body that breaks off": {"cannot be reached", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = w.Write([]byte("{"))
		}},
		"a connection that ends": {"cannot be reached", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(about, func(t *testing.T) { unavailable(t, from(t, served(t, c.answer).URL), c.want) })
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	unavailable(t, from(t, "http://"+closed.Addr().String()), "cannot be reached")
}

// endless writes 100 MiB, if it is let.
func endless(w http.ResponseWriter, _ *http.Request) {
	for range 100 {
		if _, err := w.Write(bytes.Repeat([]byte("canary!!"), 1<<17)); err != nil {
			return
		}
	}
}

// A source that sends a byte now and then is given up, and one that is asked for
// nothing any more ends with the Authenticator.
func TestJWKSURLSlowDrip(t *testing.T) {
	drip := served(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	a := from(t, drip.URL)
	unavailable(t, a, "does not answer in time") // after the five seconds of a fetch
	b := from(t, drip.URL)
	done := make(chan error, 1)
	go func() {
		_, err := b.Authenticate(t.Context(), auth.Presented{Header: headers("Authorization", "Bearer "+lasting("ed"))})
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	b.Close()
	require.ErrorIs(t, <-done, fault.Unavailable)
}

// A certificate that nobody vouches for brings no keys.
func TestJWKSURLCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(worldKeys()) }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	unavailable(t, from(t, s.URL), "its certificate is not valid")
}

// Whatever a name resolves to, some addresses are not called.
func TestAddressesOfIssuers(t *testing.T) {
	for address, want := range map[string][2]bool{ // for a URL of another host, and of this one
		"93.184.216.34:443": {true, false}, "10.0.0.5:8443": {true, false}, "[2606:4700::1111]:443": {true, false},
		"[fd12:3456::1]:443": {true, false}, "192.168.1.1:443": {true, false},
		"127.0.0.1:80": {false, true}, "127.8.9.1:80": {false, true}, "[::1]:80": {false, true}, "[::ffff:127.0.0.1]:80": {false, true},
		"169.254.169.254:80": {}, "[::ffff:169.254.169.254]:80": {}, "[64:ff9b::a9fe:a9fe]:80": {}, "[fe80::1%eth0]:80": {}, "[fd00:ec2::254]:80": {},
		"100.100.100.200:80": {}, "0.0.0.0:80": {}, "0.1.2.3:80": {}, "[::]:80": {}, "224.0.0.1:80": {}, "[ff02::1]:80": {}, "255.255.255.255:80": {},
		"[64:ff9b::7f00:1]:80": {false, true}, "nonsense": {}, "": {},
	} {
		require.Equal(t, want[0], auth.MayDial(address, false) == nil, address)
		require.Equal(t, want[1], auth.MayDial(address, true) == nil, address)
	}
}

// Row 16: discovery that names another issuer, or keys elsewhere, is refused,
// then and later; the old keys stay.
func TestDiscovery(t *testing.T) {
	var document atomic.Pointer[string]
	var asked atomic.Int64
	s := served(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/realm/.well-known/openid-configuration":
			_, _ = w.Write([]byte(*document.Load()))
		case "/jwks":
			_, _ = w.Write(keySet(jwk("ed", nil)))
		case "/new":
			_, _ = w.Write(keySet(jwk("ec", nil)))
		}
	})
	name := s.URL + "/realm"
	says := func(issuer, keys string) {
		d := mustJSON(obj{"issuer": issuer, "jwks_uri": keys, "x": 1})
		document.Store(&d)
	}
	open := func(more ...func(*auth.Options)) *auth.Authenticator {
		return world(t, append([]func(*auth.Options){func(o *auth.Options) {
			o.JWT.Home = &auth.Issuer{Name: name, OIDC: name, Audiences: []string{aud}}
			o.JWT.CacheFor = 10 * time.Second
		}}, more...)...)
	}
	token := func(kid, alg string) string { return signed(alg, kid, nil, claims(obj{"iss": name})) }
	bad := map[string][2]string{
		"a slash more":         {name + "/", s.URL + "/jwks"},
		"another issuer":       {"https://canary.example", s.URL + "/jwks"},
		"no issuer":            {"", s.URL + "/jwks"},
		"keys on another host": {name, "https://canary.example/jwks"},
		"on another port":      {name, strings.Replace(s.URL, "127.0.0.1:", "127.0.0.1:1", 1) + "/jwks"},
		"on a cloud's own":     {name, "http://169.254.169.254/jwks"},
		"another scheme":       {name, "file:///etc/canary"},
		"no keys":              {name, ""},
	}
	for about, c := range bad {
		says(c[0], c[1])
		a := open()
		_, err := try(t, a, token("ed", "EdDSA"))
		require.ErrorIs(t, err, fault.Unavailable, about)
		require.ErrorContains(t, err, "discovery document", about)
		require.NotContains(t, err.Error(), "canary", about)
	}
	says(name, s.URL+"/jwks")
	a := open()
	_, err := try(t, a, token("ed", "EdDSA"))
	require.NoError(t, err)
	says("https://canary.example", s.URL+"/new")
	before := asked.Load()
	_, err = try(t, a, token("ec", "ES256")) // makes a fetch due
	require.ErrorIs(t, err, fault.Unauthenticated)
	require.Greater(t, asked.Load(), before)
	_, err = try(t, a, token("ed", "EdDSA"))
	require.NoError(t, err, "the old keys stay in force")
	says(name, s.URL+"/new")
	_, err = try(t, a, token("ec", "ES256"))
	require.NoError(t, err, "keys may move within the host")

	says(name, s.URL+"/jwks")
	permitted := open(func(o *auth.Options) { o.JWT.Home.JWKSURL = s.URL + "/jwks" })
	_, err = try(t, permitted, token("ed", "EdDSA"))
	require.NoError(t, err)
	other := open(func(o *auth.Options) { o.JWT.Home.JWKSURL = s.URL + "/new" })
	_, err = try(t, other, token("ed", "EdDSA"))
	require.ErrorContains(t, err, "in another place", "only the URL that is permitted")
}

// A file of keys that changes is read again; half of one leaves the keys of
// before in force, for a minute.
func TestJWKSFileChanges(t *testing.T) {
	signers()
	path := filepath.Join(t.TempDir(), "jwks.json")
	put := func(text []byte) { require.NoError(t, os.WriteFile(path, text, 0o600)) }
	put(keySet(jwk("ed", nil)))
	synctest.Test(t, func(t *testing.T) {
		a := world(t, func(o *auth.Options) { o.Now, o.JWT.Home.JWKSFile = nil, path })
		test := func(kid string) error { _, err := try(t, a, lasting(kid)); return err }
		require.NoError(t, test("ed"))
		put(keySet(jwk("ec", nil)))
		require.NoError(t, test("ec"), "an unknown key makes us look at once")
		require.ErrorIs(t, test("ed"), fault.Unauthenticated)

		for about, spoil := range map[string]func(){
			"half a file": func() { put(keySet(jwk("ec", nil))[:40]) },
			"empty":       func() { put(nil) },
			"too long":    func() { put(bytes.Repeat([]byte(" "), 300<<10)) },
			"no file":     func() { require.NoError(t, os.Remove(path)) },
			"a folder":    func() { require.NoError(t, os.Remove(path)); require.NoError(t, os.Mkdir(path, 0o700)) },
			"anybody's":   func() { require.NoError(t, os.Chmod(path, 0o666)) },
		} {
			spoil()
			time.Sleep(time.Second)
			require.NoError(t, test("ec"), about)
			require.ErrorIs(t, a.Check(t.Context()), fault.Unavailable, about)
			time.Sleep(time.Minute)
			require.ErrorIs(t, test("ec"), fault.Unavailable, about)
			require.NoError(t, os.RemoveAll(path))
			put(keySet(jwk("ec", nil)))
			time.Sleep(time.Second)
			require.NoError(t, test("ec"), about)
			require.NoError(t, a.Check(t.Context()))
		}
		// As Kubernetes gives it: a name that leads to a file.
		behind := filepath.Join(filepath.Dir(path), "behind.json")
		require.NoError(t, os.Rename(path, behind))
		require.NoError(t, os.Symlink(behind, path))
		time.Sleep(time.Second)
		require.NoError(t, test("ec"))
	})
}

// A further issuer that cannot be reached takes nobody else out of service; that
// is told, with the number of the issuer and not its address.
func TestFurtherIssuerIsAway(t *testing.T) {
	s := served(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusBadGateway) })
	a := world(t, func(o *auth.Options) {
		o.JWT.Further = secret.NewText(`[{"issuer":"https://away.example","audience":"vault-mcp","jwks_url":"` + s.URL + `"}]`)
		o.Rules = `[{"name": "theirs", "issuer": "https://away.example", "prefix": "away/{slug}"}, {"issuer": "https://mistyped.example", "disabled": true}]`
	})
	err := a.Check(t.Context())
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "issuer 1 of ISSUERS")
	require.NotContains(t, err.Error(), "127.0.0.1")
	require.True(t, fault.IsDegraded(err))
	require.Equal(t, []string{"PRINCIPALS: rule 2 is about an issuer whose tokens are not accepted (ISSUERS), so it matches nobody"}, a.Warnings())

	away := world(t, func(o *auth.Options) {
		o.JWT.Home.JWKSFile, o.JWT.Home.JWKSURL = "", s.URL
		o.JWT.Further = secret.NewText(`[{"issuer":"https://away.example","audience":"vault-mcp","jwks_url":"` + s.URL + `"}]`)
	})
	require.ErrorContains(t, away.Check(t.Context()), "the issuer of JWTs")
	require.False(t, fault.IsDegraded(away.Check(t.Context())), "that of one's own")
}
