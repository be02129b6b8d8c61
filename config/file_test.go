package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/config"
)

// Every file that we ship is one that loads.
func TestShippedFiles(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.toml", "*.yaml", "*.json"} {
		found, err := filepath.Glob("../testdata/config/" + pattern)
		require.NoError(t, err)
		files = append(files, found...)
	}
	require.GreaterOrEqual(t, len(files), 5)
	for _, file := range files {
		_, err := config.Load(config.Options{File: file, Env: none})
		require.NoError(t, err, file)
	}
}

// The full examples hold every setting and mean the same in all formats.
func TestFullFiles(t *testing.T) {
	var first []config.Row
	for _, format := range []string{"toml", "yaml", "json"} {
		c, err := config.Load(config.Options{File: "../testdata/config/full." + format, Env: none})
		require.NoError(t, err)
		for _, row := range c.Rows() {
			require.True(t, strings.HasPrefix(row.Source, "file"), "%s is missing from full.%s", row.Env, format)
		}
		if first == nil {
			first = c.Rows()
		}
		require.Equal(t, first, c.Rows(), format)
		require.Equal(t, "example-token", c.Vault.Token.Reveal())
	}
}

func TestWhichFile(t *testing.T) {
	dir := t.TempDir()
	in := func(name string, port string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("port: "+port+"\n"), 0o600))
		return path
	}
	port := func(o config.Options) int {
		t.Helper()
		o.Dir = dir
		if o.Env == nil {
			o.Env = none
		}
		c, err := config.Load(o)
		require.NoError(t, err)
		return c.HTTP.Port
	}
	in("config.yaml", "1")
	app, alias, flag := in("app.yaml", "2"), in("alias.yml", "3"), in("flag.yaml", "4")
	require.Equal(t, 1, port(config.Options{}))
	require.Equal(t, 2, port(config.Options{Env: []string{"APP_CONFIG_FILE=" + app}}))
	require.Equal(t, 3, port(config.Options{Env: []string{"CONFIG_FILE=" + alias}}))
	require.Equal(t, 4, port(config.Options{Env: []string{"APP_CONFIG_FILE=" + app}, File: flag}))

	_, err := config.Load(config.Options{Dir: dir, Env: []string{"APP_CONFIG_FILE=" + app, "CONFIG_FILE=" + alias}})
	require.ErrorContains(t, err, "APP_CONFIG_FILE and its other name CONFIG_FILE are both set")

	in("config.yml", "5")
	_, err = config.Load(config.Options{Dir: dir, Env: none})
	require.ErrorContains(t, err, "config.yaml, config.yml are all in the working directory")
	require.Equal(t, 2, port(config.Options{Env: []string{"APP_CONFIG_FILE=" + app}}))
}

func TestBadFiles(t *testing.T) {
	const canary = "canary-0123456789"
	cases := map[string]struct{ name, content, want string }{
		"cut off JSON":           {"c.json", "{\n \"vault_token\": \"" + canary, "not valid JSON (line 2)"},
		"name twice in JSON":     {"c.json", `{"port": 1, "port": 2}`, "not valid JSON (line 1)"},
		"JSON after the end":     {"c.json", `{"port": 1} {"port": 2}`, "not valid JSON"},
		"not an object":          {"c.json", `["` + canary + `"]`, "not valid JSON"},
		"bad TOML":               {"c.toml", "port = 1\nvault_token = " + canary + "\n", "not valid TOML (line 2)"},
		"bad YAML":               {"c.yaml", "port: 1\nvault_token: \"" + canary + "\n", "not valid YAML (line"},
		"text instead of a map":  {"c.yaml", canary, "not valid YAML"},
		"unknown ending":         {"c.ini", canary, "want a name that ends in"},
		"too large":              {"c.yaml", strings.Repeat("#", 1<<20+1), "larger than 1024 KiB"},
		"unknown key":            {"c.toml", "vault_adr = '" + canary + "'", `"vault_adr" (file): there is no such setting; is vault_addr meant?`},
		"nothing like it":        {"c.toml", "zzzzzzzzzz = '" + canary + "'", `"zzzzzzzzzz" (file): there is no such setting`},
		"two spellings":          {"c.toml", "PORT = 1\nport = 2", "port (file): given twice"},
		"a number for a secret":  {"c.yaml", "seal_key: 1234567", "seal_key (file): want a text (in quotes)"},
		"a fraction":             {"c.json", `{"port": 1.5}`, "port (file): want a whole number"},
		"a table for a text":     {"c.toml", "[host]\na = '" + canary + "'", "host (file): want a text"},
		"no number for duration": {"c.toml", "call_timeout = 10", "call_timeout (file): want a duration"},
		"secret both ways":       {"c.toml", "vault_token = 'a'\nvault_token_file = 'b'", "given in the same place as vault_token_file"},
		"anchors without end":    {"c.yaml", "a: &a [" + strings.Repeat("x,", 9) + "]\n" + bomb(), "not valid YAML"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			c, err := config.Load(config.Options{File: write(t, test.name, test.content), Env: none})
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), canary)
			require.Nil(t, c)
		})
	}
	_, err := config.Load(config.Options{File: t.TempDir() + "/none.toml", Env: none})
	require.ErrorContains(t, err, "there is no such file")
	_, err = config.Load(config.Options{File: t.TempDir() + "/", Env: none})
	require.Error(t, err)
}

// bomb is YAML that grows without bound when its aliases are followed.
func bomb() string {
	var b strings.Builder
	for c := 'b'; c < 'k'; c++ {
		b.WriteString(string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "]\n")
	}
	return b.String()
}

func TestNullIsNotGiven(t *testing.T) {
	c, err := config.Load(config.Options{File: write(t, "c.yaml", "port:\nvault_token: ~\n"), Env: none})
	require.NoError(t, err)
	require.Equal(t, 8089, c.HTTP.Port)
	require.Equal(t, "default", c.Source("PORT"))
}

func TestModesOfFiles(t *testing.T) {
	load := func(mode os.FileMode, content string, env ...string) (*config.Config, error) {
		path := write(t, "c.toml", content)
		require.NoError(t, os.Chmod(path, mode))
		return config.Load(config.Options{File: path, Env: append(env, none...)})
	}
	_, err := load(0o602, "port = 1")
	require.ErrorContains(t, err, "everybody may write to it (mode 0602)")

	c, err := load(0o644, "port = 1\nvault_token_file = '"+write(t, "token", "x")+"'")
	require.NoError(t, err)
	require.Empty(t, c.Warnings(), "without a secret in it, a file may be read by all")

	c, err = load(0o640, "vault_token = 'x'\nseal_key = ''")
	require.NoError(t, err)
	require.Len(t, c.Warnings(), 1)
	require.Contains(t, c.Warnings()[0], "it holds secrets (seal_key, vault_token) and others may read it (mode 0640)")

	c, err = load(0o600, "vault_token = 'x'")
	require.NoError(t, err)
	require.Empty(t, c.Warnings())
}

func TestAFileThatWasOnlyFoundDirectsTheToken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	require.NoError(t, os.WriteFile(path, []byte("vault_addr = 'https://v.example'"), 0o600))
	c, err := config.Load(config.Options{Dir: dir, Env: []string{"VAULT_TOKEN=x"}})
	require.NoError(t, err)
	require.Len(t, c.Warnings(), 1)
	require.Contains(t, c.Warnings()[0], "only found in the working directory")

	c, err = config.Load(config.Options{File: path, Env: []string{"VAULT_TOKEN=x"}})
	require.NoError(t, err)
	require.Empty(t, c.Warnings())
}

func TestSecretsFromFiles(t *testing.T) {
	token := write(t, "token", "from-file\r\n")
	c, err := load(t, "VAULT_TOKEN_FILE="+token)
	require.NoError(t, err)
	require.Equal(t, "from-file", c.Vault.Token.Reveal())
	require.Equal(t, "environment", c.Source("VAULT_TOKEN"))

	_, err = load(t, "VAULT_TOKEN_FILE="+token, "VAULT_TOKEN=x")
	require.EqualError(t, err, "VAULT_TOKEN (environment): given in the same place as VAULT_TOKEN_FILE; want one of the two")

	file := write(t, "c.toml", "vault_token_file = '"+token+"'")
	c, err = config.Load(config.Options{File: file, Env: []string{"VAULT_TOKEN=later"}})
	require.NoError(t, err)
	require.Equal(t, "later", c.Vault.Token.Reveal(), "the later source wins, in whichever form")

	c, err = config.Load(config.Options{File: write(t, "c.toml", "vault_token = 'earlier'"), Env: []string{"VAULT_TOKEN_FILE=" + token}})
	require.NoError(t, err)
	require.Equal(t, "from-file", c.Vault.Token.Reveal())

	for want, path := range map[string]string{
		"there is no such file": "/nonexistent/canary",
		"want a regular file":   t.TempDir(),
		"the file is empty":     write(t, "canary", "\n"),
		"larger than 64 KiB":    write(t, "canary", strings.Repeat("x", 1<<16+1)),
	} {
		_, err = load(t, "SEAL_KEY_FILE="+path)
		require.ErrorContains(t, err, "SEAL_KEY_FILE (environment): ")
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "canary")
	}

	require.NoError(t, os.Chmod(token, 0o604))
	c, err = load(t, "VAULT_TOKEN_FILE="+token)
	require.NoError(t, err)
	require.Len(t, c.Warnings(), 1)
	require.Contains(t, c.Warnings()[0], "VAULT_TOKEN_FILE (environment): everybody on this machine may read")
}

// A marked value given to any setting, in any source, is in no error.
func TestNoValueInAnyError(t *testing.T) {
	const canary = "canary\x01value"
	for _, s := range config.Reference() {
		names := []string{s.Env}
		if s.Secret {
			names = append(names, s.Env+"_FILE")
		}
		for _, name := range names {
			_, fromEnv := load(t, name+"="+canary)
			_, fromFlag := config.Load(config.Options{Env: none, Flags: map[string]string{name: canary}})
			_, fromFile := config.Load(config.Options{
				File: write(t, "c.yaml", strings.ToLower(name)+`: "canary\x01value"`), Env: none,
			})
			_, nested := config.Load(config.Options{
				File: write(t, "c.yaml", strings.ToLower(name)+`: [{"canary\x01value": "canary\x01value"}]`), Env: none,
			})
			for source, err := range map[string]error{"environment": fromEnv, "flag": fromFlag, "file": fromFile, "nested": nested} {
				require.Error(t, err, "%s from %s", name, source)
				require.NotContains(t, err.Error(), "canary", "%s from %s", name, source)
				require.Contains(t, strings.ToUpper(err.Error()), name, source)
			}
		}
	}
}

// FuzzFile feeds anything to each parser: it ends in a Config or an error, never
// in a panic, and the secret before it is in no error.
func FuzzFile(f *testing.F) {
	for format := range uint8(3) {
		f.Add(format, []byte(`{"port": 80}`))
		f.Add(format, []byte("port = 80\n[grants]\nssh = ['a']\n"))
		f.Add(format, []byte("port: 80\ngrants:\n  ssh: [a]\n  1: {2: 3}\n? [a]\n: b\n"))
		f.Add(format, []byte("a: &a [*a]\n<<: *a"))
		f.Add(format, []byte("\x00\xff[[[[{{{{"))
	}
	const canary = "canary-0123456789"
	starts := []struct{ name, text string }{
		{"c.json", `{"audit_hmac_key": "` + canary + `", ` + "\n"},
		{"c.toml", "audit_hmac_key = '" + canary + "'\n"},
		{"c.yaml", "audit_hmac_key: " + canary + "\n"},
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, format uint8, content []byte) {
		start := starts[int(format)%len(starts)]
		path := filepath.Join(dir, start.name)
		require.NoError(t, os.WriteFile(path, append([]byte(start.text), content...), 0o600))
		c, err := config.Load(config.Options{File: path, Env: none})
		require.Error(t, err, "the key is none")
		require.Nil(t, c)
		require.NotContains(t, err.Error(), canary)
	})
}
