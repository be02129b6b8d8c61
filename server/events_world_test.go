package server_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/events"
	"vault-mcp/server"
	"vault-mcp/tools"
)

// withEvents gives the server a feed, which ends with the test.
func withStreams(t testing.TB, opt events.Options) change {
	t.Helper()
	bus := events.NewMemory(opt)
	t.Cleanup(bus.Close)
	return withBus(bus)
}

func withBus(bus *events.Bus) change {
	return func(o *server.Options, to *tools.Options) {
		o.Events, o.Key = bus, []byte("a key that outlives the server")
		to.Events, to.Prefix = bus, "mcp"
	}
}

// block is one block of a stream as a browser takes it in.
type block struct {
	id, event, data string
	comment, retry  string
}

// fields are those of an event's data.
func (b block) fields(t testing.TB) object {
	t.Helper()
	var o object
	require.NoError(t, json.Unmarshal([]byte(b.data), &o), b.data)
	return o
}

// readBlocks parses a stream by the rules of HTML, and calls f with each block.
func readBlocks(r io.Reader, f func(block)) {
	var b block
	var data []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			b.data = strings.Join(data, "\n")
			f(b)
			b, data = block{}, nil
		case name == "":
			b.comment = value
		case name == "id" && !strings.Contains(value, "\x00"):
			b.id = value
		case name == "event":
			b.event = value
		case name == "data":
			data = append(data, value)
		case name == "retry":
			b.retry = value
		}
	}
}

// follower is a client of /events.
type follower struct {
	resp   *http.Response
	blocks chan block
	lastID string // as a browser has it, of what was taken from blocks
}

func request(t testing.TB, url, key string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	if key != "" {
		req.Header.Set("X-Api-Key", key)
	}
	return req
}

// follow opens a stream of events.
func follow(t testing.TB, s *stack, key, query string, header ...string) *follower {
	t.Helper()
	req := request(t, s.url+"/events?"+query, key)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		all, _ := io.ReadAll(resp.Body)
		require.Equal(t, http.StatusOK, resp.StatusCode, string(all))
	}
	f := &follower{resp: resp, blocks: make(chan block, 10_000)}
	go func() {
		defer close(f.blocks)
		readBlocks(resp.Body, func(b block) { f.blocks <- b })
	}()
	first := f.block(t)
	require.NotEmpty(t, first.retry, "%+v", first)
	return f
}

// block is the next one.
func (f *follower) block(t testing.TB) block {
	t.Helper()
	select {
	case b, more := <-f.blocks:
		require.True(t, more, "the stream has ended")
		if b.id != "" {
			f.lastID = b.id
		}
		return b
	case <-time.After(patience):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// placed takes the place that a stream begins with.
func (f *follower) placed(t testing.TB) *follower {
	t.Helper()
	b := f.block(t)
	require.NotEmpty(t, b.id)
	require.Equal(t, block{id: b.id}, b)
	return f
}

// event is the next block with data.
func (f *follower) event(t testing.TB) block {
	t.Helper()
	for {
		if b := f.block(t); b.data != "" {
			require.Equal(t, b.id, b.fields(t)["id"])
			return b
		}
	}
}

// ends waits for the stream's end, which no event may come before.
func (f *follower) ends(t testing.TB) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case b, more := <-f.blocks:
			if !more {
				return
			}
			require.Empty(t, b.data)
		case <-timeout:
			t.Fatal("the stream does not end")
		}
	}
}

func (f *follower) close() { _ = f.resp.Body.Close() }

// write changes a secret as the principal of a key.
func (s *stack) write(t testing.TB, key, path string) {
	t.Helper()
	r := call(t, &rpcHTTP{s: s, key: key}, "kv.write", object{"path": path, "data": object{"v": marked}})
	require.NotContains(t, r.result(t), "isError", r.raw)
}

func uris(list ...string) string { return url.Values{"uri": list}.Encode() }

func numbered(name string, n int) string { return name + strconv.Itoa(n) }

func atoi(t testing.TB, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}
