package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

// hostileSubjects are the subjects of the corpus that are accepted, each with
// the slug under which it is isolated. No two share one, though Vault folds,
// trims and cleans names.
var hostileSubjects = []struct{ subject, slug string }{
	{"dev", "dev"},
	{"Dev", "=44ev"},
	{"DEV", "=44=45=56"},
	{"dev ", "dev=20"},
	{" dev", "=20dev"},
	{"dev\u00a0", "dev=c2=a0"},
	{"dev/", "dev=2f"},
	{"dev/app", "dev=2fapp"},
	{"dev//app", "dev=2f=2fapp"},
	{"dev.", "dev=2e"},
	{".dev", "=2edev"},
	{"dev-", "dev=2d"},
	{"-dev", "=2ddev"},
	{"dev-bot", "dev-bot"},
	{"dev--bot", "dev-=2dbot"},
	{"dev=2d", "dev=3d2d"},
	{"dev=", "dev=3d"},
	{"dev%2fapp", "dev=252fapp"},
	{"dev\x00", "dev=00"},
	{"dev\n", "dev=0a"},
	{"dev*", "dev=2a"},
	{"dev,root", "dev=2croot"},
	{"../dev", "=2e=2e=2fdev"},
	{"../admin", "=2e=2e=2fadmin"},
	{"..%2fadmin", "=2e=2e=252fadmin"},
	{"a/b", "a=2fb"},
	{"/", "=2f"},
	{".", "=2e"},
	{"..", "=2e=2e"},
	{" ", "=20"},
	{"root", "root"},
	{"default", "default"},
	{"*", "=2a"},
	{"+", "=2b"},
	{`a"} path "sys/*" {capabilities=["sudo"]`, "a=22=7d=20path=20=22sys=2f=2a=22=20=7bcapabilities=3d=5b=22sudo=22=5d"},
	{"{{identity.entity.name}}", "=7b=7bidentity.entity.name=7d=7d"},
	{"${jndi:x}", "=24=7bjndi=3ax=7d"},
	{"a:b", "a=3ab"},
	{"spiffe://td/ns/a", "spiffe=3a=2f=2ftd=2fns=2fa"},
	{"user@example.org", "user@example.org"},
	{"user+tag@example.org", "user=2btag@example.org"},
	{"arn:aws:sts::1:assumed-role/x", "arn=3aaws=3asts=3a=3a1=3aassumed-role=2fx"},
	{"auth0|123", "auth0=7c123"},
	{"\U0001F916", "=f0=9f=a4=96"},
	{"\u00e9", "=c3=a9"},
	{"e\u0301", "e=cc=81"},
	{"\u0430dmin", "=d0=b0dmin"},
	{"admin", "admin"},
	{"k", "k"},
	{"\u212a", "=e2=84=aa"},
	{"__proto__", "__proto__"},
	{"=cmd|' /C calc'!A0", "=3dcmd=7c=27=20=2f=43=20calc=27=21=410"},
	{"<script>", "=3cscript=3e"},
	{"\x1b[2J", "=1b=5b2=4a"},
	{"a\u2028b", "a=e2=80=a8b"},
	{strings.Repeat("s", 128), strings.Repeat("s", 128)},
}

// TestHostileSubjects gives each subject of the corpus a key, and lets each
// write at the same path. Whoever shared a prefix with another would find what
// that one wrote, or fail to write where nothing may be yet.
func TestHostileSubjects(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	keys := map[string]string{}
	key := func(i int) string { return fmt.Sprintf("subject-key-%04d", i) }
	for i, row := range hostileSubjects {
		keys[key(i)] = row.subject
	}
	text, err := json.Marshal(keys)
	require.NoError(t, err)
	env := settings(t, v, "VAULT_ADDR="+seen.URL, "API_KEYS_JSON="+string(text))
	p := startHTTP(t, env)
	trail := readTrail(env)
	call := func(i int, tool, args string) verdict {
		t.Helper()
		_, body := postRaw(t, p.url+"/mcp/rpc", key(i), strings.ReplaceAll(toolCall(quote(tool), args), metaHole, ""), nil)
		got := judge(t, body)
		require.Equal(t, hostileSubjects[i].slug, trail.ended(t, got, tool).Subject)
		return got
	}
	var slugs []string
	for i, row := range hostileSubjects {
		about := short(row.subject)
		require.Equal(t, "not_found", call(i, "kv.read", `{"path":"probe"}`).code, "%s finds what another wrote", about)
		require.JSONEq(t, `{"keys":[]}`, string(call(i, "kv.list", `{}`).content), "%s sees what another wrote", about)
		seen.Reset()
		require.Equal(t, "ok", call(i, "kv.write", fmt.Sprintf(`{"path":"probe","data":{"of":%d},"cas":0}`, i)).code, about)
		require.Equal(t, []string{"POST /v1/secret/data/mcp/" + row.slug + "/probe"}, seen.Requests(), about)
		var who struct{ Subject, Prefix string }
		require.NoError(t, json.Unmarshal(call(i, "whoami", `{}`).content, &who))
		require.Equal(t, row.slug, who.Subject)
		require.Equal(t, "mcp/"+row.slug, who.Prefix)
		slugs = append(slugs, row.slug+"/")
	}
	for i, row := range hostileSubjects {
		require.Contains(t, string(call(i, "kv.read", `{"path":"probe"}`).content), fmt.Sprintf(`{"of":%d}`, i), "%q reads another's", row.subject)
		require.JSONEq(t, `{"keys":["probe"]}`, string(call(i, "kv.list", `{}`).content))
	}
	slices.Sort(slugs)
	require.Equal(t, slugs, children(t, v, "mcp"), "one folder for each subject, and none within another")
}

// run runs a command of the product that ends by itself.
func run(t *testing.T, env []string, stdin string, args ...string) (ok bool, out, errOut string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = env
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	return err == nil, stdout.String(), stderr.String()
}

// TestRefusedSubjects: what is no subject is refused where it is configured, by
// the setting's name and without the value. A process for each, since it does
// not start.
func TestRefusedSubjects(t *testing.T) {
	v := devstacktest.Shared(t)
	mark := canary
	long := mark + strings.Repeat("x", 129-len(mark)) // 129 bytes
	escaped := mark + strings.Repeat("/", 40)         // over 128 once escaped
	for about, value := range map[string]string{
		"empty":           `""`,
		"129 bytes":       quote(long),
		"4096 bytes":      quote(strings.Repeat(mark, 230)),
		"long if escaped": quote(escaped),
		"number":          `5`,
		"bool":            `true`,
		"array":           `["` + mark + `"]`,
		"null":            `null`,
		"missing":         `{"scopes":["read"]}`,
		"number inside":   `{"subject":5}`,
		"null inside":     `{"subject":null}`,
		"given twice":     `{"subject":"a","subject":"` + mark + `"}`,
		"in another case": `{"Subject":"` + mark + `"}`,
		"lone surrogate":  `"` + mark + `\ud800"`,
		"invalid UTF-8":   "\"" + mark + "\xff\"",
	} {
		env := settings(t, v, `API_KEYS_JSON={"`+devKey+`":"dev","other-key-0123456789":`+value+`}`, "VAULT_MCP_API_KEY="+devKey)
		ok, _, said := run(t, env, "", "stdio")
		require.False(t, ok, "API_KEYS_JSON with a subject that is refused starts: %s", about)
		require.Contains(t, said, "API_KEYS_JSON", about)
		requireNoMark(t, said, about)
	}

	file := filepath.Join(t.TempDir(), "keys.json")
	env := settings(t, v, "API_KEYS_FILE="+file)
	for about, subject := range map[string]string{
		"empty": "", "129 bytes": long, "long if escaped": escaped, "invalid UTF-8": mark + "\xff",
	} {
		ok, out, said := run(t, env, "", "key", "create", "--subject", subject)
		require.False(t, ok, about)
		require.Empty(t, out, "no key is made for a subject that is refused: %s", about)
		require.Contains(t, said, "subject", about)
		requireNoMark(t, said, about)
	}

	for about, subject := range map[string]string{"129 bytes": long, "long if escaped": escaped, "invalid UTF-8": mark + "\xff", "control": mark + "\x01"} {
		ok, _, said := run(t, settings(t, v, "SUBJECT="+subject), "", "stdio")
		require.False(t, ok, about)
		require.Contains(t, strings.ToUpper(said), "SUBJECT", about)
		requireNoMark(t, said, about)
	}
}

// TestSubjectsOfOtherSources: a subject has the same slug from wherever it is
// told: a key of the file, or SUBJECT at the launch of a stdio process.
func TestSubjectsOfOtherSources(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	file := filepath.Join(t.TempDir(), "keys.json")
	const who = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"whoami"}}`
	for _, row := range hostileSubjects {
		if len(row.subject) > 14 || strings.ContainsAny(row.subject, "\x00\n\x1b\u2028") || !strings.ContainsAny(row.subject, "D/.*{<\u00e9 ") {
			continue // a few will do; an environment has no NUL, and SUBJECT takes no controls
		}
		env := settings(t, v, "API_KEYS_FILE="+file)
		ok, key, said := run(t, env, "", "key", "create", "--subject", row.subject)
		require.True(t, ok, said)
		for source, setting := range map[string]string{"api_key": "VAULT_MCP_API_KEY=" + strings.TrimSpace(key), "launch": "SUBJECT=" + row.subject} {
			ok, out, said := run(t, append(settings(t, v, "API_KEYS_FILE="+file), setting), hello+"\n"+who+"\n", "stdio")
			require.True(t, ok, said)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			require.Len(t, lines, 2, out)
			var got struct {
				Subject    string
				AuthMethod string `json:"auth_method"`
			}
			require.NoError(t, json.Unmarshal(judge(t, lines[1]).content, &got), lines[1])
			require.Equal(t, row.slug, got.Subject, source)
			require.Equal(t, source, got.AuthMethod)
		}
	}
}
