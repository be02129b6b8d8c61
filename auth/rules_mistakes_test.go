package auth_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Everything that is wrong is told at once, by rule and member, without a value.
func TestRuleMistakes(t *testing.T) {
	const c = "canary"
	for text, wants := range map[string][]string{
		`{}`: {"want a list"}, `x`: {"want a list"}, `null`: {"want a list"}, `[] x`: {"want a list"}, `["canary"]`: {"rule 1: want a table"},
		`[{"any": true, "any": true}]`:                   {"want a list"},
		`[null]`:                                         {"rule 1: want a table"},
		`[{}]`:                                           {"rule 1: it matches nobody"},
		`[{"prefix": "a/{slug}"}]`:                       {"rule 1: it matches nobody"},
		`[{"any": true, "subject": "a"}]`:                {"rule 1: /any: stands alone"},
		`[{"any": false}]`:                               {"it matches nobody"},
		`[{"any": true, "sorce": "canary"}]`:             {"it has a member sorce that is none of"},
		`[{"any": true, "Canary-7f": 1}]`:                {"it has a member that is none of"},
		`[{"any": "canary"}]`:                            {"rule 1: /any: not of the kind"},
		`[{"any": null}]`:                                {"rule 1: /any: null is no value"},
		`[{"subject": ""}]`:                              {"rule 1: /subject: want a text of 1 to"},
		`[{"subject": "canary*x"}]`:                      {"/subject: want at most one *"},
		`[{"subject": "` + strings.Repeat(c, 22) + `"}]`: {"/subject: no subject has over 128"},
		`[{"source": "canary"}]`:                         {"/source: want one of"},
		`[{"source": "API_KEY"}]`:                        {"/source: want one of"},
		`[{"source": "jwt", "key_id": "canary"}]`:        {"/key_id: is only of the source api_key"},
		`[{"source": "mtls", "claim": {"name": "a", "value": "b"}}]`:                        {"/claim: is only of the source jwt"},
		`[{"source": "api_key", "issuer": "canary", "prefix": "x/{slug}"}]`:                 {"/issuer: is only of the source jwt"},
		`[{"source": "jwt", "certificate": "cn:canary"}]`:                                   {"/certificate: is only of the source mtls"},
		`[{"certificate": "canary"}]`:                                                       {"/certificate: want a name that begins"},
		`[{"certificate": "*"}]`:                                                            {"/certificate: want a name that begins"},
		`[{"claim": {"value": "canary"}}]`:                                                  {"/claim/name: want"},
		`[{"claim": {"name": "/a~", "value": "canary"}}]`:                                   {"/claim/name: want"},
		`[{"claim": {"name": "canary"}}]`:                                                   {"/claim/value: want"},
		`[{"claim": {"name": "canary", "value": ["x"]}}]`:                                   {"/claim/value: want"},
		`[{"claim": {"name": "canary", "value": 1}}]`:                                       {"/claim/value: want"},
		`[{"claim": {"name": "a", "valu": "canary"}}]`:                                      {"/claim/...: unknown member"},
		`[{"name": "Canary", "any": true}]`:                                                 {"/name: want"},
		`[{"name": "12", "any": true}]`:                                                     {"/name: want"},
		`[{"name": "canary", "any": true}, {"name": "canary", "any": true}]`:                {"rule 2: /name: another rule has it"},
		`[{"any": true, "prefix": "canary"}]`:                                               {"/prefix: would be shared by all"},
		`[{"subject": "a*", "prefix": "canary"}]`:                                           {"/prefix: would be shared by all"},
		`[{"key_id": "json-1", "prefix": "canary"}]`:                                        {"/prefix: would be shared by all"},
		`[{"any": true, "prefix": "canary-{slug}"}]`:                                        {"/prefix: want a path"},
		`[{"any": true, "prefix": "canary/../{slug}"}]`:                                     {"/prefix: want a path"},
		`[{"any": true, "prefix": "canary//{slug}"}]`:                                       {"/prefix: want a path"},
		`[{"any": true, "prefix": "can%61ry/{slug}"}]`:                                      {"/prefix: want a path"},
		`[{"any": true, "prefix": ""}]`:                                                     {"/prefix: want a path"},
		`[{"any": true, "prefix": "{slug}"}]`:                                               {"/prefix: begins with {slug}"},
		`[{"any": true, "prefix": "{slug}/canary"}]`:                                        {"/prefix: begins with {slug}"},
		`[{"any": true, "prefix": "canary/{slug}/{slug}"}]`:                                 {"/prefix: has {slug} more than once"},
		`[{"any": true, "prefix": "` + strings.Repeat("canary/", 40) + `{slug}"}]`:          {"/prefix: too long"},
		`[{"any": true, "scopes": ["canary"]}]`:                                             {"/scopes: scope 1"},
		`[{"any": true, "scopes": "read"}]`:                                                 {"/scopes: not of the kind"},
		`[{"any": true, "grants": {"kv": ["canary"]}}]`:                                     {"/grants: grants are for"},
		`[{"any": true, "grants": {"ssh": ["can*ary"]}}]`:                                   {"/grants: a grant is a name"},
		`[{"any": true, "grants": {"ssh": ["{slug}*"]}}]`:                                   {"/grants/ssh/0: goes on after {slug}"},
		`[{"any": true, "grants": {"ssh": ["{slug}-canary"]}}]`:                             {"/grants/ssh/0: goes on after {slug}"},
		`[{"any": true, "grants": {"ssh": ["x", "{slag}"]}}]`:                               {"/grants/ssh/1: has braces"},
		`[{"any": true, "grants": {"ssh": ["{slug}--{slug}"]}}]`:                            {"/grants/ssh/0: has braces"},
		`[{"any": true, "rate_limit": {"requests": 0, "window_seconds": 1}}]`:               {"/rate_limit: want requests"},
		`[{"any": true, "rate_limit": {"requests": 1}}]`:                                    {"/rate_limit: want requests"},
		`[{"any": true, "rate_limit": {"requests": 1, "window_seconds": 1, "burst": -1}}]`:  {"/rate_limit: want requests"},
		`[{"any": true, "rate_limit": {"requests": 1.5, "window_seconds": 1}}]`:             {"/rate_limit/requests: not of the kind"},
		`[{"any": true, "toolsets": []}]`:                                                   {"/toolsets: want 1 to"},
		`[{"any": true, "toolsets": ["canary"]}]`:                                           {"/toolsets/0: names no toolset"},
		`[{"any": true, "tools": ["kv", "kv.raed"]}]`:                                       {"/tools/1: names no tool"},
		`[{"any": true, "exclude": ["kv.raed"]}]`:                                           {"/exclude/0: names no tool"},
		`[{"issuer": "canary"}]`:                                                            {"gives no prefix"},
		`[{"issuer": "canary", "prefix": "x"}]`:                                             {"/prefix: would be shared"},
		`[{"issuer": "canary", "prefix": "x/{slug}", "grants": {"ssh": ["{slug}--*"]}}]`:    {"/grants/ssh/0: would be what the operator's own"},
		`[{"issuer": "canary", "prefix": "x/{slug}", "grants": {"kms": ["alias/{slug}"]}}]`: {"/grants/kms/0: would be what the operator's own"},
		`[{"name": "Canary", "subject": "a*b", "scopes": ["canary"], "tools": ["x"], "other": 1}, {"source": "canary"}, {"any": true}, {}]`: {
			"rule 1: it has a member other", "rule 1: /name", "rule 1: /subject", "rule 1: /scopes", "rule 1: /tools/0", "rule 2: /source", "rule 4: it matches nobody",
		},
	} {
		_, err := auth.New(ruled(text))
		require.ErrorIs(t, err, fault.Invalid, text)
		lines := strings.Split(err.Error(), "\n")
		require.Len(t, lines, len(wants), "%s: %q", text, lines)
		for i, want := range wants {
			require.Contains(t, lines[i], want, text)
			require.Contains(t, lines[i], "PRINCIPALS", text)
		}
		require.NotContains(t, strings.ToLower(err.Error()), c, text)
	}
	opt := ruled(`[{}]`)
	opt.APIKeys, opt.KeysJSON = true, secret.NewText(`{"k": "too short"}`)
	_, err := auth.New(opt)
	require.ErrorContains(t, err, "PRINCIPALS: rule 1")
	require.ErrorContains(t, err, "API_KEYS_JSON: entry 1", "what is wrong with keys is told with it")
	opt = ruled(`[{"issuer": "https://home.example", "prefix": "x/{slug}"}]`)
	opt.HomeIssuer = "https://home.example"
	_, err = auth.New(opt)
	require.ErrorContains(t, err, "/issuer: is the operator's own", "it would match nobody")
	_, err = auth.New(ruled("[" + strings.Repeat(`{"any":true},`, 1000) + `{"any":true}]`))
	require.ErrorContains(t, err, "over 1000 rules")
	_, err = auth.New(auth.Options{Prefix: "mcp", Rules: `[{"any": true, "tools": ["kv.read"]}]`})
	require.ErrorContains(t, err, "names no tool", "nobody says what tools there are")
}
