package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// Which prefixes of two rules go together. An issuer's lies outside of home's and
// of every other issuer's; and none lets one subject choose its name so that it
// has what is another's.
func TestPrefixesOfRulesDoNotMeet(t *testing.T) {
	const issuerA, issuerB = `"issuer": "https://a.example", `, `"issuer": "https://b.example", `
	for rules, wrong := range map[string]string{
		// One issuer's and home's.
		`[{` + issuerA + `"prefix": "a/{slug}"}]`:                                                                     "",
		`[{` + issuerA + `"prefix": "mcpx/{slug}"}]`:                                                                  "",
		`[{` + issuerA + `"prefix": "mcp/{slug}"}]`:                                                                   "overlaps DEFAULT_PREFIX",
		`[{` + issuerA + `"prefix": "mcp/a/{slug}"}]`:                                                                 "overlaps DEFAULT_PREFIX",
		`[{` + issuerA + `"prefix": "mcp/{slug}/a"}]`:                                                                 "overlaps DEFAULT_PREFIX",
		`[{` + issuerA + `"prefix": "mcp", "shared": true}]`:                                                          "overlaps DEFAULT_PREFIX",
		`[{` + issuerA + `"prefix": "mcp/a/b", "subject": "x", "shared": true}]`:                                      "overlaps DEFAULT_PREFIX",
		`[{` + issuerA + `"prefix": "a", "subject": "x"}]`:                                                            "",
		`[{` + issuerA + `"prefix": "a", "shared": true}]`:                                                            "",
		`[{"any": true, "prefix": "a/{slug}"}, {` + issuerA + `"prefix": "a/{slug}"}]`:                                "overlaps the prefix of rule 1",
		`[{"subject": "x", "prefix": "a/b"}, {` + issuerA + `"prefix": "a/{slug}"}]`:                                  "overlaps the prefix of rule 1",
		`[{` + issuerA + `"prefix": "a/{slug}"}, {"subject": "x", "prefix": "a"}]`:                                    "overlaps the prefix of rule 1",
		`[{` + issuerA + `"prefix": "a/{slug}"}, {"subject": "x", "prefix": "a", "shared": true}]`:                    "",
		`[{` + issuerA + `"prefix": "a/{slug}", "shared": true}, {"subject": "x", "prefix": "a"}]`:                    "overlaps the prefix of rule 1",
		`[{"name": "h", "any": true, "prefix": "a/{slug}"}, {` + issuerA + `"disabled": true, "prefix": "a/{slug}"}]`: "",
		// Two issuers'.
		`[{` + issuerA + `"prefix": "a/{slug}"}, {` + issuerB + `"prefix": "b/{slug}"}]`:                                     "",
		`[{` + issuerA + `"prefix": "t/a/{slug}"}, {` + issuerB + `"prefix": "t/b/{slug}"}]`:                                 "",
		`[{` + issuerA + `"prefix": "a/{slug}"}, {` + issuerB + `"prefix": "a/{slug}"}]`:                                     "a further issuer has a prefix of its own",
		`[{` + issuerA + `"prefix": "a/{slug}"}, {` + issuerB + `"prefix": "a/b/{slug}"}]`:                                   "a further issuer has a prefix of its own",
		`[{` + issuerA + `"prefix": "t/{slug}/a"}, {` + issuerB + `"prefix": "t/b/{slug}"}]`:                                 "a further issuer has a prefix of its own",
		`[{` + issuerA + `"prefix": "a/b", "shared": true}, {` + issuerB + `"prefix": "a", "subject": "x", "shared": true}]`: "a further issuer has a prefix of its own",
		`[{` + issuerA + `"prefix": "t/{slug}/a"}, {` + issuerB + `"prefix": "t/{slug}/b"}]`:                                 "",
		// One issuer's own.
		`[{"subject": "a*", "prefix": "t/{slug}"}, {"any": true, "prefix": "t/{slug}"}]`:                             "",
		`[{"subject": "a*", "prefix": "t/{slug}/x"}, {"any": true, "prefix": "t/{slug}"}]`:                           "",
		`[{"subject": "a*", "prefix": "mcp/{slug}/x"}]`:                                                              "",
		`[{"source": "mtls", "prefix": "mcp/mtls/{slug}"}]`:                                                          "overlaps DEFAULT_PREFIX for other subjects",
		`[{"source": "mtls", "prefix": "mcp/mtls/{slug}", "shared": true}]`:                                          "",
		`[{"subject": "a*", "prefix": "t/a/{slug}"}, {"any": true, "prefix": "t/{slug}"}]`:                           "overlaps the prefix of rule 1 for other subjects",
		`[{"subject": "hub", "prefix": "mcp"}, {"subject": "hub2", "prefix": "mcp/x"}]`:                              "",
		`[{` + issuerA + `"subject": "x*", "prefix": "a/x/{slug}"}, {` + issuerA + `"prefix": "a/{slug}"}]`:          "overlaps the prefix of rule 1 for other subjects",
		`[{"name": "first", ` + issuerA + `"prefix": "a/{slug}"}, {` + issuerA + `"prefix": "a/{slug}/{slug}"}, {}]`: "has {slug} more than once",
	} {
		_, err := auth.New(ruled(rules))
		if wrong == "" {
			require.NoError(t, err, rules)
			continue
		}
		require.ErrorIs(t, err, fault.Invalid, rules)
		require.ErrorContains(t, err, "/prefix: ", rules)
		require.ErrorContains(t, err, wrong, rules)
	}
}

// hostile are subjects that systems have confused with one another, or with
// something else than a name.
var hostile = []string{
	"dev", "Dev", "DEV", "dev ", " dev", "dev\x00", "dev-bot", "dev--bot", "dev-", "-dev", "dev.bot", "dev_bot", "dev/bot", "dev:bot", "dev=2dbot", "dev|bot",
	"é", "e\u0301", "admin", "\u0430dmin", "\u212a", "k", "K", "../admin", "..%2fadmin", "a/b", "a//b", "/", ".", "..", " ", "root", "default", "*", "+", "a*", "a,root", "a\nroot",
	`a"} path "sys/*" {capabilities=["sudo"]`, "{{identity.entity.name}}", "{slug}", "${jndi:x}", "spiffe://td/ns/a", "user@example.org", "user+tag@example.org", "arn:aws:sts::1:assumed-role/x", "auth0|123",
	"\U0001F916", "__proto__", "=cmd|' /C calc'!A0", "<script>", "\x1b[2J", "a\u2028b", "\xff", strings.Repeat("a", 128),
	"a.example-0000000000000000--dev", "mcp", "corp", "x",
}

// The same subject of several sources is one principal; of two issuers, two. And
// no two of all these share a prefix, a name, a policy, a grant, a limit or a
// handle, also where a prefix comes from a rule.
func TestSubjectTwins(t *testing.T) {
	a := withRules(t, `[
		{"source": "mtls", "prefix": "certs/{slug}/x"},
		{"issuer": "https://a.example", "subject": "dev*", "prefix": "corp/{slug}", "grants": {"transit": ["corp-a-{slug}", "corp-a-{slug}--*"], "kms": ["alias/corp-a-{slug}"]}},
		{"issuer": "https://a.example", "prefix": "corp/{slug}"},
		{"issuer": "https://a.example/", "prefix": "corp2/{slug}", "grants": {"transit": ["corp-b-{slug}", "corp-b-{slug}--*"]}}
	]`)
	type who struct{ issuer, subject string }
	one := map[who]*auth.Principal{}
	for _, subject := range hostile {
		for _, id := range []auth.Identity{
			full(auth.MethodAPIKey, "", subject), full(auth.MethodJWT, "", subject), full(auth.MethodLaunch, "", subject), full(auth.MethodMTLS, "", subject),
			full(auth.MethodJWT, "https://a.example", subject), full(auth.MethodJWT, "https://a.example/", subject),
		} {
			p, err := a.Principal(id)
			require.NoError(t, err, "%q", subject)
			before := one[who{id.Issuer, subject}]
			if before == nil {
				one[who{id.Issuer, subject}] = p
				continue
			}
			require.Equal(t, before.ID(), p.ID(), "%q by two sources", subject)
			require.Equal(t, before.Policy("x-"), p.Policy("x-"))
			require.Equal(t, before.Grants, p.Grants)
		}
		_, err := a.Principal(full(auth.MethodJWT, "https://c.example", subject))
		require.ErrorIs(t, err, fault.Forbidden, "an issuer without a rule")
	}
	require.Len(t, one, 3*len(hostile))
	limiter, limit := auth.NewLimiter(), auth.Limit{Requests: 1, Window: time.Hour}
	for w, p := range one {
		require.True(t, limiter.Allow(t.Context(), p.ID(), limit, 1).OK, "%q shares a limit", w)
		require.False(t, limiter.Allow(t.Context(), p.ID(), limit, 1).OK)
		handle, err := sealer(t, 1).Seal(auth.LeaseHandle, p, sealUntil, []byte("x"))
		require.NoError(t, err)
		for v, q := range one {
			if w == v {
				continue
			}
			apart(t, p, q)
			_, err := sealer(t, 1).Open(auth.LeaseHandle, q, sealNow, handle.String())
			require.ErrorIs(t, err, fault.Forbidden, "%q opens a handle of %q", v, w)
		}
	}
}

// Vault takes names of policies up to 256 bytes from us: there is one for each
// principal, whoever its issuer is, and two long hosts with one beginning differ.
func TestPolicyNamesAreBounded(t *testing.T) {
	host := strings.Repeat(strings.Repeat("a", 39)+".", 6)
	one, two := "https://"+host+"example", "https://"+host+"example.org"
	a := withRules(t, `[{"issuer": "`+one+`", "prefix": "one/{slug}"}, {"issuer": "`+two+`", "prefix": "two/{slug}"}]`)
	subject := strings.Repeat("s", 128)
	p, err := a.Principal(full(auth.MethodJWT, one, subject))
	require.NoError(t, err)
	q, err := a.Principal(full(auth.MethodJWT, two, subject))
	require.NoError(t, err)
	longest := strings.Repeat("p", 64) // of CHILD_TOKEN_POLICY_PREFIX
	require.LessOrEqual(t, len(p.Policy(longest)), 256)
	require.Equal(t, 1, strings.Count(p.ID(), "--"), p.ID())
	require.NotEqual(t, p.ID(), q.ID())
}

// apart holds that nothing of p's is q's, but for what all have.
func apart(t require.TestingT, p, q *auth.Principal) {
	for _, pair := range [][2]string{{p.ID(), q.ID()}, {p.Policy("x-"), q.Policy("x-")}} {
		require.NotEqual(t, strings.ToLower(strings.TrimSpace(pair[0])), strings.ToLower(strings.TrimSpace(pair[1])))
	}
	require.False(t, strings.HasPrefix(q.Prefix+"/", p.Prefix+"/"), "%s is within %s", q.Prefix, p.Prefix)
	for engine, patterns := range p.Grants {
		for _, pattern := range patterns {
			name := strings.Replace(pattern, "*", "x", 1)
			require.True(t, name == "common" || !q.Grants.Allow(engine, name), "%s has the grant %s of %s", q.ID(), pattern, p.ID())
		}
	}
}

// A subject that cannot have a slug is refused whatever a rule says of it.
func TestRulesMakeNobodyOfNothing(t *testing.T) {
	a := withRules(t, `[{"any": true, "prefix": "x", "shared": true}]`)
	for _, subject := range []string{"", strings.Repeat("a", 129), strings.Repeat("A", 43), strings.Repeat("a", 4096)} {
		_, err := a.Principal(full(auth.MethodAPIKey, "", subject))
		require.ErrorIs(t, err, fault.Invalid)
	}
}

// FuzzRules feeds anything as rules, and any two identities: it ends in mistakes
// without a value, or in rules by which no two issuers meet and no principal has
// more than its credential.
func FuzzRules(f *testing.F) {
	for _, rules := range []string{
		`[{"any": true}]`, `[{"subject": "dev*", "prefix": "t/{slug}", "scopes": ["kv:read"], "grants": {"transit": ["a-{slug}--*"]}}]`,
		`[{"issuer": "https://a.example", "prefix": "a/{slug}"}, {"issuer": "https://b.example", "claim": {"name": "/a/b", "value": true}, "prefix": "b/{slug}/x"}]`,
		`[{"subject": "dev", "prefix": "mcp", "rate_limit": {"requests": 1, "window_seconds": 1}, "tools": ["kv"], "exclude": ["kv.read"], "disabled": true}]`,
	} {
		f.Add(rules, "dev", "https://a.example", "dev-bot", "https://b.example", `{"a":{"b":[true]}}`)
	}
	f.Fuzz(func(t *testing.T, rules, subject, issuer, other, otherIssuer, claims string) {
		a, err := auth.New(ruled(rules + " "))
		if err != nil {
			var told *fault.Error
			require.True(t, errors.As(err, &told) && told.Kind == fault.Invalid)
			require.Contains(t, told.Msg, "PRINCIPALS")
			return
		}
		id, id2 := full(auth.MethodJWT, issuer, subject), full(auth.MethodJWT, otherIssuer, other)
		id.Scopes, id.Claims, id2.Claims = auth.Scopes{"kv:read", "write"}, []byte(claims), []byte(claims)
		p, err := a.Principal(id)
		if err != nil {
			require.Nil(t, p)
			return
		}
		require.True(t, p.Valid(time.Now()))
		for _, scope := range p.Scopes {
			require.Contains(t, []auth.Scope{"kv:read", "write", "kv:write", "transit:write", "db:write", "ssh:write", "kms:write"}, scope)
		}
		require.NotContains(t, strings.Split(p.Prefix, "/"), "..")
		require.True(t, issuer == "" || p.Rule != "", "of a further issuer, without a rule")
		q, err := a.Principal(id2)
		if err != nil || issuer == otherIssuer {
			return
		}
		require.NotEqual(t, p.ID(), q.ID())
		if issuer != "" && otherIssuer != "" {
			require.False(t, strings.HasPrefix(q.Prefix+"/", p.Prefix+"/"), "%s and %s", p.Prefix, q.Prefix)
		}
	})
}
