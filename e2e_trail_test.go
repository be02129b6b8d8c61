package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

// verdict is what an answer says, whatever the surface's form of it.
type verdict struct {
	code    string // the error object's code; "ok" for a result
	rpc     int    // the JSON-RPC error's code, where it is one
	id      string // the request's id, of an error
	content json.RawMessage
}

// judge reads an answer: a line, a JSON body, one event, or a problem.
func judge(t *testing.T, answer string) verdict {
	t.Helper()
	for line := range strings.Lines(answer) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			answer = data
		}
	}
	type object struct {
		Code      string
		RequestID string `json:"request_id"`
	}
	var m struct {
		Error *struct {
			Code int
			Data object
		}
		Result *struct {
			IsError           bool
			Content           []struct{ Text string }
			StructuredContent json.RawMessage
		}
		Code      string // of a problem
		RequestID string `json:"request_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &m), "the answer is not JSON: %.300q", answer)
	switch {
	case m.Error != nil:
		return verdict{code: m.Error.Data.Code, rpc: m.Error.Code, id: m.Error.Data.RequestID}
	case m.Result == nil:
		return verdict{code: m.Code, id: m.RequestID}
	case m.Result.IsError:
		var o object
		require.Len(t, m.Result.Content, 1)
		require.NoError(t, json.Unmarshal([]byte(m.Result.Content[0].Text), &o))
		return verdict{code: o.Code, id: o.RequestID}
	}
	return verdict{code: "ok", content: m.Result.StructuredContent}
}

// trailReader reads what all chains of a state folder have grown by.
type trailReader struct {
	dir  string
	read map[string]int64
}

func readTrail(env []string) *trailReader {
	return &trailReader{filepath.Join(setting(env, "STATE_DIR"), "audit"), map[string]int64{}}
}

// more returns the records since the last time.
func (r *trailReader) more(t testing.TB) (records []audit.Record) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "*.jsonl"))
	require.NoError(t, err)
	for _, name := range files {
		f, err := os.Open(name)
		require.NoError(t, err)
		_, err = f.Seek(r.read[name], io.SeekStart)
		require.NoError(t, err)
		grown, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		whole := grown[:bytes.LastIndexByte(grown, '\n')+1]
		r.read[name] += int64(len(whole))
		for line := range bytes.Lines(whole) {
			rec, err := audit.Parse(line)
			require.NoError(t, err)
			records = append(records, rec)
		}
	}
	return records
}

// ends returns the records since the last time that end a request: the outcome
// of a call, or a rejection.
func (r *trailReader) ends(t testing.TB) (records []audit.Record) {
	t.Helper()
	for _, rec := range r.more(t) {
		if rec.Kind == audit.Outcome || rec.Kind == audit.Reject {
			records = append(records, rec)
		}
	}
	return records
}

// ended returns the one record that ends the last request, and holds it against
// the answer: the same outcome under the same id.
func (r *trailReader) ended(t testing.TB, got verdict, about string) audit.Record {
	t.Helper()
	ends := r.ends(t)
	require.Len(t, ends, 1, "records of %s", about)
	require.Equal(t, got.code, ends[0].Outcome, "the record of %s", about)
	if got.id != "" {
		require.Equal(t, got.id, ends[0].RequestID, "the record of %s", about)
	}
	return ends[0]
}
