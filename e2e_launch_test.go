package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// A stdio server calls as whom the token in its file names at that moment: a new
// file counts at the next call, and a token that ends stops the next call, not
// the process.
func TestLaunchTokenInAFile(t *testing.T) {
	v := devstacktest.Shared(t)
	home := newIssuer(t, "https://issuer.example")
	seen := devstacktest.Recorder(t, v.Addr)
	file := filepath.Join(t.TempDir(), "token")
	var tokens []string
	put := func(claims obj) {
		tokens = append(tokens, home.token(claims))
		require.NoError(t, os.WriteFile(file+".new", []byte(tokens[len(tokens)-1]+"\n"), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	put(obj{"sub": "agent"})
	env := settings(t, v, append(home.home(), "VAULT_ADDR="+seen.URL, "DEFAULT_PREFIX=e2e-launch", "VAULT_MCP_JWT_FILE="+file)...)
	session, p, _ := startStdio(t, env, "")
	call, trail := callThrough(session), readTrail(env)
	has("subject", "agent", "auth_method", "jwt")(t, call.succeed(t, "whoami", obj{}))
	call.succeed(t, "kv.write", obj{"path": "app", "data": obj{"k": "v"}})

	put(obj{"sub": "agent", "scope": "read"})
	call.succeed(t, "kv.read", obj{"path": "app"})
	require.Equal(t, "forbidden", call(t, "kv.write", obj{"path": "app", "data": obj{}}).code())
	put(obj{"sub": "other"})
	has("subject", "other")(t, call.succeed(t, "whoami", obj{}))
	require.Equal(t, "not_found", call(t, "kv.read", obj{"path": "app"}).code())

	// With a minute of leeway, it has some seconds left.
	put(obj{"sub": "agent", "exp": time.Now().Add(-57 * time.Second).Unix()})
	call.succeed(t, "kv.read", obj{"path": "app"})
	require.Eventually(t, func() bool {
		got := call(t, "kv.read", obj{"path": "app"})
		require.Contains(t, []string{"", "unauthenticated"}, got.code())
		return got.failed
	}, soon, 100*time.Millisecond, "it does not end")
	refused := func() {
		t.Helper()
		trail.more(t)
		seen.Reset()
		got := call(t, "kv.read", obj{"path": "app"})
		require.Equal(t, "unauthenticated", got.code())
		require.Len(t, trail.ends(t), 1)
		require.Empty(t, seen.Requests())
	}
	refused()
	for _, content := range []string{"", "not a token", strings.Repeat("a", 1<<20), tokens[0][:len(tokens[0])-4] + "AAAA"} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		refused()
	}
	require.NoError(t, os.Remove(file))
	refused()
	put(obj{"sub": "agent"})
	has("data.k", "v")(t, call.succeed(t, "kv.read", obj{"path": "app"}))

	_ = session.Close()
	p.stop(t)
	for _, token := range tokens {
		require.NotContains(t, p.stderr()+everythingBelow(t, setting(env, "STATE_DIR")), token[strings.LastIndex(token, "."):])
	}
}
