package main_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

const hubKey = "hub-api-key-0123456789"

// noticeSettings are those of servers in which two tenants and a hub over both hear
// of changes. Each test has a prefix of its own.
func noticeSettings(prefix string, more ...string) []string {
	return append([]string{
		"DEFAULT_PREFIX=" + prefix, `PRINCIPALS=[{"subject":"hub","prefix":"` + prefix + `"}]`,
		"API_KEYS_JSON=" + strings.Replace(apiKeys, "{", `{"`+hubKey+`":"hub",`, 1),
	}, more...)
}

// shareFeed are the settings by which replicas have one feed, and understand one
// another's ids.
func shareFeed(r *devstack.Redis) []string {
	return []string{"REDIS_URL=" + r.URL().Reveal(), "SEAL_KEY=" + strings.Repeat("5e", 32), "AUDIT_HMAC_KEY=" + strings.Repeat("a7", 32)}
}

// One agent rotates a secret. Another of its principal hears of it, over every way in,
// at the same replica, at another, and in processes of its own; reads again, and has
// the new version. A hub over both tenants hears of each, and reads by the URI that it
// was told. The other tenant hears nothing, whatever it subscribes to.
func TestEveryWayInHears(t *testing.T) {
	v := devstacktest.Shared(t)
	t.Run("replicas", func(t *testing.T) {
		env := noticeSettings("e2e-replicas", shareFeed(devstacktest.Redis(t, devstack.RedisOptions{}))...)
		a, b := startHTTP(t, settings(t, v, env...)), startHTTP(t, settings(t, v, env...))
		redisIs(t, a, true)
		redisIs(t, b, true)
		ears := stdioEars(t, v, env, devKey, "kv://dev/notice/")
		handle := handleFor(t, a.url, withKey(devKey), obj{"uri": []string{"kv://dev/notice/"}})
		ears = append(ears, feedEar(t, "a handle of another replica", b.url+"/events?token="+handle, http.Header{}, ears[0].session))
		tellStory(t, ears, stdioEars(t, v, env, botKey, "kv://dev-bot/"), a, b)
	})
	t.Run("one process", func(t *testing.T) {
		tellStory(t, nil, nil, startHTTP(t, settings(t, v, noticeSettings("e2e-alone")...)))
	})
}

func tellStory(t *testing.T, ears, eavesdroppers []*ear, replicas ...*process) {
	t.Helper()
	var hubs []*ear
	for _, p := range replicas {
		ears = append(ears, earsAt(t, p, devKey, "kv://dev/notice/")...)
		eavesdroppers = append(eavesdroppers, eavesdroppersAt(t, p)...)
		hubs = append(hubs, earsAt(t, p, hubKey, "kv://dev/")...)
		hubs = append(hubs, mcpEar(t, "all of the hub", httpTransport(p.url, hubKey), "2026-07-28", "kv://dev/", "kv://dev-bot/"))
	}
	write, other := openRPC(replicas[0].url, devKey), openRPC(replicas[0].url, botKey)
	hear := func(uri, about string) {
		t.Helper()
		for _, e := range slices.Concat(ears, hubs) {
			t.Log(about, e.name)
			e.hearsOf(t, uri, "kv://dev/notice/")
		}
	}
	for _, path := range []string{"notice/db", "notice/deep/er"} {
		uri := "kv://dev/" + path
		n := write.succeed(t, "kv.write", obj{"path": path, "data": obj{"k": "old"}})["version"]
		hear(uri, "the first version")
		n = write.succeed(t, "kv.write", obj{"path": path, "data": obj{"k": "new"}, "cas": n})["version"]
		hear(uri, "the second version")
		for _, e := range ears {
			require.InDelta(t, n, e.version(t, uri, path), 0, e.name)
		}
		for _, e := range hubs {
			require.InDelta(t, n, e.version(t, uri, "dev/"+path), 0, e.name)
		}
	}
	// What makes no change is not told as one; of what does, each is.
	require.Equal(t, "conflict", write(t, "kv.write", obj{"path": "notice/db", "data": obj{}, "cas": 1}).code())
	require.Equal(t, "invalid", write(t, "kv.write", obj{"path": "notice/../db", "data": obj{}}).code())
	require.Equal(t, "not_found", write(t, "kv.patch", obj{"path": "notice/absent", "data": obj{"k": "v"}}).code())
	require.Equal(t, "not_found", other(t, "kv.patch", obj{"path": "notice/db", "data": obj{"k": "v"}}).code())
	write.succeed(t, "kv.read", obj{"path": "notice/db"})
	write.succeed(t, "kv.list", obj{"prefix": "notice/"})
	write.succeed(t, "kv.metadata", obj{"path": "notice/db"})
	for _, step := range changeSteps("notice/deep/er") {
		write.succeed(t, step.tool, step.args)
		hear("kv://dev/notice/deep/er", step.tool)
	}
	// The marker shows that the other tenant's ears work, and comes after all else.
	other.succeed(t, "kv.write", obj{"path": "notice/marker", "data": obj{}})
	for _, e := range eavesdroppers {
		e.hearsOf(t, "kv://dev-bot/notice/marker", "kv://dev-bot/")
	}
	for _, e := range hubs {
		if e.name == "all of the hub 2026-07-28" {
			e.hearsOf(t, "kv://dev-bot/notice/marker")
		}
		require.Empty(t, e.heard, e.name)
	}
	for _, e := range slices.Concat(ears, eavesdroppers) {
		require.Empty(t, e.heard, e.name)
	}
}

// changeSteps change a secret of two versions, each in another way.
func changeSteps(path string) []step {
	return []step{
		{tool: "kv.patch", args: obj{"path": path, "data": obj{"more": "x"}}},
		{tool: "kv.delete", args: obj{"path": path}},
		{tool: "kv.delete", args: obj{"path": path, "versions": []int{1}}},
		{tool: "kv.undelete", args: obj{"path": path, "versions": []int{1}}},
		{tool: "kv.destroy", args: obj{"path": path, "versions": []int{1}}},
	}
}

// eavesdroppersAt subscribe, as the other tenant, to all that they can name. What is
// another's by its name is refused over every way in.
func eavesdroppersAt(t *testing.T, p *process) (ears []*ear) {
	t.Helper()
	own := []string{"kv://dev-bot/", "kv://dev-bot/dev/", "kv://dev-bot/dev/notice/", "kv://dev-bot/e2e-replicas/dev/", "kv://dev-bot/notice/db"}
	foreign := []string{
		"kv://dev/", "kv://dev/notice/", "kv://dev/notice/db", "kv://dev/notice/deep/er", "kv://hub/", "kv://hub/dev/", "kv://DEV/notice/", "kv://e2e-replicas/dev/",
		"kv://dev-bot/../dev/notice/", "kv://dev-bot/%2e%2e/dev/", "kv://dev%2Fnotice/", "kv://d%65v/", "kv://dev-bot%2F..%2Fdev/", "kv:///", "kv://", "kv://*/", "kv://dev*/",
	}
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		e := mcpEar(t, "another's", httpTransport(p.url, botKey), version, own...)
		for _, uri := range foreign {
			err := e.session.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri})
			if version == "2025-11-25" { // the client of the other era does not wait for the answer
				require.Error(t, err, uri)
			}
		}
		ears = append(ears, e)
	}
	for _, uri := range foreign {
		_, status, err := tryFollow(p.url+"/events?uri="+url.QueryEscape(uri), withKey(botKey))
		require.NoError(t, err)
		require.Contains(t, []int{http.StatusBadRequest, http.StatusForbidden}, status, uri)
	}
	filter := "?uri=" + strings.Join(own, "&uri=")
	for _, query := range []string{"", "?type=resource.changed", filter, filter + "&type=resource.changed&type=tool.completed"} {
		ears = append(ears, feedEar(t, "another's /events"+query, p.url+"/events"+query, withKey(botKey), nil))
	}
	handle := handleFor(t, p.url, withKey(botKey), obj{"uri": own})
	return append(ears, feedEar(t, "another's handle", p.url+"/events?token="+handle, http.Header{}, nil))
}
