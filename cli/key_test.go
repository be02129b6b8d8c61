package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
)

// runKey runs a key command on a file of the test's own.
func runKey(t *testing.T, file string, args ...string) (code int, out, errOut string) {
	t.Helper()
	t.Setenv("API_KEYS_FILE", filepath.Join(t.TempDir(), "not-this-one.json"))
	var stdout, stderr bytes.Buffer
	code = Main(append([]string{"key"}, append(args, "--file", file)...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestKeyCommand(t *testing.T) {
	t.Chdir(t.TempDir()) // no config file by chance
	file := filepath.Join(t.TempDir(), "keys.json")
	code, key, about := runKey(t, file, "create", "--subject", "dev-bot", "--scopes", "kv:read,list",
		"--expires", "90d", "--note", "for CI", "--grant", "transit=orders-*")
	require.Zero(t, code, about)
	require.Regexp(t, `^vmcp_[0-9a-f]{12}_[a-z2-7]{52}\n$`, key, "the key alone, so that it can be captured")
	id := strings.Split(key, "_")[1]
	require.Contains(t, about, id)
	require.Contains(t, about, "dev-bot")
	require.NotContains(t, about, strings.TrimSpace(key))

	code, list, _ := runKey(t, file, "list", "--json")
	require.Zero(t, code)
	var records []auth.KeyRecord
	require.NoError(t, json.Unmarshal([]byte(list), &records))
	require.Len(t, records, 1)
	require.Equal(t, id, records[0].ID)
	require.Equal(t, []string{"kv:read", "list"}, records[0].Scopes)
	require.Equal(t, auth.Grants{"transit": {"orders-*"}}, records[0].Grants)
	require.Equal(t, records[0].CreatedAt.AddDate(0, 0, 90), records[0].ExpiresAt)

	code, table, _ := runKey(t, file, "list")
	require.Zero(t, code)
	require.Len(t, strings.Split(strings.TrimSpace(table), "\n"), 2)
	require.Contains(t, table, "dev-bot")

	code, second, about := runKey(t, file, "rotate", id, "--overlap", "1h")
	require.Zero(t, code)
	require.NotEqual(t, key, second)
	require.Contains(t, about, "works until")
	code, _, about = runKey(t, file, "rotate", id, "--overlap", "0")
	require.Zero(t, code)
	require.Contains(t, about, "works no longer")

	code, out, about := runKey(t, file, "revoke", id)
	require.Zero(t, code)
	require.Empty(t, out)
	require.Contains(t, about, "revoked")
	code, _, about = runKey(t, file, "revoke", id)
	require.Equal(t, exitFailure, code)
	require.Contains(t, about, "no key with this id")
	code, list, _ = runKey(t, file, "list", "--json")
	require.Zero(t, code)
	require.JSONEq(t, `[]`, list)
}

func TestKeyCommandRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	file := filepath.Join(t.TempDir(), "keys.json")
	for _, args := range [][]string{
		{"create"},
		{"create", "--subject", ""},
		{"create", "--subject", strings.Repeat("a", 129)},
		{"create", "--subject", "dev", "--scopes", ""},
		{"create", "--subject", "dev", "--scopes", "admin"},
		{"create", "--subject", "dev", "--scopes", "read, list"},
		{"create", "--subject", "dev", "--expires", "-1h"},
		{"create", "--subject", "dev", "--expires", "-5d"},
		{"create", "--subject", "dev", "--expires", "soon"},
		{"create", "--subject", "dev", "--expires", "99999999d"},
		{"create", "--subject", "dev", "--grant", "orders"},
		{"create", "--subject", "dev", "--grant", "kv=orders"},
		{"create", "--subject", "dev", "--note", "a\nb"},
		{"create", "--subject", "dev", "--nonsense"},
		{"rotate"},
		{"rotate", "one", "two"},
		{"rotate", "one", "--overlap", "-1h"},
		{"revoke"},
	} {
		code, out, about := runKey(t, file, args...)
		require.Equal(t, exitUsage, code, "%q: %s", args, about)
		require.Empty(t, out)
		require.NotEmpty(t, about)
	}
	require.NoFileExists(t, file)
}

// Nothing of a subject reaches a terminal as a command.
func TestKeyCommandQuotes(t *testing.T) {
	t.Chdir(t.TempDir())
	file := filepath.Join(t.TempDir(), "keys.json")
	code, _, about := runKey(t, file, "create", "--subject", "a\x1b[2Jb")
	require.Zero(t, code, about)
	_, table, _ := runKey(t, file, "list")
	require.NotContains(t, about+table, "\x1b")
}
