package main_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// canary marks every value that a caller sends and that must come back, if at
// all, only in the result of a call that succeeded. It has only letters and
// digits, so that escapes for JSON and URLs, which leave those alone, cannot
// hide it.
const canary = "CANARYd41d8cd98f"

// marks are the forms in which the mark could stand somewhere: as it is, in
// either case, in hex, as base64 at each of the three places where it can begin
// in it, and escaped byte by byte as for URLs, JSON, and our own slugs.
var marks = func() []string {
	forms := []string{strings.ToLower(canary), strings.ToLower(hex.EncodeToString([]byte(canary)))}
	for before := range 3 {
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			all := enc.EncodeToString([]byte(strings.Repeat("-", before) + canary))
			// The groups of four that hold nothing but the mark.
			start, end := (before+2)/3*4, (before+len(canary))/3*4
			forms = append(forms, strings.ToLower(all[start:end]))
		}
	}
	for _, escape := range []string{"%%%02x", `\u00%02x`, `\x%02x`, "=%02x"} {
		var b strings.Builder
		for _, c := range []byte(canary) {
			fmt.Fprintf(&b, escape, c)
		}
		forms = append(forms, b.String())
	}
	slug := strings.NewReplacer("C", "=43", "A", "=41", "N", "=4e", "R", "=52", "Y", "=59").Replace(canary)
	return append(forms, slug, url.QueryEscape(strings.ToLower(canary)))
}()

// markIn returns the form of the mark that stands in a text, or "".
func markIn(text string) string {
	text = strings.ToLower(text)
	for _, form := range marks {
		if strings.Contains(text, form) {
			return form
		}
	}
	return ""
}

func requireNoMark(t testing.TB, text, about string) {
	t.Helper()
	if form := markIn(text); form != "" {
		at := strings.Index(strings.ToLower(text), form)
		t.Fatalf("the mark stands, as %q, in %s: …%s…", form, about, text[max(0, at-200):min(len(text), at+200)])
	}
}

// requireNoMarkBelow looks for the mark in every file below a folder, and in
// the files' names; it returns how many it searched.
func requireNoMarkBelow(t *testing.T, root string) (files int) {
	t.Helper()
	return searchBelow(t, root, func(text, about string) { requireNoMark(t, text, about) })
}

// requireNowhereBelow looks in the same way for a value that has no mark.
func requireNowhereBelow(t *testing.T, root, value string) {
	t.Helper()
	searchBelow(t, root, func(text, about string) { require.NotContains(t, text, value, about) })
}

// searchBelow shows each file below a folder, and each name.
func searchBelow(t *testing.T, root string, look func(text, about string)) (files int) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		look(d.Name(), "a file's name")
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		look(string(b), filepath.Base(path))
		return nil
	}))
	return files
}

// The search finds what it is to find.
func TestMarksAreFound(t *testing.T) {
	for _, form := range []string{
		canary, "x" + strings.ToLower(canary) + "y", quote("a\n" + canary + "\x00"), url.QueryEscape("/" + canary + "?"),
		hex.EncodeToString([]byte("abc" + canary)), strings.ToUpper(hex.EncodeToString([]byte(canary))),
		base64.StdEncoding.EncodeToString([]byte(canary + "z")), base64.StdEncoding.EncodeToString([]byte("a" + canary + "zz")),
		base64.RawURLEncoding.EncodeToString([]byte("ab" + canary)), base64.StdEncoding.EncodeToString([]byte(`{"password":"` + canary + `"}`)),
		fmt.Sprintf("%q", canary), "=43=41=4e=41=52=59d41d8cd98f",
	} {
		require.NotEmpty(t, markIn("before "+form+" after"), form)
	}
	require.Empty(t, markIn("CANARY d41d8cd98f"))
}
