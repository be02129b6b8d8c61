package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// A transcript is what was said and what came of it, line by line:
//
//	# a comment
//	> what is sent: over stdio a line; over HTTP "METHOD PATH | HEADER: VALUE ...",
//	  and in a second such line the body
//	>> a line that gets no answer
//	< what came back
//	= the record that ended it in the audit trail: kind, outcome, subject, tool
//	! a command that is run meanwhile
//
// `chat [-launch SNIPPET] FILE` plays one with `vault-mcp stdio`, or with what
// a client's snippet launches; `web FILE` with the server at $URL. They send
// what the file sends and print the transcript that comes of it; `cmp stdout
// FILE` then finds what differs. What is sent may hold {{NAME}}, a variable of
// the script, {{session}}, the session that the server opened last, and {{N}},
// as many letters.
type play struct {
	tb      scriptTB
	trail   *trailReader
	out     io.Writer
	lines   bool // a message is one line
	session string
}

// scriptTB lets what is made for tests fail a script.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (s scriptTB) Helper()                           {}
func (s scriptTB) Errorf(format string, args ...any) { s.ts.Fatalf(format, args...) }
func (s scriptTB) FailNow()                          { s.ts.Fatalf("failed") }

func newPlay(ts *testscript.TestScript, env []string) *play {
	p := &play{tb: scriptTB{ts: ts}, trail: readTrail(env), out: ts.Stdout()}
	p.trail.more(p.tb) // those of before
	return p
}

// run plays a transcript. say sends one message and returns the lines of the
// answer.
func (p *play) run(text string, say func(message []string, silent bool) []string) {
	var message []string
	flush := func() {
		if message != nil {
			p.exchange(message, say)
			message = nil
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		mark, rest, _ := strings.Cut(line, " ")
		switch mark {
		case ">":
			if p.lines { // each is one message
				flush()
			}
			p.print("%s", line)
			message = append(message, rest)
			continue
		case "<", "=": // as it was expected
			continue
		}
		flush()
		p.print("%s", line)
		switch mark {
		case ">>":
			say([]string{p.expand(rest)}, true)
		case "!":
			cmd := program(p.tb.ts, strings.Fields(p.expand(rest)))
			said, err := cmd.CombinedOutput()
			require.NoError(p.tb, err, "%s", said)
		case "", "#":
		default:
			p.tb.ts.Fatalf("a transcript has no such line: %s", line)
		}
	}
	flush()
}

func (p *play) print(format string, args ...any) { _, _ = fmt.Fprintf(p.out, format+"\n", args...) }

var anyID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// exchange sends a message, and shows the answer and the records.
func (p *play) exchange(message []string, say func([]string, bool) []string) {
	for i := range message {
		message[i] = p.expand(message[i])
	}
	answer := say(message, false)
	for _, line := range answer {
		p.print("%s", strings.TrimRight("< "+normal(line), " "))
	}
	ends := p.trail.ends(p.tb)
	for _, r := range ends {
		p.print("= %s", strings.Join(slices.DeleteFunc([]string{string(r.Kind), r.Outcome, r.Subject, r.Tool},
			func(s string) bool { return s == "" }), " "))
	}
	if id := anyID.FindString(strings.Join(answer, "\n")); id != "" && len(ends) == 1 {
		require.Equal(p.tb, ends[0].RequestID, id, "the answer tells another id than the record")
	}
}

var holes = regexp.MustCompile(`\{\{\w+\}\}`)

func (p *play) expand(s string) string {
	return holes.ReplaceAllStringFunc(s, func(hole string) string {
		name := strings.Trim(hole, "{}")
		if n, err := strconv.Atoi(name); err == nil {
			return strings.Repeat("x", n)
		}
		if name == "session" {
			return p.session
		}
		return p.tb.ts.Getenv(name)
	})
}

// What differs from run to run.
var changing = []struct {
	re   *regexp.Regexp
	with string
}{
	{anyID, "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`(\\?"version\\?":\\?")[^"\\]*`), "${1}VERSION"},
	{regexp.MustCompile(`"instructions":"(\\.|[^"\\])*"`), `"instructions":"INSTRUCTIONS"`},
	{regexp.MustCompile(`hvs\.[\w-]+`), "TOKEN"},
	{regexp.MustCompile(`^(Mcp-Session-Id: ).*`), "${1}SESSION"},
	{regexp.MustCompile(`scripts/[\w-]+/script-[a-z_]+`), "PREFIX"},
}

// normal is an answer without what differs from run to run, and with the names
// of tools in place of their descriptions, which are golden files of their own.
func normal(line string) string {
	before, frame, _ := strings.Cut(line, "{")
	var m struct {
		Result struct{ Tools []struct{ Name string } }
	}
	if json.Unmarshal([]byte("{"+frame), &m) == nil && len(m.Result.Tools) > 0 {
		names := make([]string, len(m.Result.Tools))
		for i, t := range m.Result.Tools {
			names[i] = t.Name
		}
		return before + "TOOLS " + strings.Join(names, " ")
	}
	for _, c := range changing {
		line = c.re.ReplaceAllString(line, c.with)
	}
	return line
}

func scriptChat(ts *testscript.TestScript, neg bool, args []string) {
	cmd := program(ts, []string{"vault-mcp", "stdio"})
	if len(args) == 3 && args[0] == "-launch" {
		cmd = launched(ts, args[1])
		args = args[2:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: chat [-launch SNIPPET] FILE")
	}
	p := newPlay(ts, cmd.Env)
	p.lines = true
	session := &stdioProcess{cmd: cmd, lines: make(chan string, 16)}
	cmd.Stderr = &session.said
	in, err := cmd.StdinPipe()
	ts.Check(err)
	session.in = in
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	go session.read(out)
	defer session.stop()
	p.run(ts.ReadFile(args[0]), func(message []string, silent bool) []string {
		_, err := io.WriteString(session.in, message[0]+"\n")
		ts.Check(err)
		if silent {
			return nil
		}
		select {
		case line, ok := <-session.lines:
			require.True(p.tb, ok, "the session ended")
			return []string{line}
		case <-time.After(patience):
			ts.Fatalf("no answer to %.200q", message[0])
			return nil
		}
	})
	_ = session.in.Close()
	for line := range session.lines {
		ts.Fatalf("an answer that nobody asked for: %.200s", line)
	}
	session.stop()
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		ts.Fatalf("the session ended with exit code %d:\n%s", code, session.said.String())
	}
}

// launched is the command that a client's snippet launches.
func launched(ts *testscript.TestScript, file string) *exec.Cmd {
	var snippet struct {
		MCPServers map[string]struct {
			Command string
			Args    []string
			Env     map[string]string
		}
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &snippet))
	entry := snippet.MCPServers["vault"]
	cmd := exec.Command(entry.Command, entry.Args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME")}
	for name, value := range entry.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// shown are the headers of an answer that a transcript shows.
var shown = []string{"Allow", "Content-Type", "Mcp-Session-Id", "Www-Authenticate"}

func scriptWeb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || ts.Getenv("URL") == "" {
		ts.Fatalf("usage: web FILE, with a server at $URL")
	}
	p := newPlay(ts, environ(ts))
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: patience}
	client := &http.Client{Transport: transport, Timeout: patience}
	p.run(ts.ReadFile(args[0]), func(message []string, silent bool) []string {
		if silent {
			ts.Fatalf("over HTTP everything has an answer")
		}
		parts := strings.Split(message[0], " | ")
		method, path, _ := strings.Cut(parts[0], " ")
		body := strings.Join(message[1:], "\n")
		req, err := http.NewRequest(method, ts.Getenv("URL")+path, strings.NewReader(body))
		ts.Check(err)
		for _, part := range parts[1:] {
			name, value, _ := strings.Cut(part, ": ")
			if name == "Host" {
				req.Host = value
				continue
			}
			req.Header.Add(name, value)
		}
		resp, err := client.Do(req)
		ts.Check(err)
		defer func() { _ = resp.Body.Close() }()
		var b bytes.Buffer
		_, err = b.ReadFrom(resp.Body)
		ts.Check(err)
		lines := []string{strconv.Itoa(resp.StatusCode)}
		for _, name := range shown {
			for _, value := range resp.Header.Values(name) {
				lines = append(lines, name+": "+value)
			}
		}
		if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
			p.session = id
		}
		if text := strings.TrimSpace(b.String()); text != "" {
			lines = append(lines, strings.Split(text, "\n")...)
		}
		return lines
	})
}
