package tools_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
	"vault-mcp/devstack"
	"vault-mcp/fault"
	"vault-mcp/tools"
)

type obj = map[string]any

// transitRig is a rig on the shared Vault with the transit engine, and what
// asks that Vault without us.
type transitRig struct {
	*rig
	v *devstack.Vault
	p *auth.Principal
}

func newTransitRig(t *testing.T, slug string) *transitRig {
	t.Helper()
	r, v := realRig(t, tools.Options{})
	mountTransit(t, v)
	return &transitRig{r, v, principal(slug)}
}

func mountTransit(t testing.TB, v *devstack.Vault) {
	t.Helper()
	err := v.Request(t.Context(), "POST", "sys/mounts/transit", obj{"type": "transit"}, nil)
	if status := new(devstack.StatusError); errors.As(err, &status) && status.Status == http.StatusBadRequest {
		return // it is there already
	}
	require.NoError(t, err)
}

// key makes a key of the principal's and returns its name.
func (r *transitRig) key(name string, body obj) string {
	r.t.Helper()
	name = r.p.Slug + "--" + name
	require.NoError(r.t, r.v.Request(r.t.Context(), "POST", "transit/keys/"+name, body, nil))
	return name
}

// plain asks Vault itself.
func (r *transitRig) plain(path string, body obj) obj {
	r.t.Helper()
	var answer struct{ Data obj }
	require.NoError(r.t, r.v.Request(r.t.Context(), "POST", "transit/"+path, body, &answer))
	return answer.Data
}

func (r *transitRig) ok(tool string, args obj) obj {
	r.t.Helper()
	return r.conform(r.p, "transit."+tool, asJSON(r.t, args))
}

func (r *transitRig) refused(tool string, args obj) *fault.Error {
	r.t.Helper()
	_, f := r.run(r.p, "transit."+tool, asJSON(r.t, args))
	require.NotNil(r.t, f, "%s %v", tool, args)
	return f
}

func asJSON(t testing.TB, args obj) string {
	t.Helper()
	b, err := json.Marshal(args)
	require.NoError(t, err)
	return string(b)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// and is a copy with more members.
func and(o obj, pairs ...any) obj {
	c := obj{}
	for k, v := range o {
		c[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		c[pairs[i].(string)] = pairs[i+1]
	}
	return c
}

// keys for encryption, of each kind, and what else they want.
var encryptionKeys = map[string]struct{ body, aside obj }{
	"aes128":     {obj{"type": "aes128-gcm96"}, obj{}},
	"aes":        {obj{"type": "aes256-gcm96"}, obj{}},
	"chacha":     {obj{"type": "chacha20-poly1305"}, obj{}},
	"rsa2048":    {obj{"type": "rsa-2048"}, obj{}},
	"rsa4096":    {obj{"type": "rsa-4096"}, obj{}},
	"derived":    {obj{"type": "aes256-gcm96", "derived": true}, obj{"context": b64("tenant 1")}},
	"convergent": {obj{"type": "aes256-gcm96", "derived": true, "convergent_encryption": true}, obj{"context": b64("tenant 1")}},
	"chachaconv": {obj{"type": "chacha20-poly1305", "derived": true, "convergent_encryption": true}, obj{"context": b64("\x00\xff")}},
}

// What we encrypt, Vault decrypts, and the reverse, for keys of each kind and
// plaintexts of each kind.
func TestTransitEncryptsAsVaultDoes(t *testing.T) {
	r := newTransitRig(t, "enc")
	for name, kind := range encryptionKeys {
		t.Run(name, func(t *testing.T) {
			key := r.key(name, kind.body)
			for about, plain := range map[string]string{
				"empty": "", "text": "p\u00e4ss\nword\x00\x1b[2J", "bytes": "\xff\xfe\x00", "190 bytes": strings.Repeat("x", 190),
			} {
				sealed := r.ok("encrypt", and(kind.aside, "key", key, "plaintext", b64(plain)))
				require.InDelta(t, 1, sealed["key_version"], 0)
				require.Regexp(t, `^vault:v1:[A-Za-z0-9+/]+=*$`, sealed["ciphertext"])
				opened := r.plain("decrypt/"+key, and(kind.aside, "ciphertext", sealed["ciphertext"]))
				require.Equal(t, b64(plain), opened["plaintext"], about)

				theirs := r.plain("encrypt/"+key, and(kind.aside, "plaintext", b64(plain)))
				ours := r.ok("decrypt", and(kind.aside, "key", key, "ciphertext", theirs["ciphertext"]))
				require.Equal(t, obj{"plaintext": b64(plain)}, ours, about)
			}
			sealed := r.ok("encrypt", and(kind.aside, "key", key, "plaintext", "\u00fcber", "encoding", "utf8"))
			require.Equal(t, b64("\u00fcber"), r.plain("decrypt/"+key, and(kind.aside, "ciphertext", sealed["ciphertext"]))["plaintext"])
			require.Equal(t, obj{"plaintext": "\u00fcber"}, r.ok("decrypt", and(kind.aside, "key", key, "ciphertext", sealed["ciphertext"], "encoding", "utf8")))
			empty := r.ok("encrypt", and(kind.aside, "key", key, "plaintext", "", "encoding", "utf8"))
			require.Equal(t, obj{"plaintext": ""}, r.ok("decrypt", and(kind.aside, "key", key, "ciphertext", empty["ciphertext"], "encoding", "utf8")))

			noText := r.plain("encrypt/"+key, and(kind.aside, "plaintext", b64("a\xff")))
			f := r.refused("decrypt", and(kind.aside, "key", key, "ciphertext", noText["ciphertext"], "encoding", "utf8"))
			require.Equal(t, fault.Invalid, f.Kind)
			require.Equal(t, "/encoding: the result is not UTF-8 text; call again with encoding base64", f.Msg)
		})
	}
	require.NotContains(t, r.everywhere(), b64("tenant 1"))
}

func TestTransitLongestPlaintext(t *testing.T) {
	r := newTransitRig(t, "long")
	key := r.key("k", obj{})
	longest := strings.Repeat("\xfe", 512<<10)
	sealed := r.ok("encrypt", obj{"key": key, "plaintext": b64(longest)})
	require.Equal(t, b64(longest), r.ok("decrypt", obj{"key": key, "ciphertext": sealed["ciphertext"]})["plaintext"])
	rewrapped := r.ok("rewrap", obj{"key": key, "ciphertext": sealed["ciphertext"]})
	require.Equal(t, b64(longest), r.plain("decrypt/"+key, obj{"ciphertext": rewrapped["ciphertext"]})["plaintext"])
	require.Equal(t, "/plaintext: must be at most 524288 bytes", r.refused("encrypt", obj{"key": key, "plaintext": b64(longest + "x")}).Msg)
	require.Equal(t, "/plaintext: must be at most 524288 bytes", r.refused("encrypt", obj{"key": key, "encoding": "utf8", "plaintext": strings.Repeat("\u00e4", 256<<10) + "x"}).Msg)
	require.Equal(t, "/plaintext: must have at most 699052 characters", r.refused("encrypt", obj{"key": key, "plaintext": b64(longest + "xyz")}).Msg)
}

// Unknown keys stay unknown, even to the root token, which may make them; and
// the type that sees to it changes nothing about keys that exist.
func TestTransitEncryptMakesNoKey(t *testing.T) {
	r := newTransitRig(t, "nokey")
	for i, args := range []obj{
		{"plaintext": ""}, {"plaintext": "", "context": "YQ=="}, {"plaintext": "", "associated_data": "YQ=="}, {"plaintext": "", "key_version": 1},
	} {
		name := fmt.Sprintf("nokey--%d", i)
		f := r.refused("encrypt", and(args, "key", name))
		require.Equal(t, fault.NotFound, f.Kind)
		require.Equal(t, "/key", f.Details["field"])
		err := r.v.Request(t.Context(), "GET", "transit/keys/"+name, nil, nil)
		status := new(devstack.StatusError)
		require.ErrorAs(t, err, &status)
		require.Equal(t, http.StatusNotFound, status.Status, "the key was made")
	}
	for tool, args := range map[string]obj{
		"decrypt": {"ciphertext": "vault:v1:AAAA"}, "rewrap": {"ciphertext": "vault:v1:AAAA"},
		"sign": {"input": ""}, "verify": {"input": "", "signature": "vault:v1:AAAA"},
	} {
		f := r.refused(tool, and(args, "key", "nokey--none"))
		require.Equal(t, fault.NotFound, f.Kind, tool)
		require.Equal(t, "there is no such key; an operator must make it", f.Msg)
	}
	// Without the plain request's upsert being off: Vault itself would make it.
	require.NotEmpty(t, r.plain("encrypt/nokey--vault", obj{"plaintext": ""})["ciphertext"])
}

func TestTransitDerivation(t *testing.T) {
	r := newTransitRig(t, "derive")
	derived := r.key("d", encryptionKeys["derived"].body)
	convergent := r.key("c", encryptionKeys["convergent"].body)
	for _, key := range []string{derived, convergent} {
		seal := func(context, plain string) string {
			return r.ok("encrypt", obj{"key": key, "plaintext": b64(plain), "context": b64(context)})["ciphertext"].(string)
		}
		sealed := seal("a", "p")
		require.Equal(t, key == convergent, sealed == seal("a", "p"), "equality shows of convergent keys alone")
		require.NotEqual(t, sealed, seal("b", "p"))
		require.NotEqual(t, sealed, seal("a", "q"))

		f := r.refused("decrypt", obj{"key": key, "ciphertext": sealed, "context": b64("b")})
		require.Equal(t, fault.Invalid, f.Kind)
		require.Equal(t, "/ciphertext", f.Details["field"])
		for tool, args := range map[string]obj{
			"encrypt": {"plaintext": ""}, "decrypt": {"ciphertext": sealed}, "rewrap": {"ciphertext": sealed},
		} {
			f := r.refused(tool, and(args, "key", key))
			require.Equal(t, "/context: is required for this key, which is a derived one", f.Msg, tool)
			require.Equal(t, "/context", f.Details["field"])
		}
	}
}

func TestTransitAssociatedData(t *testing.T) {
	r := newTransitRig(t, "aad")
	for name, kind := range encryptionKeys {
		key := r.key(name, kind.body)
		args := and(kind.aside, "key", key, "associated_data", b64("row 7"))
		if strings.HasPrefix(name, "rsa") {
			f := r.refused("encrypt", and(args, "plaintext", ""))
			require.Equal(t, "/associated_data: is not possible with this key's type", f.Msg)
			continue
		}
		sealed := r.ok("encrypt", and(args, "plaintext", b64("p")))["ciphertext"]
		require.Equal(t, obj{"plaintext": b64("p")}, r.ok("decrypt", and(args, "ciphertext", sealed)))
		require.Equal(t, b64("p"), r.plain("decrypt/"+key, and(args, "ciphertext", sealed))["plaintext"])
		without := and(kind.aside, "key", key, "ciphertext", sealed)
		for _, wrong := range []obj{without, and(without, "associated_data", b64("row 8"))} {
			f := r.refused("decrypt", wrong)
			require.Equal(t, fault.Invalid, f.Kind)
			require.Contains(t, f.Msg, "/ciphertext: does not decrypt")
		}
		require.Equal(t, fault.Invalid, r.refused("rewrap", without).Kind)
	}
}

func TestTransitRotation(t *testing.T) {
	r := newTransitRig(t, "rotate")
	for _, name := range []string{"aes", "chacha", "rsa2048", "convergent"} {
		kind := encryptionKeys[name]
		key := r.key(name, kind.body)
		old := r.ok("encrypt", and(kind.aside, "key", key, "plaintext", b64("p")))["ciphertext"]
		require.NoError(t, r.v.Request(t.Context(), "POST", "transit/keys/"+key+"/rotate", nil, nil))
		renewed := r.ok("rewrap", and(kind.aside, "key", key, "ciphertext", old))
		require.InDelta(t, 2, renewed["key_version"], 0)
		require.True(t, strings.HasPrefix(renewed["ciphertext"].(string), "vault:v2:"))
		require.Equal(t, b64("p"), r.plain("decrypt/"+key, and(kind.aside, "ciphertext", renewed["ciphertext"]))["plaintext"])

		first := r.ok("encrypt", and(kind.aside, "key", key, "plaintext", b64("p"), "key_version", 1))
		require.InDelta(t, 1, first["key_version"], 0)
		require.InDelta(t, 1, r.ok("rewrap", and(kind.aside, "key", key, "ciphertext", old, "key_version", 1))["key_version"], 0)
		for tool, args := range map[string]obj{"encrypt": {"plaintext": ""}, "rewrap": {"ciphertext": old}} {
			f := r.refused(tool, and(and(kind.aside, "key", key, "key_version", 3), oneOf(args)...))
			require.Equal(t, "/key_version: is higher than the key's newest version", f.Msg)
		}
		require.NoError(t, r.v.Request(t.Context(), "POST", "transit/keys/"+key+"/config", obj{"min_decryption_version": 2, "min_encryption_version": 2}, nil))
		f := r.refused("decrypt", and(kind.aside, "key", key, "ciphertext", old))
		require.Equal(t, "it was made by a version of the key that is not accepted any more", f.Msg)
		f = r.refused("encrypt", and(kind.aside, "key", key, "plaintext", "", "key_version", 1))
		require.Equal(t, "/key_version: is lower than the oldest version that may encrypt or sign", f.Msg)
		require.Equal(t, "/ciphertext: is of a version that the key does not have",
			r.refused("decrypt", and(kind.aside, "key", key, "ciphertext", strings.Replace(old.(string), ":v1:", ":v9:", 1))).Msg)
	}
}

// oneOf flattens a map into pairs.
func oneOf(o obj) (pairs []any) {
	for k, v := range o {
		pairs = append(pairs, k, v)
	}
	return pairs
}

func TestTransitDecryptRefuses(t *testing.T) {
	r := newTransitRig(t, "refuse")
	aes, rsa, ed := r.key("aes", obj{}), r.key("rsa", obj{"type": "rsa-2048"}), r.key("ed", obj{"type": "ed25519"})
	other := r.key("other", obj{})
	foreign := r.ok("encrypt", obj{"key": other, "plaintext": b64(canary)})["ciphertext"].(string)
	for _, tool := range []string{"decrypt", "rewrap"} {
		for about, c := range map[string]struct {
			key, ciphertext, want string
		}{
			"another key's":        {aes, foreign, "/ciphertext: does not decrypt"},
			"too short":            {aes, "vault:v1:AAAA", "/ciphertext: is not one of this key"},
			"of RSA, too short":    {rsa, "vault:v1:AAAA", "/ciphertext: was not made by this key"},
			"of RSA, another's":    {rsa, foreign, "/ciphertext: was not made by this key"},
			"of a signing key":     {ed, foreign, "/key: cannot decrypt"},
			"altered at its end":   {aes, flipped(foreign), "/ciphertext: does not decrypt"},
			"with a line end":      {aes, foreign + "\n", "/ciphertext: a ciphertext is as"},
			"with a space":         {aes, foreign + " ", "/ciphertext: a ciphertext is as"},
			"of version 0":         {aes, "vault:v0:AAAA", "/ciphertext: a ciphertext is as"},
			"of version 01":        {aes, "vault:v01:AAAA", "/ciphertext: a ciphertext is as"},
			"of version -1":        {aes, "vault:v-1:AAAA", "/ciphertext: a ciphertext is as"},
			"of version 1e3":       {aes, "vault:v1e3:AAAA", "/ciphertext: a ciphertext is as"},
			"of version +5":        {aes, "vault:v+5:AAAA", "/ciphertext: a ciphertext is as"},
			"of an Arabic version": {aes, "vault:v\u0663:AAAA", "/ciphertext: a ciphertext is as"},
			"of version 2^31":      {aes, "vault:v2147483648:AAAA", "/ciphertext: a ciphertext is as"},
			"without prefix":       {aes, "AAAA", "/ciphertext: a ciphertext is as"},
			"without data":         {aes, "vault:v1:", "/ciphertext: a ciphertext is as"},
			"without padding":      {aes, "vault:v1:AA", "/ciphertext: a ciphertext is as"},
			"of the URL alphabet":  {aes, "vault:v1:AA-_", "/ciphertext: a ciphertext is as"},
			"too long":             {aes, "vault:v1:" + strings.Repeat("A", 1<<20), "/ciphertext: a ciphertext is as"},
			"empty":                {aes, "", "/ciphertext: a ciphertext is as"},
		} {
			f := r.refused(tool, obj{"key": c.key, "ciphertext": c.ciphertext})
			require.Equal(t, fault.Invalid, f.Kind, about)
			require.Contains(t, f.Msg, c.want, about)
		}
	}
	require.Equal(t, "/key: cannot encrypt: it is of a type for signatures only", r.refused("encrypt", obj{"key": ed, "plaintext": ""}).Msg)
	require.Equal(t, "/plaintext: is longer than an RSA key of this size encrypts", r.refused("encrypt", obj{"key": rsa, "plaintext": b64(strings.Repeat("x", 191))}).Msg)
	require.NotContains(t, r.everywhere(), canary)
}

// flipped is a ciphertext with another last byte.
func flipped(ciphertext string) string {
	encoded := strings.TrimPrefix(ciphertext, "vault:v1:")
	raw, _ := base64.StdEncoding.DecodeString(encoded)
	raw[len(raw)-1] ^= 1
	return "vault:v1:" + base64.StdEncoding.EncodeToString(raw)
}

// A wrapped plaintext is opened once by whoever has the token, an empty one too.
func TestTransitDecryptWraps(t *testing.T) {
	r := newTransitRig(t, "twrap")
	key := r.key("k", obj{})
	for _, plain := range []string{canary, ""} {
		sealed := r.ok("encrypt", obj{"key": key, "plaintext": b64(plain)})["ciphertext"]
		out := r.ok("decrypt", obj{"key": key, "ciphertext": sealed, "wrap_ttl": "60s"})
		require.Len(t, out, 1, "the token alone")
		token := obj{"token": out["wrap"].(obj)["token"]}
		var inside struct{ Data obj }
		require.NoError(t, r.v.Request(t.Context(), "POST", "sys/wrapping/unwrap", token, &inside))
		require.Equal(t, obj{"plaintext": b64(plain)}, inside.Data)
		require.Error(t, r.v.Request(t.Context(), "POST", "sys/wrapping/unwrap", token, nil))
	}
	require.NotContains(t, r.everywhere(), b64(canary))
}

func TestTransitRandom(t *testing.T) {
	r := newTransitRig(t, "rand")
	seen := map[any]bool{}
	for _, n := range []int{1, 2, 31, 32, 33, 1023, 1024} {
		out := r.ok("random", obj{"bytes": n})
		raw, err := base64.StdEncoding.DecodeString(out["random"].(string))
		require.NoError(t, err)
		require.Len(t, raw, n)
		require.Equal(t, "base64", out["format"])
		out = r.ok("random", obj{"bytes": n, "format": "hex"})
		require.Regexp(t, fmt.Sprintf("^[0-9a-f]{%d}$", min(2*n, 1000)), out["random"].(string)[:min(2*n, 1000)])
		require.Len(t, out["random"], 2*n)
		require.Equal(t, "hex", out["format"])
		if n > 30 {
			require.False(t, seen[out["random"]])
			seen[out["random"]] = true
			require.NotContains(t, r.everywhere(), out["random"])
		}
	}
	out := r.ok("random", obj{})
	require.Len(t, out["random"], 44, "32 bytes")
}

// A key of another principal is forbidden, whatever the server's token may do,
// and the caller does not learn whether there is one.
func TestTransitGrants(t *testing.T) {
	r := newTransitRig(t, "dev")
	r.key("shared", obj{})
	require.NoError(t, r.v.Request(t.Context(), "POST", "transit/keys/dev", nil, nil))
	require.NoError(t, r.v.Request(t.Context(), "POST", "transit/keys/dev-bot", nil, nil))
	for tool, args := range map[string]obj{
		"encrypt": {"plaintext": ""}, "decrypt": {"ciphertext": "vault:v1:AAAA"}, "rewrap": {"ciphertext": "vault:v1:AAAA"},
		"sign": {"input": ""}, "verify": {"input": "", "signature": "vault:v1:AAAA"},
	} {
		for _, key := range []string{"dev-bot", "dev-", "dev2", "de", "DEV", "dev-no-such", "other--dev--x", "*", "dev--*"} {
			f := r.refused(tool, and(args, "key", key))
			if key == "*" || key == "dev--*" {
				require.Equal(t, fault.Invalid, f.Kind)
				continue
			}
			require.Equal(t, fault.Forbidden, f.Kind, key)
			require.Equal(t, "the principal has no grant for this name", f.Msg)
			require.Equal(t, "/key", f.Details["field"])
		}
	}
	for _, key := range []string{"dev", "dev--shared"} {
		require.NotEmpty(t, r.ok("encrypt", obj{"key": key, "plaintext": ""})["ciphertext"])
	}
}

// hostileKeys are names that land in a URL and are no names.
var hostileKeys = []string{
	"../creds/admin", "ro/../admin", "ro?x", "key/config", "", ".", "..", "a/b", "/", "a/", "%2e%2e", "a%2fb", "a b", " a", "a ", "a\n", "a\r\nX-Vault-Token: y",
	"a\x00", "a#x", "a;b", "a\\b", "+5", "*", "+", "a@b", "a=b", "\u0663", "\u212aey", "\uff0e\uff0e", "k\u00e9y", "\u202ek", strings.Repeat("a", 129),
	"{{identity.entity.id}}", "a&b", "a:b", "a,b", "\x1b[2J", "\ufeffa",
}

func TestTransitHostileKeysReachNothing(t *testing.T) {
	vault := newFakeVault(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	r := newRig(t, rigOptions{addr: vault.URL})
	p := with(principal("dev"), func(p *auth.Principal) { p.Grants = auth.Grants{"transit": {"*"}} })
	for tool, args := range arguments {
		if !strings.Contains(args, `"key":"dev"`) {
			continue
		}
		for _, key := range hostileKeys {
			quoted, err := json.Marshal(key)
			require.NoError(t, err)
			_, f := r.run(p, tool, strings.ReplaceAll(args, `"dev"`, string(quoted)))
			require.NotNil(t, f)
			require.Equal(t, fault.Invalid, f.Kind, "%s %q", tool, key)
			require.Equal(t, "/key", f.Details["field"])
		}
		require.Empty(t, vault.seen())
		// Names that look like something else stand for themselves.
		for _, key := range []string{"-1", "0", "1e3", "RO", "config", "keys", "..."} {
			before := len(vault.seen())
			_, f := r.run(p, tool, strings.ReplaceAll(args, `"dev"`, `"`+key+`"`))
			require.Equal(t, fault.NotFound, f.Kind)
			_, operation, _ := strings.Cut(tool, ".")
			require.Equal(t, []string{"PUT /v1/transit/" + operation + "/" + key}, asPut(vault.seen()[before:]))
		}
		vault.requests = nil
	}
}

// asPut writes POST as PUT, which Vault does not tell apart.
func asPut(requests []string) []string {
	out := make([]string, len(requests))
	for i, request := range requests {
		out[i] = strings.Replace(request, "POST ", "PUT ", 1)
	}
	return out
}

// neededTransitCalls take each capability of the transit tools.
func neededTransitCalls(t *testing.T, v *devstack.Vault) []need {
	t.Helper()
	r := &transitRig{newRig(t, rigOptions{addr: v.Addr, token: v.RootToken}), v, principal("needs")}
	mountTransit(t, v)
	aes, ed := r.key("aes", obj{}), r.key("ed", obj{"type": "ed25519"})
	ciphertext := r.ok("encrypt", obj{"key": aes, "plaintext": ""})["ciphertext"]
	signature := r.ok("sign", obj{"key": ed, "input": ""})["signature"]
	call := func(tool, path string, args obj) need {
		return need{"transit." + tool, "update", "{transit}/" + path, nil, asJSON(t, args)}
	}
	return []need{
		call("encrypt", "encrypt/{key}", obj{"key": aes, "plaintext": ""}),
		call("decrypt", "decrypt/{key}", obj{"key": aes, "ciphertext": ciphertext}),
		call("sign", "sign/{key}", obj{"key": ed, "input": ""}),
		call("verify", "verify/{key}", obj{"key": ed, "input": "", "signature": signature}),
		call("rewrap", "rewrap/{key}", obj{"key": aes, "ciphertext": ciphertext}),
		call("random", "random", obj{}),
	}
}
