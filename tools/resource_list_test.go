package tools_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// treeVault answers LIST as Vault does, for secrets at these paths below the
// principal's prefix; a folder with "denied" in its name it refuses. Names come in
// the order of a map.
func treeVault(t *testing.T, prefix string, paths ...string) *fakeVault {
	t.Helper()
	return newFakeVault(t, func(w http.ResponseWriter, r *http.Request) {
		folder, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/")+"/", "/v1/secret/metadata/"+prefix+"/")
		names := map[string]bool{}
		for _, path := range paths {
			if rest, below := strings.CutPrefix(path, folder); below && ok {
				name, _, more := strings.Cut(rest, "/")
				if more {
					name += "/"
				}
				names[name] = true
			}
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.Contains(folder, "denied"):
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["permission denied"]}`)
		case len(names) == 0:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[]}`)
		default:
			b, _ := json.Marshal(map[string]any{"request_id": "r", "data": map[string]any{"keys": slices.Collect(maps.Keys(names))}})
			_, _ = w.Write(b)
		}
	})
}

func (r *rig) page(p *auth.Principal, cursor string) (tools.ResourcePage, error) {
	return r.runner.ListResources(r.t.Context(), tools.Call{Principal: p, Transport: "test", Remote: "192.0.2.1"}, cursor)
}

// pages reads the whole list, and holds each page to the bounds.
func (r *rig) pages(p *auth.Principal) (paths []string, pages int) {
	r.t.Helper()
	for cursor := ""; ; pages++ {
		before := len(r.records())
		page, err := r.page(p, cursor)
		require.NoError(r.t, err)
		require.LessOrEqual(r.t, len(page.Resources), tools.PageResources)
		calls := r.records()[before:]
		require.LessOrEqual(r.t, len(calls), 2*tools.PageLists)
		require.GreaterOrEqual(r.t, len(calls), 2)
		for _, rec := range calls {
			require.Equal(r.t, "kv.list", rec.Tool)
			require.Equal(r.t, calls[0].RequestID, rec.RequestID)
		}
		for _, res := range page.Resources {
			require.Equal(r.t, r.runner.URIAt(p, p.Prefix+"/"+res.Path), res.URI)
			paths = append(paths, res.Path)
		}
		require.Less(r.t, pages, 20, "it does not end")
		if page.Next == "" {
			return paths, pages + 1
		}
		require.LessOrEqual(r.t, len(page.Next), tools.MaxCursor)
		cursor = page.Next
	}
}

// Every secret stands in the list once, in the order of the walk, whatever the
// shape of the tree; names that nothing can read are left out.
func TestListResources(t *testing.T) {
	long := strings.Repeat("s", 128)
	numbered := func(format string, n int) (paths []string) {
		for i := range n {
			paths = append(paths, fmt.Sprintf(format, i))
		}
		return paths
	}
	for name, tc := range map[string]struct {
		paths, hidden []string
		pages         int
	}{
		"nothing":                 {pages: 1},
		"one":                     {paths: []string{"a"}, pages: 1},
		"a page":                  {paths: numbered("k%03d", 100), pages: 1},
		"a page and one":          {paths: numbered("k%03d", 101), pages: 2},
		"a page in a folder":      {paths: append(numbered("a/k%03d", 100), "b"), pages: 2},
		"secret and folder":       {paths: []string{"a", "a/b", "a/b/c", "a-b", "a0", "A"}, pages: 1},
		"many folders":            {paths: numbered("f%02d/x", 40), pages: 6},
		"many folders in one":     {paths: append(numbered("a/f%02d/x", 20), "a/z", "z"), pages: 4},
		"deep":                    {paths: []string{strings.Repeat("d/", 31) + "x", "z"}, pages: 7},
		"the longest":             {paths: []string{long + "/" + long + "/" + long + "/" + long[:125]}, pages: 1},
		"only folders at first":   {paths: append(numbered("a/b/c/d/e/f/g/h/i/k%d", 3), "z"), pages: 3},
		"what cannot be read":     {paths: []string{"ok", "z/ok"}, hidden: []string{"sp ace", "sp ace/x", "é", "z/../x", "a+b", "z/" + long + "s", "%2e%2e/x", "\u202e", "z//x"}, pages: 1},
		"wide and deep":           {paths: append(append(numbered("a/%03d", 150), numbered("b/c%02d/x", 30)...), numbered("z%03d", 120)...), pages: 7},
		"deeper than a path goes": {hidden: []string{strings.Repeat("d/", 32) + "x"}, pages: 9},
	} {
		t.Run(name, func(t *testing.T) {
			v := treeVault(t, "mcp/dev", append(slices.Clone(tc.paths), tc.hidden...)...)
			r := newRig(t, rigOptions{addr: v.URL, Options: tools.Options{Prefix: "mcp"}})
			got, pages := r.pages(principal("dev"))
			require.ElementsMatch(t, tc.paths, got)
			require.Len(t, slices.Compact(slices.Sorted(slices.Values(got))), len(got), "one stands twice")
			require.Equal(t, tc.pages, pages)
			again, _ := r.pages(principal("dev"))
			require.Equal(t, got, again, "the order is another")
		})
	}
}

// A hub's list has the URIs by which it reads.
func TestListResourcesOfAHub(t *testing.T) {
	v := treeVault(t, "mcp", "dev/x", "hub/y", "z")
	r := newRig(t, rigOptions{addr: v.URL, Options: tools.Options{Prefix: "mcp"}})
	page, err := r.page(with(principal("hub"), func(p *auth.Principal) { p.Prefix = "mcp" }), "")
	require.NoError(t, err)
	require.Equal(t, []tools.ListedResource{{URI: "kv://dev/x", Path: "dev/x"}, {URI: "kv://hub/hub/y", Path: "hub/y"}, {URI: "kv://hub/z", Path: "z"}}, page.Resources)
}

// A cursor is a place and nothing else: whatever is sent in its place names a
// place in the same tree, or is refused with one record before Vault is asked.
func TestCursors(t *testing.T) {
	v := treeVault(t, "mcp/dev", "a/x", "b/y")
	r := newRig(t, rigOptions{addr: v.URL})
	p := principal("dev")
	encode := base64.RawURLEncoding.EncodeToString
	for _, cursor := range []string{
		"x", "=", "%", "../x", encode([]byte("a")), encode([]byte("../\n")), encode([]byte("..\nx")), encode([]byte("a/\n")), encode([]byte("/a\n")), encode([]byte("a//b\n")),
		encode([]byte("\n..")), encode([]byte("\na/b")), encode([]byte("\na//")), encode([]byte("\n/")), encode([]byte("a\nb\nc")), encode([]byte("a\n\n")), encode([]byte("a\x00\n")),
		encode([]byte("%2e%2e\n")), encode([]byte("\n\xff")), encode([]byte("a\n")) + "=", encode([]byte("a\n")) + "\n", strings.Repeat("A", tools.MaxCursor+1),
		encode([]byte(strings.Repeat("a/", 32) + "a\n")),
	} {
		before := len(r.records())
		page, err := r.page(p, cursor)
		require.Equal(t, fault.Invalid, fault.KindOf(err), "%q: %v", cursor, page)
		require.Equal(t, "/cursor", fault.From(err).Details["field"])
		require.Equal(t, []string{"outcome invalid"}, kinds(r.records()[before:]))
		require.NotEmpty(t, r.records()[before].Args["*"])
	}
	require.Empty(t, v.seen())
	for cursor, want := range map[string][]string{
		"": {"a/x", "b/y"}, encode([]byte("\n")): {"a/x", "b/y"}, encode([]byte("\na/")): {"b/y"}, encode([]byte("\na")): {"a/x", "b/y"}, encode([]byte("a\nx")): {"b/y"},
		encode([]byte("nosuch/folder\nz")): nil, encode([]byte("a/nosuch\n")): {"a/x", "b/y"}, encode([]byte("a/y\n")): {"b/y"}, encode([]byte("b\nzzz")): nil,
	} {
		page, err := r.page(p, cursor)
		require.NoError(t, err)
		var got []string
		for _, res := range page.Resources {
			got = append(got, res.Path)
		}
		require.Equal(t, want, got, "%q", cursor)
		require.Empty(t, page.Next)
	}
	for _, request := range v.seen() {
		target, err := url.PathUnescape(request)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(target, "LIST /v1/secret/metadata/mcp/dev"), request)
	}
}

// A page ends where a call of it fails; the error is the answer where it was the
// first.
func TestListResourcesIsCounted(t *testing.T) {
	v := treeVault(t, "mcp/dev", "a/x", "b/x", "c/x", "d/x", "z")
	r := newRig(t, rigOptions{addr: v.URL})
	p := with(principal("dev"), func(p *auth.Principal) { p.Limit = auth.Limit{Requests: 3, Window: time.Hour} })
	page, err := r.page(p, "")
	require.NoError(t, err)
	require.Len(t, page.Resources, 2)
	require.NotEmpty(t, page.Next)
	require.Equal(t, []string{"attempt", "outcome ok", "attempt", "outcome ok", "attempt", "outcome ok", "outcome rate_limited"}, kinds(r.records()))
	_, err = r.page(p, page.Next)
	require.Equal(t, fault.RateLimited, fault.KindOf(err))
	require.Len(t, v.seen(), 3)
	rest, err := r.page(principal("dev"), page.Next) // another bucket would be another principal; the place is the same
	if fault.KindOf(err) != fault.RateLimited {
		require.NoError(t, err)
		require.Equal(t, "c/x", rest.Resources[0].Path)
	}
}

func TestListResourcesDenied(t *testing.T) {
	v := treeVault(t, "mcp/dev", "a/x", "denied/x", "z")
	r := newRig(t, rigOptions{addr: v.URL})
	page, err := r.page(principal("dev"), "")
	require.NoError(t, err)
	require.Len(t, page.Resources, 1)
	_, err = r.page(principal("dev"), page.Next)
	require.Equal(t, fault.Forbidden, fault.KindOf(err))
	all := kinds(r.records())
	require.Equal(t, []string{"attempt", "outcome forbidden"}, all[len(all)-2:])
}

// Who may not list has an empty list, and nobody is asked; who is nobody has none.
func TestListResourcesOfWhoMayNot(t *testing.T) {
	v := treeVault(t, "mcp/dev", "a")
	for name, tc := range map[string]struct {
		opt    tools.Options
		change func(*auth.Principal)
	}{
		"no scope":        {tools.Options{}, func(p *auth.Principal) { p.Scopes = auth.Scopes{auth.Read, auth.Write, "transit:list"} }},
		"a filter":        {tools.Options{}, func(p *auth.Principal) { p.Tools.Except = []string{"kv.list"} }},
		"switched off":    {tools.Options{Exclude: []string{"kv.list"}}, func(*auth.Principal) {}},
		"another toolset": {tools.Options{Sets: []string{"transit"}}, func(*auth.Principal) {}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{addr: v.URL, Options: tc.opt})
			page, err := r.page(with(principal("dev"), tc.change), "")
			require.NoError(t, err)
			require.Empty(t, page)
			require.Empty(t, r.records())
		})
	}
	require.Empty(t, v.seen())
	r := newRig(t, rigOptions{addr: v.URL, Options: tools.Options{ReadOnly: true}})
	for _, p := range []*auth.Principal{nil, {}, with(principal("dev"), func(p *auth.Principal) { p.ExpiresAt = time.Now().Add(-time.Second) })} {
		_, err := r.page(p, "")
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err))
	}
	require.Equal(t, []string{"outcome unauthenticated", "outcome unauthenticated", "outcome unauthenticated"}, kinds(r.records()))
	require.Empty(t, v.seen())
	page, err := r.page(principal("dev"), "")
	require.NoError(t, err, "read-only lists")
	require.Len(t, page.Resources, 1)
}

// All the calls of a page together have the time of one.
func TestListResourcesInTime(t *testing.T) {
	v := newFakeVault(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(150 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
		answerJSON(`{"request_id":"r","data":{"keys":["a/","b"]}}`)(w, r)
	})
	r := newRig(t, rigOptions{addr: v.URL, Options: tools.Options{CallTimeout: 400 * time.Millisecond}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	page, err := r.runner.ListResources(ctx, tools.Call{Principal: principal("dev")}, "")
	require.NoError(t, err)
	require.NotEmpty(t, page.Next)
	require.Less(t, len(v.seen()), tools.PageLists)
}
