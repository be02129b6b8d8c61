package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/tools"
)

// promptGet and the completions are messages with arguments as they stand in JSON.
func promptGet(name, arguments string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{` + metaHole + `"name":` + name + `,"arguments":` + arguments + `}}`
}

func completion(ref, argument, value, given string) string {
	return `{"jsonrpc":"2.0","id":7,"method":"completion/complete","params":{` + metaHole + `"ref":` + ref +
		`,"argument":{"name":` + argument + `,"value":` + value + `},"context":{"arguments":` + given + `}}}`
}

const (
	rotateRef   = `{"type":"ref/prompt","name":"rotate_secret"}`
	resourceRef = `{"type":"ref/resource","uri":"` + tools.ResourceTemplate + `"}`
)

// TestHostilePrompts sends every path of the corpus through prompts and completions,
// over every surface. What the grammar refuses never reaches Vault; a completion of
// what it takes is one list below the caller's prefix; each request leaves one
// record that ends it.
func TestHostilePrompts(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	trail := readTrail(env)
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			for _, row := range hostilePaths() {
				about := short(row.json)
				seen.Reset()
				got := judge(t, call(t, promptGet(`"rotate_secret"`, `{"path":`+row.json+`}`)))
				record := trail.ended(t, got, about)
				require.Empty(t, seen.Requests(), "a prompt asks nothing")
				if row.isolated {
					require.Equal(t, "ok", got.code, about)
					require.Equal(t, "prompts.get", record.Tool)
				} else {
					require.Equal(t, "invalid", got.code, about)
				}
				for _, frame := range []string{
					completion(rotateRef, `"path"`, row.json, `{}`),
					completion(resourceRef, `"path"`, row.json, `{"subject":"dev"}`),
				} {
					seen.Reset()
					got := judge(t, call(t, frame))
					record := trail.ended(t, got, about)
					if !row.isolated && !row.folder {
						require.Equal(t, "invalid", got.code, about)
						require.Empty(t, seen.Requests(), "%s reached Vault", about)
						continue
					}
					require.Equal(t, "ok", got.code, about)
					require.Equal(t, "kv.list", record.Tool)
					var text string
					require.NoError(t, json.Unmarshal([]byte(row.json), &text))
					folder := quote(text[:strings.LastIndexByte(text, '/')+1])
					require.Regexp(t, requestLine(t, "LIST metadata", folder), strings.Join(seen.Requests(), "\n"), about)
				}
			}
		})
	}
}

// TestHostilePromptNames asks for prompts by what is no prompt's name, and completes
// arguments of none: not found, with one record, and not repeated.
func TestHostilePromptNames(t *testing.T) {
	v := devstacktest.Shared(t)
	seen := devstacktest.Recorder(t, v.Addr)
	env := settings(t, v, "VAULT_ADDR="+seen.URL)
	trail := readTrail(env)
	for surface, call := range rawSurfaces(t, env, devKey) {
		t.Run(surface, func(t *testing.T) {
			trail.more(t)
			for _, name := range []string{"kv.read", "ROTATE_SECRET", "rotate-secret", "rotate_secret/", "rotate_secret\\u0000", "../rotate_secret", "__proto__", strings.Repeat("n", 256)} {
				seen.Reset()
				answer := call(t, promptGet(`"`+name+`"`, `{"path":"x"}`))
				got := judge(t, answer)
				if surface != "modern" || !strings.HasSuffix(name, "0000") { // there, the SDK holds the header's base64 against the name
					require.Equal(t, "not_found", got.code, name)
					require.Equal(t, -32602, got.rpc)
					require.Equal(t, audit.Outcome, trail.ended(t, got, name).Kind)
				} else {
					trail.more(t)
				}
				requireNotSaid(t, `"`+name+`"`, answer)
				answer = call(t, completion(`{"type":"ref/prompt","name":"`+name+`"}`, `"path"`, `""`, `{}`))
				require.Equal(t, "ok", judge(t, answer).code)
				require.Contains(t, answer, `"values":[]`)
				ends := trail.ends(t)
				require.Len(t, ends, 1)
				require.Equal(t, "not_found", ends[0].Outcome)
				require.Empty(t, ends[0].Needs, "a record has names of ours only")
				require.Empty(t, seen.Requests())
			}
		})
	}
}

// markedPrompts are requests for prompts and completions with the mark in each
// place where it does not belong.
func markedPrompts() (frames []string) {
	for _, p := range tools.NewCatalog().Prompts() {
		name := quote(p.Name)
		ref := `{"type":"ref/prompt","name":` + name + `}`
		for _, a := range p.Arguments {
			for _, bad := range []string{quote(canary + "/../x"), quote(canary + " \n\""), quote("../" + canary), `{"` + canary + `":1}`, `["` + canary + `"]`} {
				frames = append(frames, promptGet(name, `{`+quote(a.Name)+`:`+bad+`}`), completion(ref, quote(a.Name), bad, `{}`), completion(ref, quote(a.Name), `""`, `{"engine":`+bad+`}`))
			}
		}
		frames = append(frames, promptGet(name, `{`+quote(canary)+`:"x"}`), completion(ref, quote(canary), `"x"`, `{}`))
	}
	for _, bad := range []string{quote("../" + canary), quote(canary + "\u0000"), `5e400`, `["` + canary + `"]`} {
		for _, variable := range []string{"subject", "path", "version", canary} {
			frames = append(frames, completion(resourceRef, quote(variable), bad, `{}`),
				completion(resourceRef, quote(variable), `""`, `{"path":`+bad+`}`), completion(resourceRef, quote(variable), `""`, `{"subject":`+bad+`}`))
		}
	}
	return append(frames, completion(`{"type":"ref/resource","uri":"kv://`+canary+`/{+path}"}`, `"path"`, `""`, `{}`))
}
