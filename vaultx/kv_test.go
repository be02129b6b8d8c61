package vaultx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// kv does the KV operations on one path of a real Vault.
type kv struct {
	t    testing.TB
	c    *vaultx.Client
	path string
}

func newKV(t testing.TB, path string) *kv {
	t.Helper()
	return &kv{t: t, c: realClient(t, devstacktest.Shared(t)), path: path}
}

func (k *kv) bind(capability string, tmpl vaultx.Template) *vaultx.Bound {
	k.t.Helper()
	retryable := capability == "read" || capability == "list"
	return k.c.Bind(on(k.t, capability, tmpl, k.path), vaultx.BindOptions{Owner: prefix, Retryable: retryable})
}

func (k *kv) read(version int) (vaultx.KVSecret, error) {
	return vaultx.KVRead(k.t.Context(), k.bind("read", kvData), version)
}

func (k *kv) write(data string, cas *int) (vaultx.KVVersion, error) {
	value, err := vaultx.NewKVData(data)
	if err != nil {
		return vaultx.KVVersion{}, err
	}
	return vaultx.KVWrite(k.t.Context(), k.bind("update", kvData), value, cas)
}

func (k *kv) patch(data string, cas *int) (vaultx.KVVersion, error) {
	value, err := vaultx.NewKVData(data)
	if err != nil {
		return vaultx.KVVersion{}, err
	}
	return vaultx.KVPatch(k.t.Context(), k.bind("patch", kvData), value, cas)
}

func (k *kv) list() ([]string, error) {
	return vaultx.KVList(k.t.Context(), k.bind("list", kvMetadata))
}

// wrote asserts that a write made a version.
func (k *kv) wrote(version int) func(vaultx.KVVersion, error) {
	return func(v vaultx.KVVersion, err error) {
		k.t.Helper()
		require.NoError(k.t, err)
		require.Equal(k.t, version, v.Version)
		_, err = time.Parse(time.RFC3339, v.CreatedTime)
		require.NoError(k.t, err)
	}
}

// holds asserts what a version holds.
func (k *kv) holds(version int, want string) {
	k.t.Helper()
	s, err := k.read(version)
	require.NoError(k.t, err)
	require.JSONEq(k.t, want, string(s.Data.Reveal()))
	if version > 0 {
		require.Equal(k.t, version, s.Metadata.Version)
	}
}

// gone asserts that a version is not there, in this state.
func (k *kv) gone(version int, state string) {
	k.t.Helper()
	_, err := k.read(version)
	f := requireKind(k.t, fault.NotFound, err)
	require.Equal(k.t, state, f.Details["state"])
	require.Contains(k.t, f.Msg, state)
	m, ok := f.Details["metadata"].(vaultx.KVVersionMetadata)
	require.True(k.t, ok)
	require.Positive(k.t, m.Version)
	require.Equal(k.t, state == "destroyed", m.Destroyed)
	if state == "deleted" {
		require.NotEmpty(k.t, m.DeletionTime)
	}
}

func is(n int) *int { return &n }

func TestKVLifeOfASecret(t *testing.T) {
	k := newKV(t, "life/app")
	_, err := k.read(0)
	f := requireKind(t, fault.NotFound, err)
	require.NotContains(t, f.Details, "state", "what never was has no state")

	k.wrote(1)(k.write(`{"a":"1"}`, nil))
	k.wrote(2)(k.write(`{"a":"2","b":"x"}`, nil))
	k.holds(0, `{"a":"2","b":"x"}`)
	k.holds(1, `{"a":"1"}`)
	k.wrote(3)(k.patch(`{"b":null,"c":{"d":true}}`, nil))
	k.holds(0, `{"a":"2","c":{"d":true}}`)
	_, err = k.read(99)
	requireKind(t, fault.NotFound, err)
	_, err = k.read(-1)
	requireKind(t, fault.Invalid, err)

	require.NoError(t, vaultx.KVDelete(t.Context(), k.bind("delete", kvData)))
	k.gone(0, "deleted")
	k.gone(3, "deleted")
	k.holds(2, `{"a":"2","b":"x"}`)
	require.NoError(t, vaultx.KVVersions(t.Context(), k.bind("update", kvDelete), []int{1, 2}))
	k.gone(1, "deleted")
	require.NoError(t, vaultx.KVVersions(t.Context(), k.bind("update", kvUndelete), []int{1, 3}))
	k.holds(1, `{"a":"1"}`)
	k.holds(0, `{"a":"2","c":{"d":true}}`)
	k.gone(2, "deleted")
	require.NoError(t, vaultx.KVVersions(t.Context(), k.bind("update", kvDestroy), []int{1}))
	k.gone(1, "destroyed")
	require.NoError(t, vaultx.KVVersions(t.Context(), k.bind("update", kvUndelete), []int{1}), "Vault says yes")
	k.gone(1, "destroyed")

	m, err := vaultx.KVMetadataOf(t.Context(), k.bind("read", kvMetadata))
	require.NoError(t, err)
	require.Equal(t, 3, m.CurrentVersion)
	require.False(t, m.CASRequired)
	require.Len(t, m.Versions, 3)
	for i, v := range m.Versions {
		require.Equal(t, i+1, v.Version)
		require.NotEmpty(t, v.CreatedTime)
		require.Equal(t, i == 0, v.Destroyed)
		require.Equal(t, i == 1, v.DeletionTime != "", "version %d", v.Version)
	}
}

func TestKVDeleteOfNothing(t *testing.T) {
	k := newKV(t, "nothing/here")
	require.NoError(t, vaultx.KVDelete(t.Context(), k.bind("delete", kvData)))
	_, err := vaultx.KVMetadataOf(t.Context(), k.bind("read", kvMetadata))
	requireKind(t, fault.NotFound, err)
}

func TestKVCheckAndSet(t *testing.T) {
	k := newKV(t, "cas/app")
	_, err := k.write(`{"a":1}`, is(1))
	requireKind(t, fault.Conflict, err)
	k.wrote(1)(k.write(`{"a":1}`, is(0))) // 0: only if there is none
	_, err = k.write(`{"a":2}`, is(0))
	f := requireKind(t, fault.Conflict, err)
	require.NotContains(t, f.Details, "outcome", "a conflict is certain")
	k.wrote(2)(k.write(`{"a":2}`, is(1)))
	_, err = k.patch(`{"a":3}`, is(1))
	requireKind(t, fault.Conflict, err)
	k.wrote(3)(k.patch(`{"a":3}`, is(2)))

	// A deleted secret has a current version all the same.
	require.NoError(t, vaultx.KVDelete(t.Context(), k.bind("delete", kvData)))
	_, err = k.write(`{"a":4}`, is(0))
	requireKind(t, fault.Conflict, err)
	k.wrote(4)(k.write(`{"a":4}`, is(3)))
}

func TestKVCheckAndSetRequired(t *testing.T) {
	k := newKV(t, "cas-required/app")
	admin(t, "POST", "secret/metadata/"+prefix+"/"+k.path, map[string]any{
		"cas_required": true, "max_versions": 3, "delete_version_after": "1h", "custom_metadata": map[string]string{"owner": "me"},
	}, nil)
	_, err := k.write(`{"a":1}`, nil)
	f := requireKind(t, fault.Invalid, err)
	require.Equal(t, "/cas", f.Details["field"])
	k.wrote(1)(k.write(`{"a":1}`, is(0)))

	m, err := vaultx.KVMetadataOf(t.Context(), k.bind("read", kvMetadata))
	require.NoError(t, err)
	require.True(t, m.CASRequired)
	require.Equal(t, 3, m.MaxVersions)
	require.Equal(t, "1h0m0s", m.DeleteVersionAfter)
	require.Equal(t, map[string]string{"owner": "me"}, m.CustomMetadata)
	s, err := k.read(0)
	require.NoError(t, err, "one that will be deleted later is there now")
	require.Equal(t, map[string]string{"owner": "me"}, s.Metadata.CustomMetadata)
	require.NotEmpty(t, s.Metadata.DeletionTime)
}

func TestKVPatchOfWhatIsNotThere(t *testing.T) {
	k := newKV(t, "patch/app")
	_, err := k.patch(`{"a":1}`, nil)
	f := requireKind(t, fault.NotFound, err)
	require.Equal(t, "absent", f.Details["state"])
	k.wrote(1)(k.write(`{"a":1}`, nil))
	require.NoError(t, vaultx.KVDelete(t.Context(), k.bind("delete", kvData)))
	_, err = k.patch(`{"a":2}`, nil)
	f = requireKind(t, fault.NotFound, err)
	require.Equal(t, "deleted", f.Details["state"])
	require.Equal(t, 1, f.Details["metadata"].(vaultx.KVVersionMetadata).Version)
	require.Contains(t, f.Msg, "kv.undelete")
	k.gone(0, "deleted")
	require.NoError(t, vaultx.KVVersions(t.Context(), k.bind("update", kvDestroy), []int{1}))
	_, err = k.patch(`{"a":2}`, nil)
	require.Equal(t, "destroyed", requireKind(t, fault.NotFound, err).Details["state"])
}

func TestKVList(t *testing.T) {
	for _, path := range []string{"list/a", "list/b", "list/c/d", "list/c/e"} {
		k := newKV(t, path)
		k.wrote(1)(k.write(`{}`, nil))
	}
	for path, want := range map[string][]string{
		"list": {"a", "b", "c/"}, "list/": {"a", "b", "c/"}, "list/c": {"d", "e"}, "list/a": nil, "list/none": nil,
	} {
		keys, err := newKV(t, path).list()
		require.NoError(t, err, path)
		require.Equal(t, want, keys, path)
	}
	keys, err := newKV(t, "").list()
	require.NoError(t, err)
	require.Contains(t, keys, "list/")
}

// kvValue is a value that can be stored.
func kvValue(t *testing.T, data string) vaultx.KVData {
	t.Helper()
	value, err := vaultx.NewKVData(data)
	require.NoError(t, err)
	return value
}

// What callers store comes back as it went in, byte for byte where it is text.
func TestKVValues(t *testing.T) {
	k := newKV(t, "values/app")
	for _, data := range []string{
		`{}`,
		`{"pem":"-----BEGIN KEY-----\nabc\r\n-----END KEY-----\n"}`,
		`{"ansi":"\u001b[2J\u001b]0;x\u0007","nul":"\u0000","ls":"\u2028","html":"<script>&amp;"}`,
		`{"data":{"data":"x"},"options":{"cas":7},"cas":0,"metadata":{"version":9}}`,
		`{"data":null,"list":[null,true,1,"x",{},[]]}`,
		`{"a/b":"slash","":"empty","../x":"dots"," ":"blank","Ünï":"ünï","😀":"😀"}`,
		`{"version":1,"int":-42,"max":9007199254740992,"half":0.5,"small":5e-324,"big":1e300,"tenth":0.1,"zero":0,"money":1.10,"exp":1E3}`,
		`{"big":"` + strings.Repeat("x", 1<<20) + `"}`,
		`{"escaped":"` + strings.Repeat(`\u0041`, 1<<20) + `"}`,
		`{"newlines":"` + strings.Repeat(`\n`, 1<<19) + `"}`,
		`{"controls":"` + strings.Repeat(`\u001b`, 1<<20/6) + `"}`,
		`{"deep":` + strings.Repeat(`{"a":`, 255) + `1` + strings.Repeat(`}`, 255) + `}`,
		`{"list":[` + strings.TrimSuffix(strings.Repeat(`[],`, 10_000), ",") + `]}`,
		`{` + members(10_000) + `}`,
	} {
		var decoded vaultx.KVData
		require.NoError(t, json.Unmarshal([]byte(data), &decoded), "%.60s", data)
		v, err := k.write(data, nil)
		require.NoError(t, err, "%.60s", data)
		s, err := k.read(v.Version)
		require.NoError(t, err)
		require.True(t, sameJSON(t, data, string(s.Data.Reveal())), "%.60s came back as %.80s", data, s.Data.Reveal())
	}
}

// sameJSON compares without printing a megabyte when it fails.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	require.NoError(t, json.Unmarshal([]byte(a), &x))
	require.NoError(t, json.Unmarshal([]byte(b), &y))
	xs, err := json.Marshal(x)
	require.NoError(t, err)
	ys, err := json.Marshal(y)
	require.NoError(t, err)
	return bytes.Equal(xs, ys)
}

func members(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%q:%d", "m"+strconv.Itoa(i), i)
	}
	return strings.Join(list, ",")
}

// What Vault would alter or answer with a 500 is refused: there is no value of it
// that could be sent.
func TestKVRefusesWhatWouldNotSurvive(t *testing.T) {
	for data, words := range map[string]string{
		``: "object", `null`: "object", `[]`: "object", `"x"`: "object", `1`: "object", `{`: "object", `{}{}`: "object", `{} x`: "object",
		`{"a":1,"a":2}`: "twice", "{\"a\":\"\xff\"}": "UTF-8", `{"a":"\ud800"}`: "UTF-8", `{"a":NaN}`: "object", `{"a":01}`: "object",
		`{"a":9007199254740993}`:                  "value number 1",
		`{"x":"y","z":{"a":[1,true,1e400]}}`:      "value number 4",
		`{"a":-12345678901234567890}`:             "number",
		`{"a":0.1000000000000000055511151231257}`: "number",
		`{"a":1e-400}`:                            "number",
		`{"a":0e99999999999}`:                     "number",
		`{"a":` + strings.Repeat("[", 256) + strings.Repeat("]", 256) + `}`:             "nested",
		`{"a":"` + strings.Repeat("x", 1<<20+1) + `"}`:                                  "string",
		`{"a":"` + strings.Repeat(`\n`, 1<<19+1) + `"}`:                                 "string",
		`{"a":"` + strings.Repeat(`\u001b`, 1<<20/6+1) + `"}`:                           "string",
		`{"` + strings.Repeat("x", 1<<20+1) + `":1}`:                                    "string",
		`{` + members(10_001) + `}`:                                                     "members",
		`{"a":[` + strings.TrimSuffix(strings.Repeat(`{},`, 10_001), ",") + `]}`:        "members",
		`{"a":{"b":[` + strings.TrimSuffix(strings.Repeat(`"x",`, 10_001), ",") + `]}}`: "members",
	} {
		value, err := vaultx.NewKVData(data)
		require.Contains(t, requireKind(t, fault.Invalid, err).Msg, words, "%.60s", data)
		require.Zero(t, value)
	}
}

// 64 writers: for every version one wins, every other is told of the conflict,
// and no update is lost.
func TestKVConcurrentCheckAndSet(t *testing.T) {
	const writers, rounds = 64, 5
	k := newKV(t, "concurrent/app")
	var wg sync.WaitGroup
	for round := range rounds {
		type result struct {
			writer int
			v      vaultx.KVVersion
			err    error
		}
		results := make(chan result, writers)
		start := make(chan struct{})
		for w := range writers {
			wg.Go(func() {
				<-start
				v, err := k.write(fmt.Sprintf(`{"writer":%d,"round":%d}`, w, round), is(round))
				results <- result{w, v, err}
			})
		}
		close(start)
		wg.Wait()
		close(results)
		winner := -1
		for r := range results {
			if r.err == nil {
				require.Equal(t, -1, winner, "two winners")
				require.Equal(t, round+1, r.v.Version)
				winner = r.writer
				continue
			}
			f := requireKind(t, fault.Conflict, r.err)
			require.NotContains(t, f.Details, "outcome")
		}
		require.NotEqual(t, -1, winner, "no winner")
		k.holds(round+1, fmt.Sprintf(`{"writer":%d,"round":%d}`, winner, round))
	}
}

func TestWrap(t *testing.T) {
	c := realClient(t, devstacktest.Shared(t))
	info, err := c.Bind(vaultx.WrapOperation, vaultx.BindOptions{Owner: prefix}).Wrap(t.Context(), map[string]jsontext.Value{"data": jsontext.Value(`{"password":"p\nq"}`)}, 90*time.Second)
	require.NoError(t, err)
	require.Equal(t, 90, info.TTL)
	require.Equal(t, "sys/wrapping/wrap", info.CreationPath)
	_, err = time.Parse(time.RFC3339, info.CreationTime)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%+v", info), info.Token.Reveal())

	var unwrapped struct {
		Data map[string]any `json:"data"`
	}
	body := map[string]string{"token": info.Token.Reveal()}
	admin(t, "POST", "sys/wrapping/unwrap", body, &unwrapped)
	require.Equal(t, map[string]any{"data": map[string]any{"password": "p\nq"}}, unwrapped.Data)
	require.Error(t, devstacktest.Shared(t).Request(t.Context(), "POST", "sys/wrapping/unwrap", body, nil), "once only")

	info, err = c.Bind(vaultx.WrapOperation, vaultx.BindOptions{Owner: prefix}).Wrap(t.Context(), map[string]jsontext.Value{"x": jsontext.Value(`1`)}, time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, 1, info.TTL, "never 0, which would not wrap at all")
}

// admin asks the shared Vault with its root token.
func admin(t testing.TB, method, path string, body, out any) {
	t.Helper()
	require.NoError(t, devstacktest.Shared(t).Request(context.Background(), method, path, body, out))
}

// limited is a client of a Vault whose token may do no more than a policy says.
func limited(t testing.TB, v *devstack.Vault, policy string) *vaultx.Client {
	t.Helper()
	token, err := v.CreateToken(context.Background(), policy)
	require.NoError(t, err)
	return connect(t, vaultx.Config{Address: v.Addr, Token: token})
}
