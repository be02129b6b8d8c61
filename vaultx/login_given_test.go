package vaultx_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/fault/faulttest"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// wrappedID wraps a new secret id of a role.
func wrappedID(t *testing.T, v *devstack.Vault, path string, body map[string]any) secret.Text {
	t.Helper()
	admin := connect(t, vaultx.Config{Address: v.Addr, Token: v.RootToken})
	token, err := vaultx.Wrapped(t.Context(), admin, path, body)
	require.NoError(t, err)
	return token
}

func TestWrappedSecretID(t *testing.T) {
	t.Parallel()
	v := devstacktest.Fresh(t, devstacktest.Options{})
	role := newAppRole(t, v, "wrapped", "1h", "1h", 0)
	newAppRole(t, v, "another", "1h", "1h", 0)
	const path = "auth/approle/role/wrapped/secret-id"
	login := role.login()
	login.Role = "wrapped"
	open := func(id secret.Text) (*vaultx.Client, *devstacktest.Rec, *notices) {
		l := login
		l.SecretID = id
		rec, told := devstacktest.Recorder(t, v.Addr), &notices{}
		return connect(t, vaultx.Config{Address: rec.URL, Login: l, Notice: told.hear}), rec, told
	}
	unwraps := func(rec *devstacktest.Rec) int {
		return strings.Count(strings.Join(rec.Requests(), "\n"), "sys/wrapping/unwrap")
	}

	// It is unwrapped once, and serves further logins.
	id := wrappedID(t, v, path, map[string]any{})
	c, rec, told := open(id)
	require.NoError(t, write(t, c))
	require.NoError(t, c.LogOut(t.Context()))
	require.NoError(t, read(t, c))
	require.Equal(t, 1, unwraps(rec))
	require.Equal(t, 2, logins(rec))
	require.NotContains(t, told.all(), id.Reveal())

	// One that was unwrapped already is an alarm, told once and asked about once.
	c, rec, told = open(id)
	f := requireKind(t, fault.Unavailable, read(t, c))
	require.Contains(t, f.Msg, "was unwrapped already")
	require.NotContains(t, faulttest.Text(f)+told.all(), id.Reveal())
	time.Sleep(2 * time.Second)
	requireKind(t, fault.Unavailable, read(t, c))
	require.Equal(t, 1, told.count("was unwrapped already"))
	require.Equal(t, "POST /v1/sys/wrapping/lookup", strings.Join(rec.Requests(), "\n"), "no login and no second question")

	// One from elsewhere is not unwrapped: who gave it may have chosen it.
	for _, from := range []string{"auth/approle/role/another/secret-id", "sys/wrapping/wrap"} {
		c, rec, told = open(wrappedID(t, v, from, map[string]any{"secret_id": "x"}))
		require.Contains(t, requireKind(t, fault.Unavailable, read(t, c)).Msg, "does not come from the AppRole")
		require.Zero(t, unwraps(rec)+logins(rec))
		require.Equal(t, 1, told.count("does not come from"))
	}
}

// Vault Agent keeps a token in a file: a new one is taken up, at once where the
// old one is refused; a file that cannot be read leaves the old one in force.
func TestTokenFile(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	file := filepath.Join(t.TempDir(), "token")
	issue := func() secret.Text {
		token, err := v.CreateToken(t.Context(), serverPolicy)
		require.NoError(t, err)
		return token
	}
	put := func(token secret.Text) { // as Vault Agent does it
		require.NoError(t, os.WriteFile(file+".new", []byte(token.Reveal()+"\n"), 0o640))
		require.NoError(t, os.Rename(file+".new", file))
	}
	revoke := func(token secret.Text) {
		require.NoError(t, v.Request(t.Context(), "POST", "auth/token/revoke", map[string]any{"token": token.Reveal()}, nil))
	}
	token, told := issue(), &notices{}
	put(token)
	c := connect(t, vaultx.Config{Address: v.Addr, Token: token, Login: vaultx.Login{TokenFile: file}, Notice: told.hear})
	c.Start()
	require.NoError(t, write(t, c))
	l := underLoad(t, c)
	for range 3 {
		l.more(t, 100)
		next := issue()
		put(next)
		revoke(token)
		token = next
		l.more(t, 100)
	}
	l.end()
	l.none(t)
	require.Equal(t, 3, told.count("took up a new Vault token"))

	for name, spoil := range map[string]func(){
		"there is no such file": func() {},
		"the file is empty":     func() { require.NoError(t, os.WriteFile(file, nil, 0o600)) },
		"in one line":           func() { require.NoError(t, os.WriteFile(file, []byte("echo 0815\necho"), 0o600)) },
		"larger than 64 KiB":    func() { require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("x", 70<<10)), 0o600)) },
		"not a regular file":    func() { require.NoError(t, os.Mkdir(file, 0o700)) },
	} {
		require.NoError(t, os.RemoveAll(file))
		spoil()
		require.Eventually(t, func() bool {
			require.NoError(t, read(t, c), name)
			err := c.Ready(t.Context())
			return err != nil && strings.Contains(err.Error(), name)
		}, time.Minute, 50*time.Millisecond, name)
		require.Equal(t, 1, told.count(name))
	}
	require.NotContains(t, told.all(), "0815")
	require.NoError(t, os.RemoveAll(file))
	put(token)
	require.Eventually(t, func() bool { return c.Ready(t.Context()) == nil }, time.Minute, 50*time.Millisecond)
}

// A token that was given by hand is renewed where it can be, for ever if it is
// periodic, and its end is told in time where it cannot.
func TestTokenByHand(t *testing.T) {
	t.Parallel()
	v := devstacktest.Fresh(t, devstacktest.Options{})
	require.NoError(t, v.Request(t.Context(), "POST", "sys/policies/acl/server", map[string]any{"policy": serverPolicy}, nil))
	open := func(options map[string]any) (*vaultx.Client, *notices) {
		var answer struct {
			Auth struct {
				Token secret.Text `json:"client_token"`
			} `json:"auth"`
		}
		options["policies"], options["no_default_policy"] = []string{"server"}, true
		require.NoError(t, v.Request(t.Context(), "POST", "auth/token/create", options, &answer))
		told := &notices{}
		c := connect(t, vaultx.Config{Address: v.Addr, Token: answer.Auth.Token, Notice: told.hear})
		c.Start()
		return c, told
	}
	periodic, heard := open(map[string]any{"period": "2s"})
	short, ofShort := open(map[string]any{"ttl": "4s", "explicit_max_ttl": "7s"})
	fixed, ofFixed := open(map[string]any{"ttl": "3s", "renewable": false})
	require.NoError(t, write(t, fixed))
	require.Eventually(t, func() bool { return heard.count("renewed") >= 4 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, read(t, periodic))
	require.Eventually(t, func() bool { return ofShort.count("ends soon") == 1 && ofFixed.count("ends soon") == 1 }, time.Minute, 10*time.Millisecond)
	require.Positive(t, ofShort.count("renewed the Vault token"))
	require.Equal(t, 1, ofShort.count("beyond its end"))
	require.Equal(t, 1, ofFixed.count("beyond its end"))
	for _, c := range []*vaultx.Client{short, fixed} {
		require.Eventually(t, func() bool { return read(t, c) != nil }, time.Minute, 50*time.Millisecond)
		require.Contains(t, requireKind(t, fault.Unavailable, read(t, c)).Msg, "own Vault token")
	}
	require.NoError(t, read(t, periodic))
}
