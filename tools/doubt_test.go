package tools_test

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

// doubted reports whether a subscription has a gap, and wants no change in it.
func doubted(t *testing.T, sub *events.Subscription) bool {
	t.Helper()
	batch := sub.Take()
	for _, e := range batch.Events {
		require.Equal(t, events.ToolCompleted, e.Type, "nobody knows of a change")
	}
	return batch.Gap
}

// A change whose outcome nobody knows is no event: those who would have heard of
// it are told that they may have missed one, also when they come back, and nobody
// else is told anything. What was certainly not done, or not a change, is nothing
// to doubt.
func TestDoubtfulChanges(t *testing.T) {
	drop := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) } // Vault may have done it
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		tool, args string
		vault      http.HandlerFunc
		doubt      bool
	}{
		"a write, dropped":     {"kv.write", `{"path":"a/b","data":{"k":"v"}}`, drop, true},
		"with cas, dropped":    {"kv.write", `{"path":"a/b","data":{"k":"v"},"cas":1}`, drop, true},
		"a patch, dropped":     {"kv.patch", `{"path":"a/b","data":{"k":"v"}}`, drop, true},
		"a delete, dropped":    {"kv.delete", `{"path":"a/b"}`, drop, true},
		"an undelete, dropped": {"kv.undelete", `{"path":"a/b","versions":[1]}`, drop, true},
		"a destroy, dropped":   {"kv.destroy", `{"path":"a/b","versions":[1]}`, drop, true},
		"failed":               {"kv.write", `{"path":"a/b","data":{"k":"v"}}`, status(http.StatusInternalServerError), true},
		"too late": {"kv.write", `{"path":"a/b","data":{"k":"v"}}`, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then its end is seen
			<-r.Context().Done()
		}, true},
		"half an answer": {"kv.write", `{"path":"a/b","data":{"k":"v"}}`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "200")
			_, _ = w.Write([]byte(`{"data":`))
		}, true},
		"no answer that we know": {"kv.write", `{"path":"a/b","data":{"k":"v"}}`, answerJSON(`{"data":{"version":"canary"}}`), true},
		"denied":                 {"kv.write", `{"path":"a/b","data":{"k":"v"}}`, status(http.StatusForbidden), false},
		"refused":                {"kv.write", `{"path":"a/b","data":{"k":"v"}}`, status(http.StatusBadRequest), false},
		"not asked":              {"kv.write", `{"path":"../b","data":{"k":"v"}}`, drop, false},
		"a read, dropped":        {"kv.read", `{"path":"a/b"}`, drop, false},
		"a key, dropped":         {"transit.sign", `{"key":"doubter","input":"aGk="}`, drop, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := newFakeVault(t, c.vault)
			f := newFeed(t, rigOptions{addr: v.URL, Options: tools.Options{CallTimeout: 300 * time.Millisecond}})
			subscribe := func(in events.Interest) *events.Subscription {
				sub := f.bus.Subscribe(in)
				t.Cleanup(sub.Close)
				return sub
			}
			concerned := func(resume bool, after events.Position) (all []*events.Subscription) {
				for _, root := range []string{"mcp", "mcp/doubter", "mcp/doubter/a", "mcp/doubter/a/b"} {
					all = append(all, subscribe(events.Interest{Roots: []string{root}, Resume: resume, After: after}))
				}
				return all
			}
			var others []*events.Subscription
			for _, root := range []string{"mcp/doubter/a/b/c", "mcp/doubter/a/bb", "mcp/doubter-2", "mcp/other"} {
				others = append(others, subscribe(events.Interest{Roots: []string{root}}))
			}
			listening, start := concerned(false, events.Position{}), f.bus.Last()
			_, refused := f.run(principal("doubter"), c.tool, c.args)
			require.NotNil(t, refused)
			require.Equal(t, c.doubt, refused.Details["outcome"] == "unknown" && c.tool != "transit.sign")
			f.bus.Close() // gives out what waits
			for _, sub := range append(listening, concerned(true, start)...) {
				require.Equal(t, c.doubt, doubted(t, sub))
			}
			for _, sub := range others {
				require.False(t, doubted(t, sub))
				require.Empty(t, sub.Ready(), "they notice nothing")
			}
		})
	}
}

// What is known to have been accepted is told as a change, and is not doubted, even
// where nobody gets the result; and a tool that broke down is doubted.
func TestDoubtOfToolsThatBreakDown(t *testing.T) {
	type in struct {
		Path string `json:"path" doc:"Path." jsonschema:"minLength=1,maxLength=9"`
	}
	type out struct {
		Share float64 `json:"share" doc:"Share."`
	}
	for name, c := range map[string]struct {
		does    func() (out, error)
		doubt   bool
		changes int
	}{
		"a panic":                 {func() (out, error) { panic("before Vault or after, nobody knows") }, true, 0},
		"an end":                  {func() (out, error) { runtime.Goexit(); return out{}, nil }, true, 0},
		"nothing to give out":     {func() (out, error) { return out{Share: math.NaN()}, nil }, false, 1},
		"an error of its own":     {func() (out, error) { return out{}, fault.New(fault.Conflict, "no") }, false, 0},
		"an error that is itself": {func() (out, error) { return out{}, fault.New(fault.Conflict, "no").With("outcome", "unknown") }, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, rigOptions{catalog: tools.NewCatalogOf(tools.Define(tools.Tool{
				Name: "kv.probe", Title: "t", Doc: "d", Scope: auth.Write, Effect: tools.Writes, Route: "PUT /probe/{path...}",
				Needs: []tools.Need{{Path: "{kv}/data/{prefix}/{path...}", Capabilities: []string{"update"}}},
			}, func(context.Context, *tools.Env, in) (out, error) { return c.does() }))})
			var called sync.WaitGroup
			called.Go(func() {
				_, _ = f.runner.Run(t.Context(), tools.Call{Tool: "kv.probe", Principal: principal("doubter"), Args: json.RawMessage(`{"path":"x"}`)})
			})
			called.Wait()
			f.bus.Close() // gives out what waits
			batch := f.sub.Take()
			require.Equal(t, c.doubt, batch.Gap)
			require.Len(t, batch.Events, c.changes+1)
			for i, e := range batch.Events {
				require.Equal(t, i == c.changes, e.Type == events.ToolCompleted)
			}
		})
	}
}
