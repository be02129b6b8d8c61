package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

const keysPerProcess = 8

func keyFile(t testing.TB) (*auth.KeyFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state", "keys.json")
	return auth.NewKeyFile(path), path
}

func create(t testing.TB, f *auth.KeyFile, subject string, opt auth.KeyOptions) (string, auth.KeyRecord) {
	t.Helper()
	key, record, err := f.Create(subject, opt)
	require.NoError(t, err)
	return key.Reveal(), record
}

func TestCreateKey(t *testing.T) {
	f, path := keyFile(t)
	list, err := f.List()
	require.NoError(t, err, "no file means no keys")
	require.Empty(t, list)

	key, record := create(t, f, "Größe", auth.KeyOptions{
		Scopes: auth.Scopes{"kv:read"}, Grants: auth.Grants{"transit": {"orders"}}, Note: "for CI", Lifetime: time.Hour, BindCiphertexts: true,
	})
	require.Regexp(t, `^vmcp_[0-9a-f]{12}_[a-z2-7]{52}$`, key)
	require.Equal(t, record.ID, strings.Split(key, "_")[1])
	require.Equal(t, time.Hour, record.ExpiresAt.Sub(record.CreatedAt))

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(text), strings.Split(key, "_")[2])
	sum := sha256.Sum256([]byte(key))
	require.Contains(t, string(text), hex.EncodeToString(sum[:]))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	list, err = f.List()
	require.NoError(t, err)
	require.Equal(t, []auth.KeyRecord{record}, list)
	require.Equal(t, "for CI", list[0].Note)
	require.True(t, list[0].BindCiphertexts)

	other, _ := create(t, f, "dev", auth.KeyOptions{})
	require.NotEqual(t, key, other)
	a := authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
	p, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
	require.NoError(t, err)
	require.True(t, p.BindCiphertexts)
	require.Equal(t, record.ID, p.CredentialID)
	require.Equal(t, auth.Scopes{"kv:read"}, p.Scopes)
	require.True(t, p.Grants.Allow("transit", "orders"))
	require.Equal(t, record.ExpiresAt, p.ExpiresAt)
	p, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", other)})
	require.NoError(t, err)
	require.Equal(t, auth.AllScopes(), p.Scopes)
	require.True(t, p.ExpiresAt.IsZero())

	// The right id with another secret, and a right secret under another id.
	for _, forged := range []string{
		key[:len(key)-1] + "x", key + "x", other[:18] + key[18:], key[:18] + other[18:], key[:17], key[:18],
	} {
		_, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", forged)})
		require.ErrorIs(t, err, fault.Unauthenticated, "%d", len(forged))
	}
}

func TestCreateRefuses(t *testing.T) {
	f, path := keyFile(t)
	for about, try := range map[string]struct {
		subject string
		opt     auth.KeyOptions
	}{
		"no subject":           {"", auth.KeyOptions{}},
		"a long subject":       {strings.Repeat("a", 129), auth.KeyOptions{}},
		"not UTF-8":            {"a\xff", auth.KeyOptions{}},
		"a negative lifetime":  {"dev", auth.KeyOptions{Lifetime: -1}},
		"no such scope":        {"dev", auth.KeyOptions{Scopes: auth.Scopes{"admin"}}},
		"grants of no engine":  {"dev", auth.KeyOptions{Grants: auth.Grants{"kv": {"x"}}}},
		"a note with a colour": {"dev", auth.KeyOptions{Note: "\x1b[31m"}},
		"a note of two lines":  {"dev", auth.KeyOptions{Note: "a\nb"}},
		"a long note":          {"dev", auth.KeyOptions{Note: strings.Repeat("a", 201)}},
	} {
		_, _, err := f.Create(try.subject, try.opt)
		require.ErrorIs(t, err, fault.Invalid, about)
	}
	_, err := os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist, "nothing was written")
}

func TestRotateKey(t *testing.T) {
	f, path := keyFile(t)
	first, record := create(t, f, "dev", auth.KeyOptions{Scopes: auth.Scopes{"read"}, Lifetime: time.Hour})
	try := func(key string) error {
		a := authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
		p, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
		if err == nil {
			require.Equal(t, record.ID, p.CredentialID, "records go on under one name")
			require.Equal(t, auth.Scopes{"read"}, p.Scopes)
		}
		return err
	}
	key, rotated, err := f.Rotate(record.ID, 24*time.Hour)
	require.NoError(t, err)
	second := key.Reveal()
	require.NotEqual(t, first, second)
	require.Equal(t, record.ID, rotated.ID)
	require.Equal(t, time.Hour, rotated.ExpiresAt.Sub(rotated.RotatedAt), "the lifetime begins anew")
	require.Equal(t, record.ExpiresAt, rotated.PreviousUntil, "the old secret does not outlive itself")
	require.NoError(t, try(first))
	require.NoError(t, try(second))

	_, _, err = f.Rotate(record.ID, time.Hour)
	require.NoError(t, err)
	require.Error(t, try(first), "the one before the last ends at once")
	require.NoError(t, try(second))

	key, rotated, err = f.Rotate(record.ID, 0)
	require.NoError(t, err)
	require.True(t, rotated.PreviousUntil.IsZero())
	require.Error(t, try(second), "no overlap, no old secret")
	require.NoError(t, try(key.Reveal()))

	require.NoError(t, f.Revoke(record.ID))
	require.Error(t, try(key.Reveal()))
	for _, id := range []string{record.ID, "", "nonsense"} {
		require.ErrorIs(t, f.Revoke(id), fault.NotFound)
		_, _, err = f.Rotate(id, time.Hour)
		require.ErrorIs(t, err, fault.NotFound)
	}
	_, _, err = f.Rotate(record.ID, -1)
	require.ErrorIs(t, err, fault.Invalid)
}

// An old secret ends when its overlap does, and its principal says so, so that
// streams opened with it end too.
func TestOverlapEnds(t *testing.T) {
	f, path := keyFile(t)
	first, record := create(t, f, "dev", auth.KeyOptions{})
	_, rotated, err := f.Rotate(record.ID, time.Hour)
	require.NoError(t, err)
	at := time.Now()
	a := authenticator(t, "", func(o *auth.Options) {
		o.KeysFile, o.Now = path, func() time.Time { return at }
	})
	p, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", first)})
	require.NoError(t, err)
	require.Equal(t, rotated.PreviousUntil, p.ExpiresAt)
	at = rotated.PreviousUntil
	_, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", first)})
	require.ErrorIs(t, err, fault.Unauthenticated)
}

// Rotating a key that has expired brings its subject back with a new secret and
// never its old one.
func TestRotateExpired(t *testing.T) {
	f, path := keyFile(t)
	old := "vmcp_0123456789ab_" + strings.Repeat("a", 52)
	sum := sha256.Sum256([]byte(old))
	writeKeys(t, path, fmt.Sprintf(`{"version": 1, "keys": [{"id": "0123456789ab", "subject": "dev", "sha256": "%x",
		"created_at": "2020-01-01T00:00:00Z", "expires_at": "2020-01-02T00:00:00Z"}]}`, sum))
	a := authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
	_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", old)})
	require.ErrorContains(t, err, "expired")

	key, record, err := f.Rotate("0123456789ab", 24*time.Hour)
	require.NoError(t, err)
	require.True(t, record.PreviousUntil.IsZero())
	require.Equal(t, 24*time.Hour, record.ExpiresAt.Sub(record.RotatedAt))
	a = authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
	_, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", old)})
	require.ErrorIs(t, err, fault.Unauthenticated)
	_, err = a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key.Reveal())})
	require.NoError(t, err)
}

// Several processes, each with several goroutines' worth of rivals, create keys
// at once: every key that was printed is in the file and works.
func TestKeyFileLosesNothing(t *testing.T) {
	f, path := keyFile(t)
	const processes, goroutines = 3, 4
	var mu sync.Mutex
	var keys []string
	add := func(more ...string) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, more...)
	}
	var all sync.WaitGroup
	for range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), creatorEnv+"="+path)
		cmd.Stderr = os.Stderr
		all.Go(func() {
			out, err := cmd.Output()
			if err == nil {
				add(strings.Fields(string(out))...)
			}
		})
	}
	for range goroutines {
		all.Go(func() {
			for range keysPerProcess {
				if key, _, err := f.Create("dev", auth.KeyOptions{}); err == nil {
					add(key.Reveal())
				}
			}
		})
	}
	// One who only reads never sees a half-written file.
	done := make(chan struct{})
	torn := make(chan error, 1)
	go func() {
		defer close(torn)
		for {
			if _, err := f.List(); err != nil {
				torn <- err
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	all.Wait()
	close(done)
	require.NoError(t, <-torn)

	require.Len(t, keys, (processes+goroutines)*keysPerProcess)
	a := authenticator(t, "", func(o *auth.Options) { o.KeysFile = path })
	for _, key := range keys {
		_, err := a.Authenticate(t.Context(), auth.Presented{Header: headers("X-API-Key", key)})
		require.NoError(t, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 2, "the file and its lock, and nothing temporary")
}

// writeKeys puts a file of keys in place by hand.
func writeKeys(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chmod(path, 0o600))
}

func TestKeyFileRefused(t *testing.T) {
	f, path := keyFile(t)
	good := map[string]any{"id": "0123456789ab", "subject": "dev", "sha256": strings.Repeat("0a", 32)}
	// with is a document whose second key is good but for one member.
	with := func(member string, value any) string {
		bad := map[string]any{"id": "00112233aabb", "subject": "dev", "sha256": strings.Repeat("0b", 32), member: value}
		text, err := json.Marshal(map[string]any{"version": 1, "keys": []any{good, bad}})
		require.NoError(t, err)
		return string(text)
	}
	writeKeys(t, path, with("note", "a good one"))
	list, err := f.List()
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, []string{"read", "write", "delete", "list"}, list[0].Scopes, "a record without scopes has all four")

	for text, want := range map[string]string{
		"":                                       "not JSON",
		"{":                                      "not JSON",
		`{"version": 1} {}`:                      "not JSON",
		"[]":                                     "kind",
		"{}":                                     "version", // as a file truncated by hand
		`{"version": 2}`:                         "version",
		`{"version": "1"}`:                       "/version",
		`{"keys": []}`:                           "version",
		`{"canary": 1}`:                          "unknown member",
		`{"version": 1, "version": 1}`:           "twice",
		`{"version": 1, "keys": null}`:           "/keys: null",
		`{"version": 1, "keys": [null]}`:         "/keys/0: null",
		with("canary", 1):                        "/keys/1/...: unknown member",
		with("key", "vmcp_canary"):               "/keys/1/...: unknown member",
		with("id", "0123456789ab"):               "key 2: its id was given before",
		with("id", "CANARY"):                     "key 2: an id",
		with("id", "0123456789AB"):               "key 2: an id",
		with("subject", ""):                      "key 2: a subject",
		with("sha256", "canary"):                 "key 2: sha256",
		with("sha256", strings.Repeat("0A", 32)): "key 2: sha256",
		with("sha256", strings.Repeat("zz", 32)): "key 2: sha256",
		with("scopes", []string{"canary"}):       "key 2: scope 1",
		with("scopes", nil):                      "/keys/1/scopes: null",
		with("expires_at", "canary"):             "/keys/1/expires_at",
		with("grants", map[string][]string{"canary": {"x"}}):                   "key 2: grants",
		with("note", "canary\x1b[2J"):                                          "key 2: a note",
		with("previous", map[string]string{"sha256": "canary"}):                "key 2: previous",
		with("previous", map[string]string{"sha256": strings.Repeat("0", 64)}): "key 2: previous",
	} {
		writeKeys(t, path, text)
		_, err := f.List()
		require.ErrorIs(t, err, fault.Invalid, text)
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, strings.ToLower(err.Error()), "canary", text)
		_, _, err = f.Create("dev", auth.KeyOptions{})
		require.Error(t, err, text)
		require.Error(t, f.Revoke("0123456789ab"), text)
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(after), "what cannot be read is not overwritten")
		_, err = auth.New(auth.Options{Prefix: "mcp", APIKeys: true, KeysFile: path})
		require.ErrorIs(t, err, fault.Invalid, "a file that was never right ends the start: %s", text)
	}
}

func TestKeyFileOpenToOthers(t *testing.T) {
	f, path := keyFile(t)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o666} {
		writeKeys(t, path, `{"version": 1, "keys": []}`)
		require.NoError(t, os.Chmod(path, mode))
		_, err := f.List()
		require.ErrorIs(t, err, fault.Invalid)
		require.ErrorContains(t, err, "open to others")
		_, err = auth.New(auth.Options{Prefix: "mcp", APIKeys: true, KeysFile: path})
		require.ErrorContains(t, err, "open to others")
	}
	_, err := auth.NewKeyFile(filepath.Dir(path)).List()
	require.ErrorIs(t, err, fault.Invalid, "a folder")
}

// A key file behind a symbolic link, as secret stores mount them, is changed
// where it is and the link stays.
func TestKeyFileBehindLink(t *testing.T) {
	f, path := keyFile(t)
	create(t, f, "dev", auth.KeyOptions{})
	link := filepath.Join(t.TempDir(), "link.json")
	require.NoError(t, os.Symlink(path, link))
	create(t, auth.NewKeyFile(link), "dev", auth.KeyOptions{})
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type())
	list, err := f.List()
	require.NoError(t, err)
	require.Len(t, list, 2)
}

// What lies behind the file in memory is not shown by printing it.
func TestKeyIsRedacted(t *testing.T) {
	f, _ := keyFile(t)
	key, record, err := f.Create("dev", auth.KeyOptions{})
	require.NoError(t, err)
	require.Equal(t, secret.Redacted, fmt.Sprintf("%v", key))
	text, err := json.Marshal(record)
	require.NoError(t, err)
	require.NotContains(t, string(text), strings.Split(key.Reveal(), "_")[2])
	require.NotContains(t, string(text), "sha256")
}

// No end of a key is overlooked: neither one that is no time, nor one that comes
// before its beginning, nor that of the secret before a rotation.
func TestEndsOfKeys(t *testing.T) {
	f, path := keyFile(t)
	for members, want := range map[string]string{
		`"expires_at":"2036-01-01T00:00:00Z"`:                                                          "expires_at wants created_at",
		`"created_at":"2020-01-01T00:00:00Z","expires_at":"0001-01-01T00:00:00Z"`:                      "/keys/0/expires_at: the first second",
		`"created_at":"2020-01-01T00:00:00Z","expires_at":"0001-01-01T02:00:00+02:00"`:                 "/keys/0/expires_at: the first second",
		`"created_at":"2020-01-02T00:00:00Z","expires_at":"2020-01-01T00:00:00Z"`:                      "expires_at is after created_at",
		`"created_at":"2020-01-02T00:00:00Z","expires_at":"2020-01-02T00:00:00Z"`:                      "expires_at is after created_at",
		`"created_at":"2020-01-01T00:00:00Z","expires_at":"2020-02-01T00:00:00Z",` + before("2999-01"): "previous.until is not after expires_at",
	} {
		writeKeys(t, path, `{"version":1,"keys":[{"id":"001122334455","subject":"dev","sha256":"`+strings.Repeat("0", 64)+`",`+members+`}]}`)
		_, err := f.List()
		require.ErrorIs(t, err, fault.Invalid, members)
		require.ErrorContains(t, err, want, members)
	}
	// Ended by hand after a rotation: it is not brought back with an end in the past.
	writeKeys(t, path, `{"version":1,"keys":[{"id":"001122334455","subject":"dev","sha256":"`+strings.Repeat("0", 64)+`",`+
		`"created_at":"2020-01-01T00:00:00Z","rotated_at":"2026-01-01T00:00:00Z","expires_at":"2025-01-01T00:00:00Z"}]}`)
	_, _, err := f.Rotate("001122334455", 0)
	require.ErrorIs(t, err, fault.Conflict)
}

// before is the secret before a rotation, until a month.
func before(month string) string {
	return `"previous":{"sha256":"` + strings.Repeat("1", 64) + `","until":"` + month + `-01T00:00:00Z"}`
}
