package vaultx_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// The outcomes that a row of the corpus can have.
const (
	refused  = false
	isolated = true // an ordinary name inside the caller's own prefix
)

// corpus is that of bad paths, row by row: a path as a caller gives it, relative
// to its prefix, and what becomes of it.
var corpus = []struct {
	row     int
	path    string
	outcome bool
}{
	{1, "agents/a/../b/x", refused},
	{1, "agents/a/..", refused},
	{1, "..", refused},
	{1, ".", refused},
	{1, "agents/./a/x", refused},
	{1, "...", isolated}, // three dots are a name like any other
	{1, "..a", isolated},
	{2, "../../../sys/mounts", refused},
	{2, "agents/a/../../../metadata/b", refused},
	{2, "agents/a/../../../../auth/token/create", refused},
	{2, "sys/mounts", isolated},
	{3, "%2e%2e", refused},
	{3, "%2E%2e", refused},
	{3, "..%2f", refused},
	{3, "%2e%2e%2f", refused},
	{3, "%252e%252e", refused},
	{3, "..%252f", refused},
	{3, "%c0%ae%c0%ae", refused},
	{3, "%u002e", refused},
	{4, "agents/a//x", refused},
	{4, "//agents/a/x", refused},
	{4, "/agents/a/x", refused},
	{4, "agents/a/x/", refused},
	{4, "agents/a/", refused},
	{4, "", refused},
	{4, "/", refused},
	{5, "agents/ab/x", isolated},
	{5, "agents/a", isolated},
	{5, "agents/a-evil/x", isolated},
	{5, "agents/A/x", isolated},
	{6, "agents/a/x\x00", refused},
	{6, "x%00", refused},
	{6, "x\n", refused},
	{6, "x\r\nX-Vault-Token: y", refused},
	{6, "x\t", refused},
	{6, "x\x7f", refused},
	{6, "x\u0085", refused},
	{7, `agents\a\..\b`, refused},
	{7, "agents/a;/../b", refused},
	{7, "agents/a/..;/b", refused},
	{8, "agents/a/x?version=1", refused},
	{8, "x?list=true", refused},
	{8, "x#f", refused},
	{8, "x&help=1", refused},
	{9, "agents/a/．．/b", refused}, // U+FF0E
	{9, "agents∕a", refused},      // U+2215
	{9, "agents⁄a", refused},      // U+2044
	{9, "agents/․․/a", refused},   // U+2024
	{9, "agents/а/x", refused},    // Cyrillic
	{9, "caf\u00e9", refused},     // NFC
	{9, "cafe\u0301", refused},    // NFD
	{9, "a\u202eb", refused},
	{9, "a\u200bb", refused},
	{9, "\ufeffa", refused},
	{9, "ß", refused},
	{9, "ẞ", refused},
	{9, "\u212a", refused}, // Kelvin
	{9, "ſ", refused},
	{9, "İ", refused},
	{10, "\xff\xfe", refused},
	{10, "\xed\xa0\x80", refused}, // a lone surrogate
	{10, "\ufffd", refused},
	{11, " agents/a/x", refused},
	{11, "agents/a/x ", refused},
	{11, "agents/a/ x", refused},
	{11, "agents/a /x", refused},
	{11, "agents/a\u00a0/x", refused},
	{12, "data/agents/a/x", isolated},
	{12, "metadata/agents/a/x", isolated},
	{12, "agents/a/data/../../metadata/x", refused},
	{13, "agents/a/*", refused},
	{13, "agents/+/x", refused},
	{13, "agents/a/**", refused},
	{13, "{{identity.entity.id}}", refused},
	{14, strings.Repeat("a", 4096), refused},
	{14, strings.Repeat("a", 65536), refused},
	{14, strings.Repeat("a/", 9999) + "a", refused},
	{14, strings.Repeat("a/", 1000), refused},
	{14, strings.Repeat("a", 128), isolated},
	{14, strings.Repeat("a", 129), refused},
	{14, strings.Repeat("a/", 31) + "a", isolated}, // 32 segments
	{14, strings.Repeat("a/", 32) + "a", refused},
	{14, strings.Repeat(strings.Repeat("a", 127)+"/", 3) + strings.Repeat("a", 128), isolated}, // 512 bytes
	{14, strings.Repeat(strings.Repeat("a", 127)+"/", 4) + "a", refused},
}

func TestCorpusOfPaths(t *testing.T) {
	for _, c := range corpus {
		for _, tmpl := range []vaultx.Template{kvData, kvMetadata, kvDelete} {
			p, err := tmpl.Expand(map[string]string{"kv": "secret", "prefix": prefix, "path": c.path})
			if c.outcome == refused {
				f := requireKind(t, fault.Invalid, err)
				require.Equal(t, "path", f.Details["hole"])
				require.Zero(t, p, "row %d %.40q", c.row, c.path)
				if len(c.path) > 3 {
					require.NotContains(t, f.Msg, c.path, "an error echoes the value")
				}
				continue
			}
			require.NoError(t, err, "row %d %.40q", c.row, c.path)
			below := strings.Replace(tmpl.String(), "{kv}", "secret", 1)
			below = strings.Replace(below, "{prefix}/{path...}", prefix+"/", 1)
			require.Equal(t, below+c.path, p.String())
			require.Equal(t, below+c.path, p.Escaped(), "the grammar has no byte that needs an escape")
		}
	}
}

// Row 12: a mount is configuration, yet it is held against the same grammar.
func TestMountsAreHeldAgainstTheGrammar(t *testing.T) {
	for _, mount := range []string{"", "/", "//", "secret/../sys", "..", "a//b", "se cret", "secret/%2e%2e"} {
		_, err := vaultx.NormalizeMount(mount)
		requireKind(t, fault.Invalid, err)
		_, err = kvData.Expand(map[string]string{"kv": mount, "prefix": prefix, "path": "x"})
		f := requireKind(t, fault.Internal, err)
		require.Equal(t, "kv", f.Details["hole"])
	}
	for give, want := range map[string]string{"secret": "secret", "/secret/": "secret", "team/kv/": "team/kv", "secret/metadata": "secret/metadata"} {
		got, err := vaultx.NormalizeMount(give)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// Row 15: every other string that lands in a URL.
func TestNames(t *testing.T) {
	creds := vaultx.MustTemplate("{database}/creds/{role}")
	for name, ok := range map[string]bool{
		"../creds/admin": false, "ro/../admin": false, "ro?x": false, "key/config": false, "+5": false, "٣": false,
		"": false, ".": false, "..": false, "a b": false, "a@b": false, "a=b": false, "*": false, "ro%2fadmin": false, "ro\n": false,
		strings.Repeat("r", 129): false, strings.Repeat("r", 128): true,
		"RO": true, "-1": true, "0": true, "1e3": true, "read-only_v1.2": true, "...": true,
	} {
		p, err := creds.Expand(map[string]string{"database": "database", "role": name})
		if !ok {
			f := requireKind(t, fault.Invalid, err)
			require.Equal(t, "role", f.Details["hole"])
			continue
		}
		require.NoError(t, err, "%.40q", name)
		require.Equal(t, "database/creds/"+name, p.String())
	}
}

func TestListPrefix(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 127)+"/", 3) + strings.Repeat("a", 128)
	for give, want := range map[string]string{
		"": "secret/metadata/mcp/dev-bot", "app": "secret/metadata/mcp/dev-bot/app", "app/": "secret/metadata/mcp/dev-bot/app",
		"a/b/": "secret/metadata/mcp/dev-bot/a/b", long + "/": "secret/metadata/mcp/dev-bot/" + long,
	} {
		values := map[string]string{"kv": "secret", "prefix": prefix, "path": give}
		op, err := vaultx.NewOperation("list", kvMetadata, values)
		require.NoError(t, err, "%.40q", give)
		require.Equal(t, "LIST", op.Method)
		require.Equal(t, want, op.Path.Escaped())
		require.Len(t, values, 3, "the caller's map is the caller's")
	}
	for _, c := range corpus {
		if c.outcome == isolated || c.path == "" || vaultx.CheckPath(strings.TrimSuffix(c.path, "/")) == nil {
			continue
		}
		_, err := vaultx.NewOperation("list", kvMetadata, map[string]string{"kv": "secret", "prefix": prefix, "path": c.path})
		requireKind(t, fault.Invalid, err)
	}
	for _, bad := range []string{"/", "//", "app//", "/app", "..", "../", "app/../"} {
		_, err := vaultx.NewOperation("list", kvMetadata, map[string]string{"kv": "secret", "prefix": prefix, "path": bad})
		requireKind(t, fault.Invalid, err)
		// Only a list names a folder.
		_, err = vaultx.NewOperation("read", kvMetadata, map[string]string{"kv": "secret", "prefix": prefix, "path": bad})
		requireKind(t, fault.Invalid, err)
	}
}

func TestTemplates(t *testing.T) {
	require.Equal(t, "{kv}/data/{prefix}/{path...}", kvData.String())
	require.Equal(t, []vaultx.Hole{{Name: "kv"}, {Name: "prefix"}, {Name: "path", Multi: true}}, kvData.Holes())
	require.Equal(t, "K/data/P/*", kvData.Render(func(h vaultx.Hole) string {
		return map[string]string{"kv": "K", "prefix": "P", "path": "*"}[h.Name]
	}))
	for _, bad := range []string{"", "/", "a//b", "a/", "a/../b", "{", "{}", "a{b}", "{a", "{a}b", "{a....}", "{a.b}", "{a{b}", "{{a}}", "a b"} {
		require.Panics(t, func() { vaultx.MustTemplate(bad) }, bad)
	}
	_, err := kvData.Expand(map[string]string{"kv": "secret", "prefix": prefix})
	requireKind(t, fault.Internal, err)
	_, err = vaultx.NewOperation("sudo", kvData, map[string]string{"kv": "secret", "prefix": prefix, "path": "x"})
	requireKind(t, fault.Internal, err)
}

// Whatever goes in, what comes out is below the template's prefix and reads back
// as the same segments.
func FuzzPath(f *testing.F) {
	for _, c := range corpus {
		if len(c.path) <= 4096 {
			f.Add(c.path, "list")
			f.Add(c.path, "read")
		}
	}
	f.Fuzz(func(t *testing.T, path, capability string) {
		op, err := vaultx.NewOperation(capability, kvMetadata, map[string]string{"kv": "secret", "prefix": prefix, "path": path})
		if err != nil {
			require.Zero(t, op.Path)
			require.NotEmpty(t, fault.KindOf(err))
			return
		}
		below := []string{"secret", "metadata", "mcp", "dev-bot"}
		got := strings.Split(op.Path.Escaped(), "/")
		require.GreaterOrEqual(t, len(got), len(below))
		require.Equal(t, below, got[:len(below)])
		given := path
		if capability == "list" {
			given = strings.TrimSuffix(path, "/")
		}
		rest := strings.Join(got[len(below):], "/")
		require.Equal(t, given, rest)
		require.LessOrEqual(t, len(rest), 512)
		for _, segment := range got {
			require.NotContains(t, []string{"", ".", ".."}, segment)
			require.LessOrEqual(t, len(segment), 128)
		}
		require.Equal(t, op.Path.String(), op.Path.Escaped())
	})
}
