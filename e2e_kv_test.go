package main_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
)

type obj = map[string]any

// step is one call of a story: what is called and what must come back.
type step struct {
	about string
	tool  string
	args  obj
	code  string // the error's code; empty: success
	want  func(t *testing.T, got obj)
	exact bool // needs a client that sends numbers as they are given
}

// has expects members of the answer, by their JSON form.
func has(pairs ...any) func(*testing.T, obj) {
	return func(t *testing.T, got obj) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			want, err := json.Marshal(pairs[i+1])
			require.NoError(t, err)
			have, err := json.Marshal(dig(got, pairs[i].(string)))
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(have), "%s", pairs[i])
		}
	}
}

func dig(o obj, path string) any {
	var at any = o
	for _, name := range splitDots(path) {
		m, ok := at.(obj)
		if !ok {
			return nil
		}
		at = m[name]
	}
	return at
}

func splitDots(s string) []string {
	var parts []string
	for start, i := 0, 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return parts
}

// kvStory is what a user does with secrets, through every surface.
var kvStory = []step{
	{about: "nothing is there yet", tool: "kv.list", args: obj{}, want: has("keys", []string{})},
	{about: "read what is not there", tool: "kv.read", args: obj{"path": "app/db"}, code: "not_found"},
	{about: "write only if absent", tool: "kv.write", args: obj{"path": "app/db", "data": obj{"user": "u", "password": "p1", "nested": obj{"n": 1}}, "cas": 0}, want: has("version", 1)},
	{about: "write only if absent, again", tool: "kv.write", args: obj{"path": "app/db", "data": obj{"user": "x"}, "cas": 0}, code: "conflict"},
	{about: "read", tool: "kv.read", args: obj{"path": "app/db"}, want: has("data", obj{"user": "u", "password": "p1", "nested": obj{"n": 1}}, "metadata.version", 1, "metadata.destroyed", false)},
	{about: "either spelling", tool: "kv_read", args: obj{"path": "app/db"}, want: has("metadata.version", 1)},
	{about: "patch one key, remove another", tool: "kv.patch", args: obj{"path": "app/db", "data": obj{"password": "p2", "user": nil}, "cas": 1}, want: has("version", 2)},
	{about: "patch with a stale cas", tool: "kv.patch", args: obj{"path": "app/db", "data": obj{"password": "p3"}, "cas": 1}, code: "conflict"},
	{about: "patch what is not there", tool: "kv.patch", args: obj{"path": "app/none", "data": obj{"a": 1}}, code: "not_found"},
	{about: "read the patched", tool: "kv.read", args: obj{"path": "app/db"}, want: has("data", obj{"password": "p2", "nested": obj{"n": 1}}, "metadata.version", 2)},
	{about: "read an older version", tool: "kv.read", args: obj{"path": "app/db", "version": 1}, want: has("data.password", "p1", "metadata.version", 1)},
	{about: "read a version that never was", tool: "kv.read", args: obj{"path": "app/db", "version": 99}, code: "not_found"},
	{about: "list the top", tool: "kv.list", args: obj{}, want: has("keys", []string{"app/"})},
	{about: "list a folder", tool: "kv.list", args: obj{"prefix": "app"}, want: has("keys", []string{"db"})},
	{about: "list a folder with a slash", tool: "kv.list", args: obj{"prefix": "app/"}, want: has("keys", []string{"db"})},
	{about: "metadata", tool: "kv.metadata", args: obj{"path": "app/db"}, want: twoVersions},
	{about: "delete the newest", tool: "kv.delete", args: obj{"path": "app/db"}, want: has("ok", true)},
	{about: "read the deleted", tool: "kv.read", args: obj{"path": "app/db"}, code: "not_found", want: has("details.metadata.version", 2, "details.state", "deleted")},
	{about: "undelete", tool: "kv.undelete", args: obj{"path": "app/db", "versions": []int{2}}, want: has("ok", true)},
	{about: "read what came back", tool: "kv.read", args: obj{"path": "app/db"}, want: has("data.password", "p2")},
	{about: "delete one version", tool: "kv.delete", args: obj{"path": "app/db", "versions": []int{1}}, want: has("ok", true)},
	{about: "read the deleted version", tool: "kv.read", args: obj{"path": "app/db", "version": 1}, code: "not_found", want: has("details.state", "deleted")},
	{about: "destroy", tool: "kv.destroy", args: obj{"path": "app/db", "versions": []int{1, 2}}, want: has("ok", true)},
	{about: "read the destroyed", tool: "kv.read", args: obj{"path": "app/db"}, code: "not_found", want: has("details.metadata.destroyed", true, "details.state", "destroyed")},
	{about: "undelete does not bring it back", tool: "kv.undelete", args: obj{"path": "app/db", "versions": []int{2}}, want: has("ok", true)},
	{about: "it stays destroyed", tool: "kv.read", args: obj{"path": "app/db"}, code: "not_found", want: has("details.state", "destroyed")},
	{about: "names that Vault's API has stand for themselves", tool: "kv.write", args: obj{"path": "data/metadata/sys/mounts", "data": obj{"a": "b"}}, want: has("version", 1)},
	{about: "and are read back", tool: "kv.read", args: obj{"path": "data/metadata/sys/mounts"}, want: has("data", obj{"a": "b"})},
	{about: "a number that Vault would alter", tool: "kv.write", args: obj{"path": "app/n", "data": obj{"n": json.Number("12345678901234567890")}}, code: "invalid", want: has("details.field", "/data"), exact: true},
	{about: "a missing argument", tool: "kv.read", args: obj{}, code: "invalid", want: has("details.field", "/path")},
	{about: "an argument of the wrong type", tool: "kv.read", args: obj{"path": "app/db", "version": "one"}, code: "invalid", want: has("details.field", "/version")},
	{about: "data that is no object", tool: "kv.write", args: obj{"path": "app/db", "data": "x"}, code: "invalid", want: has("details.field", "/data")},
	{about: "an unknown argument", tool: "kv.read", args: obj{"path": "app/db", "mount": "sys"}, code: "invalid"},
	{about: "a path that leaves the prefix", tool: "kv.read", args: obj{"path": "../dev-bot/x"}, code: "invalid", want: has("details.field", "/path")},
}

// twoVersions expects the metadata of a secret that was written and patched.
func twoVersions(t *testing.T, got obj) {
	t.Helper()
	has("current_version", 2, "oldest_version", 0, "cas_required", false)(t, got)
	versions, _ := got["versions"].([]any)
	require.Len(t, versions, 2)
	for i, v := range versions {
		version, _ := v.(obj)
		has("version", i+1, "destroyed", false)(t, version)
		require.NotEmpty(t, version["created_time"])
		require.NotContains(t, version, "deletion_time")
	}
	require.Contains(t, got, "max_versions")
	require.NotEmpty(t, got["updated_time"])
	require.NotContains(t, got, "data", "metadata holds no values")
}

func TestKVStory(t *testing.T) {
	for _, s := range surfaces() {
		t.Run(s.name, func(t *testing.T) {
			v := devstacktest.Fresh(t, devstacktest.Options{})
			call := s.open(t, v, devKey)
			for _, step := range kvStory {
				got := call(t, step.tool, step.args)
				require.Equal(t, step.code, got.code(), "%s: %v", step.about, got.body)
				require.Equal(t, step.code != "", got.failed, step.about)
				if step.want != nil {
					step.want(t, got.body)
				}
			}
		})
	}
}
