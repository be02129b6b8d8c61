package tools_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	checker "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-mcp/fault"
	"vault-mcp/tools"
	"vault-mcp/vaultx"
)

// canary is a value that must come back in no error.
const canary = "CANARY-7f3a91"

func lookup(t testing.TB, name string) *tools.Tool {
	t.Helper()
	tool, ok := tools.NewCatalog().Lookup(name)
	require.True(t, ok)
	return tool
}

func TestDecodeRefuses(t *testing.T) {
	deep := func(n int) string {
		return `{"path":"a","data":` + strings.Repeat(`{"a":`, n) + `1` + strings.Repeat(`}`, n) + `}`
	}
	for name, c := range map[string]struct{ tool, args, field, want string }{
		// What is no strict JSON object of the tool's arguments.
		"text":                     {"kv.read", `"` + canary + `"`, "", "must be one JSON object"},
		"list":                     {"kv.read", `[{"path":"a"}]`, "", "must be one JSON object"},
		"number":                   {"kv.read", `1`, "", "must be one JSON object"},
		"unfinished":               {"kv.read", `{"path":"` + canary, "", "not valid JSON"},
		"second object":            {"kv.read", `{"path":"a"}{"path":"` + canary + `"}`, "", "something after"},
		"after null":               {"whoami", `null null`, "", "something after"},
		"comma at the end":         {"kv.read", `{"path":"a",}`, "", "not valid JSON"},
		"byte order mark":          {"kv.read", "\ufeff" + `{"path":"a"}`, "", "must be one JSON object"},
		"UTF-16":                   {"kv.read", "{\x00\"\x00p\x00", "", "not valid JSON"},
		"bad UTF-8":                {"kv.read", "{\"path\":\"a\xff\"}", "", "not valid JSON"},
		"lone surrogate":           {"kv.read", `{"path":"\ud800"}`, "", "not valid JSON"},
		"control character":        {"kv.read", "{\"path\":\"a\x00\"}", "", "not valid JSON"},
		"NaN":                      {"kv.read", `{"path":"a","version":NaN}`, "", "not valid JSON"},
		"leading zero":             {"kv.read", `{"path":"a","version":01}`, "", "not valid JSON"},
		"twice":                    {"kv.read", `{"path":"a","path":"` + canary + `"}`, "", "same name twice"},
		"twice, escaped":           {"kv.read", `{"path":"a","p\u0061th":"` + canary + `"}`, "", "same name twice"},
		"twice in data":            {"kv.write", `{"path":"a","data":{"` + canary + `":1,"` + canary + `":2}}`, "", "same name twice"},
		"twice deep in data":       {"kv.write", `{"path":"a","data":{"x":[{"` + canary + `":{},"` + canary + `":2}]}}`, "", "same name twice"},
		"unknown":                  {"kv.read", `{"path":"a","` + canary + `":"` + canary + `"}`, "", "argument 2 is not one of this tool's: it takes path, version, wrap_ttl"},
		"unknown by case":          {"kv.read", `{"Path":"` + canary + `"}`, "", "argument 1 is not one"},
		"unknown by NUL":           {"kv.read", `{"path\u0000":"` + canary + `"}`, "", "argument 1 is not one"},
		"unknown to no arguments":  {"whoami", `{"` + canary + `":1}`, "", "it takes none"},
		"too large":                {"kv.write", `{"path":"a","data":{"k":"` + strings.Repeat("x", 2<<20) + `"}}`, "", "larger than 2097152 bytes"},
		"Vault's address":          {"kv.read", `{"path":"a","vault_addr":"https://` + canary + `"}`, "", "argument 2"},
		"deeper than any decoder":  {"kv.write", deep(1_000_00), "", "not valid JSON"},
		"absent, where it must be": {"kv.read", ``, "/path", "is required"},
		"empty object":             {"kv.write", `{}`, "/path", "is required"},
		"no data":                  {"kv.write", `{"path":"a"}`, "/data", "is required"},

		// Types and bounds.
		"path of another type":      {"kv.read", `{"path":["` + canary + `"]}`, "/path", "must be of type string"},
		"path null":                 {"kv.read", `{"path":null}`, "/path", "must be of type string"},
		"path empty":                {"kv.read", `{"path":""}`, "/path", "each segment"},
		"path with dots":            {"kv.read", `{"path":"a/../` + canary + `"}`, "/path", "each segment"},
		"path with escaped dots":    {"kv.read", `{"path":"a/\u002e\u002e/` + canary + `"}`, "/path", "each segment"},
		"path with NUL":             {"kv.read", `{"path":"` + canary + `\u0000"}`, "/path", "each segment"},
		"path of 513 bytes":         {"kv.read", `{"path":"` + strings.Repeat("a/", 256) + `a"}`, "/path", "at most 512 bytes"},
		"path of 33 segments":       {"kv.read", `{"path":"` + strings.Repeat("a/", 32) + `a"}`, "/path", "at most 32 segments"},
		"path of a long segment":    {"kv.read", `{"path":"` + strings.Repeat("a", 129) + `"}`, "/path", "each segment"},
		"path with a trailing /":    {"kv.read", `{"path":"a/"}`, "/path", "each segment"},
		"folder with a leading /":   {"kv.list", `{"prefix":"/` + canary + `"}`, "/prefix", "each segment"},
		"folder that is /":          {"kv.list", `{"prefix":"/"}`, "/prefix", "each segment"},
		"version as text":           {"kv.read", `{"path":"a","version":"` + canary + `"}`, "/version", "must be of type integer"},
		"version null":              {"kv.read", `{"path":"a","version":null}`, "/version", "must not be null; leave it out instead"},
		"wrap_ttl null":             {"kv.read", `{"path":"a","wrap_ttl":null}`, "/wrap_ttl", "leave it out"},
		"version negative":          {"kv.read", `{"path":"a","version":-1}`, "/version", "must be at least 0"},
		"version past 32 bits":      {"kv.read", `{"path":"a","version":2147483648}`, "/version", "must be at most 2147483647"},
		"version 2^53+1":            {"kv.read", `{"path":"a","version":9007199254740993}`, "/version", "must be at most 2147483647"},
		"version with a fraction":   {"kv.read", `{"path":"a","version":1.5}`, "/version", "must be of type integer"},
		"version that rounds to 1":  {"kv.read", `{"path":"a","version":1.00000000000000000000000000001}`, "/version", "must be of type integer"},
		"version 1e400":             {"kv.read", `{"path":"a","version":1e400}`, "/version", "must be at most"},
		"version 1e9999999":         {"kv.read", `{"path":"a","version":1e9999999}`, "/version", "too many digits"},
		"version 1e-9999999":        {"kv.read", `{"path":"a","version":1e-9999999}`, "/version", "too many digits"},
		"version of 4000 digits":    {"kv.read", `{"path":"a","version":` + strings.Repeat("9", 4000) + `}`, "/version", "too many digits"},
		"cas 0 of a patch":          {"kv.patch", `{"path":"a","data":{},"cas":0}`, "/cas", "must be at least 1"},
		"cas null":                  {"kv.write", `{"path":"a","data":{},"cas":null}`, "/cas", "leave it out"},
		"no versions in the list":   {"kv.delete", `{"path":"a","versions":[]}`, "/versions", "must have at least 1 items"},
		"versions null":             {"kv.delete", `{"path":"a","versions":null}`, "/versions", "leave it out"},
		"version 0 in a list":       {"kv.destroy", `{"path":"a","versions":[1,0]}`, "/versions/1", "must be at least 1"},
		"text in a list":            {"kv.destroy", `{"path":"a","versions":[1,2,"` + canary + `"]}`, "/versions/2", "must be of type integer"},
		"object in a list":          {"kv.destroy", `{"path":"a","versions":[{"` + canary + `":1}]}`, "/versions/0", "must be of type integer"},
		"null in a list":            {"kv.destroy", `{"path":"a","versions":[null]}`, "/versions/0", "must be of type integer"},
		"large number in a list":    {"kv.destroy", `{"path":"a","versions":[9007199254740993]}`, "/versions/0", "must be at most"},
		"101 versions":              {"kv.destroy", `{"path":"a","versions":[1` + strings.Repeat(",1", 100) + `]}`, "/versions", "must have at most 100 items"},
		"a million versions":        {"kv.destroy", `{"path":"a","versions":[0` + strings.Repeat(",0", 1_000_000) + `]}`, "/versions", "holds too many values"},
		"deep list":                 {"kv.destroy", `{"path":"a","versions":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "/versions", "nested too deeply"},
		"slow numbers in a list":    {"kv.destroy", `{"path":"a","versions":[1e999999` + strings.Repeat(",1e999999", 1000) + `]}`, "/versions", "too many digits"},
		"data null":                 {"kv.write", `{"path":"a","data":null}`, "/data", "must be of type object"},
		"data as text":              {"kv.write", `{"path":"a","data":"` + canary + `"}`, "/data", "must be of type object"},
		"data as list":              {"kv.write", `{"path":"a","data":["` + canary + `"]}`, "/data", "must be of type object"},
		"data too deep":             {"kv.write", deep(1001), "/data", "nested deeper"},
		"number past float64":       {"kv.write", `{"path":"a","data":{"` + canary + `":1e400}}`, "/data", "Vault would alter"},
		"number 2^53+1":             {"kv.patch", `{"path":"a","data":{"` + canary + `":9007199254740993}}`, "/data", "Vault would alter"},
		"wrap_ttl zero":             {"kv.read", `{"path":"a","wrap_ttl":"0s"}`, "/wrap_ttl", "form"},
		"wrap_ttl negative":         {"kv.read", `{"path":"a","wrap_ttl":"-1"}`, "/wrap_ttl", "form"},
		"wrap_ttl with an exponent": {"kv.read", `{"path":"a","wrap_ttl":"1e9"}`, "/wrap_ttl", "form"},
		"wrap_ttl with a space":     {"kv.read", `{"path":"a","wrap_ttl":"5m "}`, "/wrap_ttl", "form"},
		"wrap_ttl without end":      {"kv.read", `{"path":"a","wrap_ttl":"∞"}`, "/wrap_ttl", "form"},
		"wrap_ttl as number":        {"kv.read", `{"path":"a","wrap_ttl":60}`, "/wrap_ttl", "must be of type string"},
		"wrap_ttl with a line end":  {"kv.read", `{"path":"a","wrap_ttl":"60s\n"}`, "/wrap_ttl", "form"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lookup(t, c.tool).Decode(json.RawMessage(c.args))
			require.ErrorIs(t, err, fault.Invalid)
			f := fault.From(err)
			require.Contains(t, f.Msg, c.want)
			require.NotContains(t, fmt.Sprintf("%s %v %v", f.Msg, f.Details, f.Err), canary)
			if c.field == "" {
				require.NotContains(t, f.Details, "field")
				return
			}
			require.Equal(t, c.field, f.Details["field"])
		})
	}
}

func TestDecodeTakes(t *testing.T) {
	for name, c := range map[string]struct{ tool, args, want string }{
		"nothing":              {"whoami", ``, `{}`},
		"null for the object":  {"whoami", ` null `, `{}`},
		"spaces around":        {"kv.read", " {\"path\" :\t\"a\"}\r\n", `{"path":"a"}`},
		"defaults":             {"kv.list", `{}`, `{}`},
		"folder":               {"kv.list", `{"prefix":"a/b/"}`, `{"prefix":"a/b/"}`},
		"escapes":              {"kv.read", `{"path":"\u0061/b"}`, `{"path":"a/b"}`},
		"the version's zero":   {"kv.read", `{"path":"a","version":-0}`, `{"path":"a"}`},
		"integer 1.0":          {"kv.read", `{"path":"a","version":1.0}`, `{"path":"a","version":1}`},
		"integer 1e0":          {"kv.read", `{"path":"a","version":1e0}`, `{"path":"a","version":1}`},
		"integer 20e-1":        {"kv.destroy", `{"path":"a","versions":[20e-1, 3]}`, `{"path":"a","versions":[2,3]}`},
		"cas of zero is kept":  {"kv.write", `{"path":"a","data":{},"cas":0}`, `{"path":"a","data":{},"cas":0}`},
		"data as it came":      {"kv.write", `{"path":"a","data":{"b":1.50,"a":{"data":null,"x/y":[-0]}}}`, `{"path":"a","data":{"b":1.50,"a":{"data":null,"x/y":[-0]}}}`},
		"data of depth 65":     {"kv.write", `{"path":"a","data":` + strings.Repeat(`{"a":`, 65) + `1` + strings.Repeat(`}`, 65) + `}`, ``},
		"segments of only dot": {"kv.read", `{"path":".../..a/.b"}`, `{"path":".../..a/.b"}`},
		"longest path":         {"kv.read", `{"path":"` + strings.Repeat("a", 128) + strings.Repeat("/a", 31) + `"}`, ``},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := lookup(t, c.tool).Decode(json.RawMessage(c.args))
			require.NoError(t, err)
			if c.want == "" {
				c.want = c.args
			}
			got, err := tools.Encode(in)
			require.NoError(t, err)
			require.JSONEq(t, c.want, string(got))
			if strings.Contains(c.tool, "write") {
				require.Equal(t, c.want, string(got), "data must pass as they came, to the byte")
			}
		})
	}
}

// The published pattern of a path and the grammar that decides agree, but for
// the length of a segment, which RE2 cannot count within a count.
func TestPatternsAgreeWithTheGrammar(t *testing.T) {
	for _, c := range []struct {
		tool, argument string
		grammar        func(string) error
	}{{"kv.read", "path", vaultx.CheckPath}, {"kv.list", "prefix", vaultx.CheckListPrefix}, {"transit.encrypt", "key", vaultx.CheckName}} {
		t.Run(c.tool, func(t *testing.T) {
			property := propertyOf(t, lookup(t, c.tool).InputSchema, c.argument)
			pattern := regexp.MustCompile(property["pattern"].(string))
			longest := int(property["maxLength"].(float64))
			agree := func(t require.TestingT, s string) {
				published := pattern.MatchString(s) && len(s) <= longest
				decided := c.grammar(s) == nil
				longSegment := false
				for _, segment := range strings.Split(s, "/") {
					longSegment = longSegment || len(segment) > 128
				}
				require.Equal(t, decided, published && !longSegment, "%q", s)
			}
			for _, s := range []string{
				"", ".", "..", "...", "....", "a", ".a", "..a", "a.", "a..", "./a", "a/.", "../a", "a/..", "a/../b", ".../...", "a//b", "/", "/a", "a/", "a\n",
				"a/b/", "a/b//", "é", strings.Repeat("a/", 31) + "a", strings.Repeat("a/", 32) + "a", strings.Repeat("a/", 31) + "a/",
				strings.Repeat("a", 128), strings.Repeat("a", 129), strings.Repeat(strings.Repeat("a", 127)+"/", 4), strings.Repeat("ab/", 170) + "abc",
			} {
				agree(t, s)
			}
			rapid.Check(t, func(t *rapid.T) {
				agree(t, rapid.StringOfN(rapid.RuneFrom([]rune("a./.=@-_Z9%é \x00")), 0, 40, -1).Draw(t, "path"))
			})
		})
	}
}

func propertyOf(t testing.TB, schema json.RawMessage, name string) map[string]any {
	t.Helper()
	var s struct {
		Properties map[string]map[string]any `json:"properties"`
	}
	require.NoError(t, json.Unmarshal(schema, &s))
	require.Contains(t, s.Properties, name)
	return s.Properties[name]
}

func compile(t testing.TB, schema json.RawMessage) *checker.Schema {
	t.Helper()
	doc, err := checker.UnmarshalJSON(strings.NewReader(string(schema)))
	require.NoError(t, err)
	c := checker.NewCompiler()
	c.DefaultDraft(checker.Draft2020)
	require.NoError(t, c.AddResource("schema", doc))
	return c.MustCompile("schema")
}

// FuzzDecode: whatever comes, decoding does not panic and its errors repeat
// nothing; what it accepts is valid by the published schema, and decodes to
// the same when written back.
func FuzzDecode(f *testing.F) {
	all := tools.NewCatalog().Tools()
	schemas := make([]*checker.Schema, len(all))
	for i, tool := range all {
		schemas[i] = compile(f, tool.InputSchema)
		for _, seed := range []string{
			``, `null`, `{}`, `{"path":"a/b"}`, `{"path":"a","version":1.0}`, `{"path":"a","wrap_ttl":"60s"}`, `{"prefix":"a/"}`,
			`{"path":"a","versions":[1,2e0]}`, `{"path":"a","data":{"k":"v"},"cas":0}`, `{"path":"a","data":{"k":1e400}}`, `{"path":"a","version":1e9999999}`,
			`{"path":"CANARYCANARY/..","data":{"CANARYCANARY":["CANARYCANARY",{"CANARYCANARY":null}]}}`, `{"CANARYCANARY":1}`, `{"path":"\ud800"}`,
		} {
			f.Add(uint8(i), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		tool, schema := all[int(which)%len(all)], schemas[int(which)%len(all)]
		in, err := tool.Decode(raw)
		if err != nil {
			checkNoEcho(t, raw, fault.From(err))
			return
		}
		got, err := tools.Encode(in)
		require.NoError(t, err)
		require.NoError(t, schema.Validate(parsed(t, got)))
		if value := jsontext.Value(raw); value.Kind() == '{' && numbersAreShort(raw) {
			require.NoError(t, schema.Validate(parsed(t, raw)))
		}
		again, err := tool.Decode(got)
		require.NoError(t, err)
		require.Equal(t, in, again)
	})
}

// checkNoEcho looks for words of the input in an error. Short words prove
// nothing, and words of our own messages are no echo.
func checkNoEcho(t *testing.T, raw []byte, f *fault.Error) {
	t.Helper()
	require.Equal(t, fault.Invalid, f.Kind)
	said := fmt.Sprintf("%s %v %v", f.Msg, f.Details, f.Err)
	if at := strings.Index(said, "CANARY"); at >= 0 {
		t.Fatalf("the error repeats the input: %s", said)
	}
	for _, word := range regexp.MustCompile(`[^\s"\\,:/]{9,}`).FindAll(raw, -1) {
		if strings.Contains(said, string(word)) && !strings.Contains(ourWords, string(word)) {
			t.Fatalf("the error repeats %q of the input: %s", word, said)
		}
	}
}

// ourWords are texts of ours that an input may have by chance.
var ourWords = func() string {
	var b strings.Builder
	for _, tool := range tools.NewCatalog().Tools() {
		b.Write(tool.InputSchema)
	}
	return b.String()
}()

func parsed(t testing.TB, raw []byte) any {
	t.Helper()
	v, err := checker.UnmarshalJSON(strings.NewReader(string(raw)))
	require.NoError(t, err)
	return v
}

// numbersAreShort keeps the checker, which has no bounds, from input that only
// a bound makes harmless. Data are ours to bound, not the schema's.
func numbersAreShort(raw []byte) bool { return !regexp.MustCompile(`[eE][+-]?[0-9]{4}`).Match(raw) }
