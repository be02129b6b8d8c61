package main_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// A page gets its handle from one replica and is sent to the other: there it hears
// of what happens at the first, and resumes at either.
func TestEventHandleAtAnotherReplica(t *testing.T) {
	v := devstacktest.Fresh(t, devstacktest.Options{})
	r := devstacktest.Redis(t, devstack.RedisOptions{})
	shared := []string{"REDIS_URL=" + r.URL().Reveal(), "SEAL_KEY=" + strings.Repeat("5a", 32)}
	one, two := startHTTP(t, settings(t, v, shared...)), startHTTP(t, settings(t, v, shared...))
	req, err := http.NewRequest(http.MethodPost, one.url+"/events/tokens", strings.NewReader(`{"uri":["kv://dev/app/"]}`))
	require.NoError(t, err)
	req.Header = withKey(devKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	var made struct{ Token, URL string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&made))
	require.NoError(t, resp.Body.Close())
	require.Equal(t, one.url+"/events?token="+made.Token, made.URL)

	at := func(p *process, lastID string) <-chan string {
		resp, err := http.Get(p.url + "/events?token=" + made.Token + "&last_event_id=" + lastID)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		t.Cleanup(func() { _ = resp.Body.Close() })
		says := make(chan string, 1000)
		go func() {
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				says <- lines.Text()
			}
		}()
		return says
	}
	write := openRPC(one.url, devKey)
	first := at(two, "")
	id := lineAfter(t, first, "id: ")
	write(t, "kv.write", map[string]any{"path": "other", "data": map[string]any{}})
	write(t, "kv.write", map[string]any{"path": "app/a", "data": map[string]any{}})
	require.Contains(t, lineAfter(t, first, "data: "), `"uri":"kv://dev/app/a"`)
	for _, p := range []*process{one, two} {
		require.Contains(t, lineAfter(t, at(p, id), "data: "), `"uri":"kv://dev/app/a"`)
		require.NotContains(t, p.stderr(), made.Token)
	}
}

func lineAfter(t testing.TB, says <-chan string, start string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case line := <-says:
			if rest, ok := strings.CutPrefix(line, start); ok {
				return rest
			}
		case <-timeout:
			t.Fatalf("nothing begins with %q", start)
		}
	}
}
