package auth_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

var (
	sealNow   = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	sealUntil = sealNow.Add(time.Hour)
)

func sealer(t require.TestingT, fill byte) *auth.Sealer {
	s, err := auth.NewSealer(bytes.Repeat([]byte{fill}, secret.KeySize))
	require.NoError(t, err)
	return s
}

func owner(slug string) *auth.Principal { return &auth.Principal{Slug: slug, Prefix: "mcp/x"} }

func TestSealerRefusesKeysOfAnotherSize(t *testing.T) {
	for _, size := range []int{0, 16, 31, 33, 64} {
		_, err := auth.NewSealer(make([]byte, size))
		require.Error(t, err, "%d", size)
	}
}

// A handle is good for its owner, purpose and time, on every server with the
// key; and each of the refusals has its kind.
func TestOpenTellsApart(t *testing.T) {
	a, content := owner("mcp/a"), []byte("database/creds/ro/x")
	h, err := sealer(t, 1).Seal(auth.LeaseHandle, a, sealUntil, content)
	require.NoError(t, err)
	require.Regexp(t, `^lease_[A-Za-z0-9_-]+$`, h.String())
	require.NotContains(t, h.String(), base64.RawURLEncoding.EncodeToString(content)[:8])

	got, err := sealer(t, 1).Open(auth.LeaseHandle, a, sealNow, h.String())
	require.NoError(t, err)
	require.Equal(t, content, got)
	_, err = sealer(t, 1).Open(auth.LeaseHandle, a, sealUntil.Add(-time.Second), h.String())
	require.NoError(t, err, "the last second")
	again, err := sealer(t, 1).Seal(auth.LeaseHandle, a, sealUntil, content)
	require.NoError(t, err)
	require.NotEqual(t, h, again)
	other, err := sealer(t, 1).Seal("sub", a, sealUntil, content)
	require.NoError(t, err)

	text, forbidden := h.String(), "this handle was not given to this principal for this purpose"
	for about, row := range map[string]struct {
		by      *auth.Sealer
		who     *auth.Principal
		purpose auth.Purpose
		now     time.Time
		text    string
		kind    fault.Kind
	}{
		"of another server":               {sealer(t, 2), a, auth.LeaseHandle, sealNow, text, fault.Forbidden},
		"of another principal":            {sealer(t, 1), owner("mcp/b"), auth.LeaseHandle, sealNow, text, fault.Forbidden},
		"of one below the principal":      {sealer(t, 1), owner("mcp/a/a"), auth.LeaseHandle, sealNow, text, fault.Forbidden},
		"of nobody":                       {sealer(t, 1), owner(""), auth.LeaseHandle, sealNow, text, fault.Forbidden},
		"of another purpose":              {sealer(t, 1), a, auth.LeaseHandle, sealNow, other.String(), fault.Forbidden},
		"for another purpose":             {sealer(t, 1), a, "sub", sealNow, text, fault.Forbidden},
		"with the word of another":        {sealer(t, 1), a, auth.LeaseHandle, sealNow, "sub" + strings.TrimPrefix(text, "lease"), fault.Forbidden},
		"given the word of this one":      {sealer(t, 1), a, auth.LeaseHandle, sealNow, "lease" + strings.TrimPrefix(other.String(), "sub"), fault.Forbidden},
		"another's that has expired, too": {sealer(t, 1), owner("mcp/b"), auth.LeaseHandle, sealUntil, text, fault.Forbidden},
		"expired":                         {sealer(t, 1), a, auth.LeaseHandle, sealUntil, text, fault.NotFound},
		"expired long ago":                {sealer(t, 1), a, auth.LeaseHandle, sealUntil.AddDate(50, 0, 0), text, fault.NotFound},
	} {
		got, err := row.by.Open(row.purpose, row.who, row.now, row.text)
		require.Nil(t, got, about)
		require.Equal(t, row.kind, fault.KindOf(err), "%s: %v", about, err)
		if row.kind == fault.Forbidden {
			require.Equal(t, forbidden, fault.From(err).Msg, "one text for all")
		}
	}
}

func TestWhatIsNoHandle(t *testing.T) {
	a := owner("mcp/a")
	h, err := sealer(t, 1).Seal(auth.LeaseHandle, a, sealUntil, nil)
	require.NoError(t, err)
	text := h.String()
	for _, bad := range []string{
		"", "lease", "lease_", "_", "_" + text, text + "=", text + "\n", " " + text, text + "\x00", text[:20], text[:len(text)-1] + "\n",
		"database/creds/ro/abc", "ssh/creds/otp/../../x", "LEASE_" + text[6:], "lease_" + strings.ReplaceAll(text[6:], text[10:12], "+/"),
		"lease_" + base64.StdEncoding.EncodeToString(make([]byte, 100)), "lease-" + text[6:], "läse_" + text[6:],
		strings.Repeat("a", 17) + "_" + text[6:], "lease_" + strings.Repeat("A", 4*auth.MaxHandle), "lease_" + strings.Repeat("A", 63), "lease_" + strings.Repeat("A", 61),
	} {
		got, err := sealer(t, 1).Open(auth.LeaseHandle, a, sealNow, bad)
		require.Nil(t, got)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%q", bad)
		require.Equal(t, "must be a handle as this server gives it, beginning with lease_ and unchanged", fault.From(err).Msg)
	}
}

func TestSealIsBounded(t *testing.T) {
	s, a := sealer(t, 1), owner("mcp/a")
	longest, err := s.Seal("abcdefghijklmnop", a, sealUntil, make([]byte, 1024))
	require.NoError(t, err)
	require.LessOrEqual(t, len(longest.String()), auth.MaxHandle)
	_, err = s.Open("abcdefghijklmnop", a, sealNow, longest.String())
	require.NoError(t, err, "what is sealed can be opened")
	for about, seal := range map[string]func() (auth.Handle, error){
		"too much":           func() (auth.Handle, error) { return s.Seal(auth.LeaseHandle, a, sealUntil, make([]byte, 1025)) },
		"no purpose":         func() (auth.Handle, error) { return s.Seal("", a, sealUntil, nil) },
		"a purpose with a _": func() (auth.Handle, error) { return s.Seal("lea_se", a, sealUntil, nil) },
		"for nobody":         func() (auth.Handle, error) { return s.Seal(auth.LeaseHandle, owner(""), sealUntil, nil) },
	} {
		h, err := seal()
		require.Error(t, err, about)
		require.True(t, h.IsZero(), about)
	}
}

// Whatever is sealed comes back to its owner and to nobody else, and no handle
// with one character changed is taken for it.
func TestEveryFlippedCharacterIsRefused(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "content")
		mine := rapid.StringMatching(`mcp/[a-z0-9=.@-]{1,20}`).Draw(t, "owner")
		theirs := rapid.StringMatching(`mcp/[a-z0-9=.@-]{1,20}`).Draw(t, "other")
		s := sealer(t, 3)
		h, err := s.Seal(auth.LeaseHandle, owner(mine), sealUntil, content)
		require.NoError(t, err)
		got, err := s.Open(auth.LeaseHandle, owner(mine), sealNow, h.String())
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
		if mine != theirs {
			_, err = s.Open(auth.LeaseHandle, owner(theirs), sealNow, h.String())
			require.Equal(t, fault.Forbidden, fault.KindOf(err))
		}
		to := rapid.SampledFrom([]byte(alphabet)).Draw(t, "character")
		for i := range h.String() {
			if h.String()[i] == to {
				continue
			}
			flipped := h.String()[:i] + string(to) + h.String()[i+1:]
			_, err := s.Open(auth.LeaseHandle, owner(mine), sealNow, flipped)
			require.Contains(t, []fault.Kind{fault.Invalid, fault.Forbidden}, fault.KindOf(err), "character %d", i)
		}
		for i := range h.String() {
			_, err := s.Open(auth.LeaseHandle, owner(mine), sealNow, h.String()[:i])
			require.Contains(t, []fault.Kind{fault.Invalid, fault.Forbidden}, fault.KindOf(err), "cut at %d", i)
		}
	})
}

// FuzzOpen looks for a text that opens though Seal did not make it.
func FuzzOpen(f *testing.F) {
	s, a := sealer(f, 4), owner("mcp/a")
	h, err := s.Seal(auth.LeaseHandle, a, sealUntil, []byte("content"))
	require.NoError(f, err)
	for _, seed := range []string{"", "lease_", h.String(), h.String()[:40], "sub" + h.String()[5:], "database/creds/ro/abc"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := s.Open(auth.LeaseHandle, a, sealNow, text)
		if text == h.String() {
			require.NoError(t, err)
			return
		}
		// The key is fixed, so the corpus of a failure opens in another process,
		// and what one process made may come to another as a seed.
		if err == nil {
			require.Equal(t, "content", string(got))
			return
		}
		require.Nil(t, got)
		require.Contains(t, []fault.Kind{fault.Invalid, fault.Forbidden, fault.NotFound}, fault.KindOf(err))
	})
}
