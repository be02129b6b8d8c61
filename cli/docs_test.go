package cli_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/cli"
)

var update = flag.Bool("update", false, "rewrite the generated documentation")

// run is the command line in this process.
func run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = cli.Main(args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

func output(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, code := run(t, args...)
	require.Zero(t, code, errOut)
	return out
}

// The documents that say what the program does are made by the program.
func TestDocs(t *testing.T) {
	const settings = "# Settings\n\nMade by `make gen` from package `config`; a change here is lost.\n\n" +
		"Later wins: default, configuration file (`--config`, `APP_CONFIG_FILE`, else `config.{toml,json,yaml,yml}` in the working directory, where a setting\n" +
		"has its name in lower case), environment, flags. `vault-mcp config check` says all that is wrong, `vault-mcp config show` what is in force.\n"
	t.Setenv("HOME", t.TempDir())
	whole(t, "docs/tools.md", output(t, "tools", "--format", "markdown"))
	whole(t, "docs/configuration.md", settings+"\n"+output(t, "config", "env"))
	part(t, "README.md", "tools", output(t, "tools", "--format", "summary"))
}

// whole holds a file to what is generated.
func whole(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	have, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(have), "%s is not current: make gen", name)
}

// part holds what stands between two marks of a file to what is generated.
func part(t *testing.T, name, mark, want string) {
	t.Helper()
	have, err := os.ReadFile(filepath.Join("..", name))
	require.NoError(t, err)
	begin, end := "<!-- "+mark+":begin (make gen) -->\n", "<!-- "+mark+":end -->"
	before, rest, ok := strings.Cut(string(have), begin)
	require.True(t, ok, "%s has lost its mark %s", name, begin)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "%s has lost its mark %s", name, end)
	if file := before + begin + want + end + after; *update {
		whole(t, name, file)
	} else {
		require.Equal(t, file, string(have), "%s is not current: make gen", name)
	}
}

// The worked example of docs/principals.md is one that works, and its output what
// the doctor says.
func TestPrincipalsExample(t *testing.T) {
	page, err := os.ReadFile("../docs/principals.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```toml\n")
	require.True(t, found)
	settings, rest, _ := strings.Cut(rest, "```")
	_, rest, found = strings.Cut(rest, "$ vault-mcp ")
	require.True(t, found)
	command, rest, _ := strings.Cut(rest, "\n")
	said, _, found := strings.Cut(rest, "…\n```")
	require.True(t, found)
	file := filepath.Join(t.TempDir(), "c.toml")
	require.NoError(t, os.WriteFile(file, []byte(settings), 0o600))
	t.Setenv("HOME", t.TempDir())
	require.True(t, strings.HasPrefix(output(t, append(strings.Fields(command), "--config", file)...), said))
	_, errOut, code := run(t, "doctor", "--config", file, "--subject", "runaway")
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "every call of this subject would be refused")
}
