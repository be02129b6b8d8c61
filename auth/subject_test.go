package auth_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-mcp/auth"
	"vault-mcp/fault"
)

// The subjects of the corpus of bad inputs, each with what becomes of it:
// accepted and isolated under a slug of its own, or refused.
func TestSlugRows(t *testing.T) {
	rows := []struct{ subject, slug string }{
		// What people use is its own slug.
		{"dev", "dev"},
		{"dev-bot", "dev-bot"},
		{"agent_api", "agent_api"},
		{"stdio-agent", "stdio-agent"},
		{"user@example.org", "user@example.org"},
		{"root", "root"},
		{"default", "default"},
		{"__proto__", "__proto__"},
		{"a.b-c", "a.b-c"},
		{"a-.b", "a-.b"},
		{"a_-_b", "a_-_b"},

		// Paths.
		{"../admin", "=2e=2e=2fadmin"},
		{"..%2fadmin", "=2e=2e=252fadmin"},
		{"a/b", "a=2fb"},
		{"a//b", "a=2f=2fb"},
		{"/", "=2f"},
		{".", "=2e"},
		{"..", "=2e=2e"},
		{"a..b", "a.=2eb"},
		{"a...b", "a.=2e=2eb"},

		// Blanks and case, which Vault takes off and folds.
		{" ", "=20"},
		{"admin ", "admin=20"},
		{" admin", "=20admin"},
		{"admin", "admin"},
		{"Admin", "=41dmin"},
		{"ADMIN", "=41=44=4d=49=4e"},
		{"admin\u00a0", "admin=c2=a0"},

		// Separators of ours, and our own escapes.
		{"dev--bot", "dev-=2dbot"},
		{"dev---bot", "dev-=2d=2dbot"},
		{"dev-", "dev=2d"},
		{"-dev", "=2ddev"},
		{"-", "=2d"},
		{"--", "=2d=2d"},
		{"dev.", "dev=2e"},
		{".dev", "=2edev"},
		{"=", "=3d"},
		{"=2d", "=3d2d"},
		{"dev=2d", "dev=3d2d"},

		// Wildcards, lists, templates and code.
		{"*", "=2a"},
		{"+", "=2b"},
		{"a*", "a=2a"},
		{"a,root", "a=2croot"},
		{"a\nroot", "a=0aroot"},
		{"a\x00", "a=00"},
		{`a"} path "sys/*" {capabilities=["sudo"]`, "a=22=7d=20path=20=22sys=2f=2a=22=20=7bcapabilities=3d=5b=22sudo=22=5d"},
		{"{{identity.entity.name}}", "=7b=7bidentity.entity.name=7d=7d"},
		{"${jndi:x}", "=24=7bjndi=3ax=7d"},
		{"<script>", "=3cscript=3e"},
		{"=cmd|' /C calc'!A0", "=3dcmd=7c=27=20=2f=43=20calc=27=21=410"},
		{"\x1b[2J", "=1b=5b2=4a"},

		// Identities of other systems.
		{"a:b", "a=3ab"},
		{"spiffe://td/ns/a", "spiffe=3a=2f=2ftd=2fns=2fa"},
		{"arn:aws:sts::1:assumed-role/x", "arn=3aaws=3asts=3a=3a1=3aassumed-role=2fx"},
		{"auth0|123", "auth0=7c123"},
		{"user+tag@example.org", "user=2btag@example.org"},

		// Unicode is bytes: twins stay two.
		{"\u00e9", "=c3=a9"},
		{"e\u0301", "e=cc=81"},
		{"\u0430dmin", "=d0=b0dmin"},
		{"\U0001F916", "=f0=9f=a4=96"},
		{"a\u2028b", "a=e2=80=a8b"},
		{"\u212a", "=e2=84=aa"}, // the Kelvin sign, which folds to k
		{"\xff\xfe", "=ff=fe"},
		{"\ufffd", "=ef=bf=bd"},

		// Lengths.
		{strings.Repeat("a", 128), strings.Repeat("a", 128)},
		{strings.Repeat("A", 42) + "bb", strings.Repeat("=41", 42) + "bb"},
		{"", ""},
		{strings.Repeat("a", 129), ""},
		{strings.Repeat("a", 4096), ""},
		{strings.Repeat("A", 43), ""}, // 129 bytes when escaped
		{strings.Repeat("\u0430", 64), ""},
	}
	seen := map[string]string{}
	for _, row := range rows {
		slug, err := auth.Slug(row.subject)
		if row.slug == "" {
			require.ErrorIs(t, err, fault.Invalid, "%q", row.subject)
			continue
		}
		require.NoError(t, err, "%q", row.subject)
		require.Equal(t, row.slug, slug, "%q", row.subject)
		before, taken := seen[slug]
		require.True(t, !taken || before == row.subject, "%q and %q share a slug", row.subject, before)
		seen[slug] = row.subject
	}
}

func TestSlugErrorHoldsNoValue(t *testing.T) {
	for _, subject := range []string{strings.Repeat("canary", 30), strings.Repeat("CANARY", 10)} {
		_, err := auth.Slug(subject)
		require.Error(t, err)
		require.NotContains(t, strings.ToLower(err.Error()), "canary")
	}
}

// slugText is one segment of a path as the grammar of paths has it, in lower
// case, and without the ends that a slug may not have.
var slugText = regexp.MustCompile(`^[a-z0-9_@=]([a-z0-9._@=-]{0,126}[a-z0-9_@=])?$`)

func checkSlug(t require.TestingT, subject, slug string) {
	require.Regexp(t, slugText, slug)
	require.NotContains(t, slug, "--")
	require.NotContains(t, slug, "..")
	require.Equal(t, slug, strings.TrimSpace(strings.ToLower(slug)))
	require.Equal(t, subject, unslug(t, slug), "a slug tells its subject, so no other has it")
}

// unslug is the way back, which only tests need.
func unslug(t require.TestingT, slug string) string {
	var subject []byte
	for i := 0; i < len(slug); i++ {
		if slug[i] != '=' {
			subject = append(subject, slug[i])
			continue
		}
		require.Less(t, i+2, len(slug))
		high := strings.IndexByte("0123456789abcdef", slug[i+1])
		low := strings.IndexByte("0123456789abcdef", slug[i+2])
		require.True(t, high >= 0 && low >= 0)
		subject = append(subject, byte(high<<4|low))
		i += 2
	}
	return string(subject)
}

// nearSubjects draws from few bytes, so that subjects that differ little, and
// runs of dots and dashes, come often.
func nearSubjects() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("aA-.=2de /")), 1, 8, -1),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 42), func(b []byte) string { return string(b) }),
	)
}

func TestSlugProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		subject := nearSubjects().Draw(t, "subject")
		slug, err := auth.Slug(subject)
		require.NoError(t, err)
		checkSlug(t, subject, slug)
	})
}

// No principal's default grants or prefix reach another's.
func TestPrincipalsDoNotReachOneAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := nearSubjects().Draw(t, "one")
		other := nearSubjects().Filter(func(s string) bool { return s != one }).Draw(t, "other")
		p, q := launched(t, one), launched(t, other)
		require.NotEqual(t, strings.ToLower(p.Slug), strings.ToLower(q.Slug))
		require.False(t, strings.HasPrefix(q.Prefix+"/", p.Prefix+"/"))
		for _, engine := range []string{"transit", "database", "ssh"} {
			require.True(t, p.Grants.Allow(engine, p.Slug))
			require.True(t, p.Grants.Allow(engine, p.Slug+"--x"))
			require.False(t, p.Grants.Allow(engine, q.Slug))
			require.False(t, p.Grants.Allow(engine, q.Slug+"--x"))
		}
		require.True(t, p.Grants.Allow("kms", "alias/"+p.Slug+"--x"))
		require.False(t, p.Grants.Allow("kms", p.Slug))
		require.False(t, p.Grants.Allow("kms", "alias/"+q.Slug+"--x"))
	})
}

func launched(t require.TestingT, subject string) *auth.Principal {
	a, err := auth.New(auth.Options{Prefix: "mcp", LaunchSubject: subject})
	require.NoError(t, err)
	p, err := a.Launch(context.Background())
	require.NoError(t, err)
	return p
}

func FuzzSlug(f *testing.F) {
	for _, seed := range []string{"dev-bot", "../admin", "a--b", "..", "=2d", "\xff", "Admin ", strings.Repeat("é", 70)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		slug, err := auth.Slug(subject)
		if err != nil {
			require.ErrorIs(t, err, fault.Invalid)
			require.True(t, subject == "" || len(subject) > 42, "refused without need")
			return
		}
		checkSlug(t, subject, slug)
	})
}
