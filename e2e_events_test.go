package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
)

// feedEvent is one event of a stream of /events. One without a name has only an id: the
// place from which to resume.
type feedEvent struct {
	name, id string
	data     obj
}

// follower is a plain client of /events.
type follower struct {
	told  chan feedEvent // closed when the stream has ended
	place string         // before the first event
	close func()
}

// follow opens a stream of events and waits for its first id: from there on nothing
// is missed.
func follow(t testing.TB, url string, header http.Header) *follower {
	t.Helper()
	f, status, err := tryFollow(url, header)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, url)
	t.Cleanup(f.close)
	return f
}

// tryFollow is follow where the answer may be a refusal.
func tryFollow(url string, header http.Header) (*follower, int, error) {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		cancel()
		return nil, 0, err
	}
	req.Header = header
	resp, err := eventClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		defer cancel()
		if err != nil {
			return nil, 0, err
		}
		return nil, resp.StatusCode, resp.Body.Close()
	}
	f := &follower{told: make(chan feedEvent, 100_000)}
	lines := bufio.NewScanner(resp.Body)
	first, ok := readEvent(lines)
	if !ok {
		cancel()
		return nil, 0, io.ErrUnexpectedEOF
	}
	f.place = first.id
	if first.name != "" {
		f.told <- first
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(f.told)
		for e, ok := readEvent(lines); ok; e, ok = readEvent(lines) {
			f.told <- e
		}
	})
	f.close = func() {
		cancel()
		reading.Wait()
		_ = resp.Body.Close()
	}
	return f, resp.StatusCode, nil
}

// eventClient gives each stream a connection of its own, which ends with it.
var eventClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// readEvent reads up to the next id.
func readEvent(lines *bufio.Scanner) (e feedEvent, ok bool) {
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			if json.Unmarshal([]byte(value), &e.data) != nil {
				return e, false
			}
		case "":
			if e.id != "" && value == "" {
				return e, true
			}
		}
	}
	return e, false
}

// ear is one agent that hears of changes, and can read what it heard of.
type ear struct {
	name    string
	heard   <-chan string
	session *mcp.ClientSession
}

// hearsOf waits for a change. Where the feed of replicas began meanwhile, the ear is
// told beforehand of what it subscribed to as a whole, which it is to read again.
func (e *ear) hearsOf(t testing.TB, want string, asked ...string) {
	t.Helper()
	for {
		switch got := hears(t, e.heard); {
		case got == want:
			return
		case !slices.Contains(asked, got):
			require.Equal(t, want, got, e.name)
		}
	}
}

// version is which one of a secret the agent reads, as a resource and by the tool.
func (e *ear) version(t testing.TB, uri, path string) float64 {
	t.Helper()
	res, err := e.session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
	require.NoError(t, err, e.name)
	var secret obj
	require.NoError(t, json.Unmarshal([]byte(res.Contents[0].Text), &secret))
	read := callThrough(e.session)(t, "kv.read", obj{"path": path})
	require.Equal(t, dig(read.body, "metadata.version"), dig(secret, "metadata.version"), e.name)
	return dig(secret, "metadata.version").(float64)
}

// mcpEar subscribes with the SDK's client.
func mcpEar(t testing.TB, name string, transport mcp.Transport, version string, uris ...string) *ear {
	t.Helper()
	heard := make(chan string, 1000)
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e", Version: "1"}, &mcp.ClientOptions{
		ResourceUpdatedHandler: func(_ context.Context, req *mcp.ResourceUpdatedNotificationRequest) { heard <- req.Params.URI },
	})
	session, err := client.Connect(context.Background(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })
	for _, uri := range uris {
		require.NoError(t, session.Subscribe(context.Background(), &mcp.SubscribeParams{URI: uri}))
	}
	return &ear{name: name + " " + version, heard: heard, session: session}
}

// feedEar follows /events. It hears changes, and "resync".
func feedEar(t testing.TB, name, url string, header http.Header, session *mcp.ClientSession) *ear {
	t.Helper()
	f, heard := follow(t, url, header), make(chan string, 1000)
	go func() {
		for e := range f.told {
			switch e.name {
			case "resource.changed":
				heard <- e.data["uri"].(string)
			case "resync":
				heard <- e.name
			}
		}
	}()
	return &ear{name: name, heard: heard, session: session}
}

// handleFor gives a handle of a stream of events, by its URL's query.
func handleFor(t testing.TB, url string, credential http.Header, wish obj) string {
	t.Helper()
	body, err := json.Marshal(wish)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/events/tokens", strings.NewReader(string(body)))
	require.NoError(t, err)
	req.Header = credential.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusCreated, resp.StatusCode)
	var made struct{ Token string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&made))
	return made.Token
}

// earsAt are an agent's ways to hear of a folder at one server.
func earsAt(t testing.TB, p *process, key, folder string) []*ear {
	t.Helper()
	var ears []*ear
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		ears = append(ears, mcpEar(t, p.url, httpTransport(p.url, key), version, folder))
	}
	session := ears[1].session
	handle := handleFor(t, p.url, withKey(key), obj{"uri": []string{folder}})
	return append(ears,
		feedEar(t, "/events at "+p.url, p.url+"/events?uri="+folder, withKey(key), session),
		feedEar(t, "/mcp/sse at "+p.url, p.url+"/mcp/sse?uri="+folder, withKey(key), session),
		feedEar(t, "/events by a handle at "+p.url, p.url+"/events?token="+handle, http.Header{}, session))
}

// stdioEars are an agent's own processes, one for each era.
func stdioEars(t testing.TB, v *devstack.Vault, env []string, key, folder string) (ears []*ear) {
	t.Helper()
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		cmd := exec.Command(binary, "stdio")
		cmd.Env = settings(t, v, append(slices.Clone(env), "VAULT_MCP_API_KEY="+key)...)
		ears = append(ears, mcpEar(t, "stdio", &mcp.CommandTransport{Command: cmd}, version, folder))
	}
	return ears
}
