package tools_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/tools"
)

// world is one small configuration: one principal with a key, and one rule.
type world struct {
	subject, prefix  string
	scopes, ceiling  []string // of the key, of the rule; nil: all
	grants, sets     []string // of the rule: transit keys, toolsets; nil: all sets
	exclude, offered []string // of the rule, of the server
}

// asked is one call: a tool on a path or a name.
type asked struct{ tool, object string }

var questions = []asked{
	{"kv.read", "a"},
	{"kv.write", "a"},
	{"kv.list", "a"},
	{"kv.delete", "a"},
	{"whoami", ""},
	{"transit.encrypt", "dev"},
	{"transit.encrypt", "dev-bot"},
	{"transit.encrypt", "team-1"},
	{"transit.encrypt", "team"},
	{"transit.verify", "dev--x"},
}

// reaches is the oracle: where in Vault a call arrives, "" for nowhere.
func (w *world) reaches(q asked) string {
	engine, _, _ := strings.Cut(q.tool, ".")
	right := rights[q.tool]
	holds := func(list []string, verb string) bool {
		return list == nil || slices.Contains(list, verb) || slices.Contains(list, engine+":"+verb)
	}
	set := func(name string) bool { return q.tool == "whoami" || name == engine || name == "read" && right.reads }
	switch {
	case w.sets != nil && !slices.ContainsFunc(w.sets, set), w.offered != nil && !slices.ContainsFunc(w.offered, set),
		slices.Contains(w.exclude, q.tool), slices.Contains(w.exclude, engine):
		return ""
	case right.verb != "" && (!holds(w.scopes, string(right.verb)) || !holds(w.ceiling, string(right.verb))):
		return ""
	case engine == "whoami":
		return "whoami"
	case engine == "kv":
		home := "mcp/" + w.subject
		if w.prefix != "" {
			home = strings.ReplaceAll(w.prefix, "{slug}", w.subject)
		}
		return home + "/" + q.object
	}
	for _, grant := range append([]string{w.subject, w.subject + "--*"}, w.grants...) {
		stem, open := strings.CutSuffix(grant, "*")
		if q.object == grant || open && strings.HasPrefix(q.object, stem) {
			return q.object
		}
	}
	return ""
}

// principal is whom the key of a world stands for.
func (w *world) principal(t *testing.T) *auth.Principal {
	t.Helper()
	rule := map[string]any{"subject": w.subject, "grants": map[string]any{"transit": append([]string{}, w.grants...)}}
	record := map[string]any{"subject": w.subject}
	for name, list := range map[string][]string{"scopes": w.ceiling, "toolsets": w.sets, "exclude": w.exclude} {
		if list != nil {
			rule[name] = list
		}
	}
	if w.prefix != "" {
		rule["prefix"] = w.prefix
	}
	if w.scopes != nil {
		record["scopes"] = w.scopes
	}
	rules, err := json.Marshal([]any{rule, map[string]any{"any": true, "disabled": true}})
	require.NoError(t, err)
	keys, err := json.Marshal(map[string]any{"key-of-world": record})
	require.NoError(t, err)
	a, err := auth.New(auth.Options{
		Prefix: "mcp", APIKeys: true, KeysJSON: secret.NewText(string(keys)), Rules: string(rules), Tool: tools.NewCatalog().IsTool, Toolset: tools.IsToolset,
	})
	require.NoError(t, err, "%s", rules)
	p, err := a.Authenticate(t.Context(), auth.Presented{Header: http.Header{"X-Api-Key": {"key-of-world"}}})
	require.NoError(t, err)
	return p
}

// The whole of what small worlds allow, against the oracle: what it allows
// arrives where it says, and nothing else arrives anywhere. What a world with less
// of anything allows is no more.
func TestWorlds(t *testing.T) {
	vault := newFakeVault(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	scopes := [][]string{nil, {}, {"kv:read", "transit:write"}, {"read", "list", "kv:write"}}
	sets := [][]string{nil, {"kv"}, {"read"}, {"transit", "read"}}
	total := 0
	for subject, offered := range map[string][]string{"dev": nil, "dev-bot": {"kv", "read"}} {
		r := newRig(t, rigOptions{addr: vault.URL, Options: tools.Options{Sets: offered}})
		for _, prefix := range []string{"", "teams/{slug}", "mcp"} {
			for _, having := range scopes {
				for _, ceiling := range scopes {
					for _, grants := range [][]string{nil, {"team-*", "dev-bot"}} {
						for i, within := range sets {
							exclude := [][]string{nil, {"kv.read"}, {"transit"}, nil}[i]
							w := &world{subject, prefix, having, ceiling, grants, within, exclude, offered}
							total += w.try(t, r, vault)
						}
					}
				}
			}
		}
	}
	require.Equal(t, 2*3*4*4*2*4*len(questions), total)
}

// try asks everything of a world.
func (w *world) try(t *testing.T, r *rig, vault *fakeVault) int {
	t.Helper()
	p := w.principal(t)
	var may []string
	for _, q := range questions {
		want := w.reaches(q)
		if want != "" {
			may = append(may, q.tool)
		}
		before := len(vault.seen())
		_, f := r.run(p, q.tool, argumentsOf(q))
		reached := vault.seen()[before:]
		switch {
		case want == "":
			require.NotNil(t, f, "%+v %v", w, q)
			require.Equal(t, fault.Forbidden, f.Kind, "%+v %v: %s", w, q, f.Msg)
			require.Empty(t, reached, "%+v %v", w, q)
		case q.tool == "whoami":
			require.Nil(t, f, "%+v", w)
			require.Empty(t, reached)
		default:
			require.Len(t, reached, 1, "%+v %v", w, q)
			require.True(t, strings.HasSuffix(reached[0], "/"+want), "%+v %v: %s", w, q, reached[0])
		}
	}
	visible := tools.Names(r.runner.Visible(p))
	for _, name := range may {
		require.Contains(t, visible, name)
	}
	w.less(t)
	return len(questions)
}

// less takes one right after the other away and asks the oracle, to which the
// runner is held, whether anything is allowed that was not.
func (w *world) less(t *testing.T) {
	t.Helper()
	without := func(list []string, i int) []string { return append(slices.Clone(list[:i]), list[i+1:]...) }
	var smaller []world
	for i := range w.scopes {
		smaller = append(smaller, changed(*w, func(s *world) { s.scopes = without(w.scopes, i) }))
	}
	for i := range w.ceiling {
		smaller = append(smaller, changed(*w, func(s *world) { s.ceiling = without(w.ceiling, i) }))
	}
	for i := range w.grants {
		smaller = append(smaller, changed(*w, func(s *world) { s.grants = without(w.grants, i) }))
	}
	for i := range w.sets {
		smaller = append(smaller, changed(*w, func(s *world) { s.sets = without(w.sets, i) }))
	}
	smaller = append(smaller, changed(*w, func(s *world) { s.exclude = append(slices.Clone(w.exclude), "kv") }))
	for _, s := range smaller {
		for _, q := range questions {
			if to := s.reaches(q); to != "" {
				require.Equal(t, w.reaches(q), to, "%+v allows %v and %+v does not", s, q, w)
			}
		}
	}
}

func changed(w world, change func(*world)) world { change(&w); return w }

func argumentsOf(q asked) string {
	switch q.tool {
	case "whoami":
		return `{}`
	case "transit.encrypt":
		return fmt.Sprintf(`{"key":%q,"plaintext":""}`, q.object)
	case "transit.verify":
		return fmt.Sprintf(`{"key":%q,"input":"","signature":"vault:v1:AAAA"}`, q.object)
	case "kv.list":
		return fmt.Sprintf(`{"prefix":%q}`, q.object)
	case "kv.write":
		return fmt.Sprintf(`{"path":%q,"data":{}}`, q.object)
	}
	return fmt.Sprintf(`{"path":%q}`, q.object)
}
