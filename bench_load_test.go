package main_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// load is a way to make one call; it returns when the answer is there, and
// fails if the answer is not the secret.
type load func() error

// sample is what one run of callers measured.
type sample struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       time.Duration // of the server, for each call
}

// measure lets callers call in a closed loop for a while.
func measure(callers int, d time.Duration, pid int, call load) (sample, error) {
	var (
		wg     sync.WaitGroup
		failed atomic.Pointer[error]
		all    = make([][]time.Duration, callers)
	)
	before, begin := cpuTime(pid), time.Now()
	for i := range callers {
		wg.Go(func() {
			for time.Since(begin) < d && failed.Load() == nil {
				start := time.Now()
				if err := call(); err != nil {
					failed.Store(&err)
					return
				}
				all[i] = append(all[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	used := cpuTime(pid) - before
	if err := failed.Load(); err != nil {
		return sample{}, *err
	}
	times := slices.Concat(all...)
	slices.Sort(times)
	n := len(times)
	return sample{
		perSecond: float64(n) / took.Seconds(),
		p50:       times[n/2], p99: times[n*99/100],
		cpu: used / time.Duration(n),
	}, nil
}

// cpuTime is what a process has used; zero for this one, whose use is not the
// server's.
func cpuTime(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * (time.Second / 100)
}

// residentKiB is a process's memory.
func residentKiB(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	n, _ := strconv.Atoi(strings.Fields(rest)[0])
	return n
}

// benchSecret is what the answer of every call must contain.
const benchSecret = "bench-value-0123456789"

const benchCall = `"method":"tools/call","params":{"name":"kv.read","arguments":{"path":"app/config"}`

func directLoad(vault *api.Client) load {
	return func() error {
		s, err := vault.KVv2("secret").Get(context.Background(), barePath+"app/config")
		if err == nil && s.Data["password"] != benchSecret {
			err = fmt.Errorf("not the secret")
		}
		return err
	}
}

// stdioLoad speaks lines with a process; answers find their callers by id.
type stdioLoad struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	writing sync.Mutex
	next    atomic.Int64
	mu      sync.Mutex
	waiting map[string]chan []byte
}

func startStdioLoad(b testing.TB, cmd *exec.Cmd) *stdioLoad {
	b.Helper()
	s := &stdioLoad{cmd: cmd, waiting: map[string]chan []byte{}}
	var err error
	s.in, err = cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = s.in.Close(); _ = cmd.Wait() })
	go s.read(out)
	_, err = s.ask(`"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}`)
	require.NoError(b, err)
	_, err = io.WriteString(s.in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	require.NoError(b, err)
	return s
}

func (s *stdioLoad) read(out io.Reader) {
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, ch := range s.waiting {
				close(ch)
			}
			return
		}
		_, rest, _ := bytes.Cut(line, []byte(`"id":`))
		id, _, _ := bytes.Cut(rest, []byte(`,`))
		s.mu.Lock()
		ch := s.waiting[string(id)]
		delete(s.waiting, string(id))
		s.mu.Unlock()
		if ch != nil {
			ch <- line
		}
	}
}

func (s *stdioLoad) ask(what string) ([]byte, error) {
	id := strconv.FormatInt(s.next.Add(1), 10)
	ch := make(chan []byte, 1)
	s.mu.Lock()
	s.waiting[id] = ch
	s.mu.Unlock()
	s.writing.Lock()
	_, err := io.WriteString(s.in, `{"jsonrpc":"2.0","id":`+id+`,`+what+"}\n")
	s.writing.Unlock()
	if err != nil {
		return nil, err
	}
	answer, ok := <-ch
	if !ok {
		return nil, io.ErrUnexpectedEOF
	}
	return answer, nil
}

func (s *stdioLoad) call() error {
	answer, err := s.ask(benchCall + `}`)
	return isSecret(answer, err)
}

func isSecret(answer []byte, err error) error { return hasText(answer, benchSecret, err) }

// hasText fails if an answer is not what a call that succeeds gives.
func hasText(answer []byte, text string, err error) error {
	if err == nil && !bytes.Contains(answer, []byte(text)) {
		err = fmt.Errorf("without %s: %s", text, answer)
	}
	return err
}

// httpLoad posts calls, with as many connections as callers.
type httpLoad struct {
	client *http.Client
	url    string
	header http.Header
	body   string // without the id at its start
	next   atomic.Int64
}

func newHTTPLoad(url string, header map[string]string, body string) *httpLoad {
	h := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "X-Api-Key": {benchKey}}
	for name, value := range header {
		h.Set(name, value)
	}
	return &httpLoad{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, url: url + "/mcp", header: h, body: body}
}

func (l *httpLoad) post(body string) (*http.Response, []byte, error) {
	req, err := http.NewRequest(http.MethodPost, l.url, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = l.header.Clone()
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

func (l *httpLoad) call() error {
	_, answer, err := l.post(`{"jsonrpc":"2.0","id":` + strconv.FormatInt(l.next.Add(1), 10) + `,` + l.body)
	return isSecret(answer, err)
}

func modernLoad(url string) *httpLoad {
	return newHTTPLoad(url, map[string]string{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "kv.read"},
		benchCall+`,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`)
}

func legacyLoad(b testing.TB, url string) *httpLoad {
	b.Helper()
	l := newHTTPLoad(url, nil, benchCall+`}}`)
	resp, _, err := l.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`)
	require.NoError(b, err)
	l.header.Set("Mcp-Session-Id", resp.Header.Get("Mcp-Session-Id"))
	l.header.Set("MCP-Protocol-Version", "2025-06-18")
	_, _, err = l.post(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	require.NoError(b, err)
	return l
}
