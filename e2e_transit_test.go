package main_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// seedTransit makes an engine with keys of dev's and one of dev-bot's.
func seedTransit(t *testing.T, v *devstack.Vault) {
	t.Helper()
	if err := v.Request(t.Context(), "GET", "sys/mounts/transit", nil, nil); err != nil {
		require.NoError(t, v.Request(t.Context(), "POST", "sys/mounts/transit", obj{"type": "transit"}, nil))
	}
	for name, body := range map[string]obj{
		"dev": {}, "dev--sign": {"type": "ecdsa-p256"}, "dev--tenants": {"derived": true, "convergent_encryption": true}, "dev-bot": {},
	} {
		require.NoError(t, v.Request(t.Context(), "POST", "transit/keys/"+name, body, nil))
	}
}

// utf8Args are arguments of which the binary ones are text.
func utf8Args(pairs ...any) obj { return with(obj{"encoding": "utf8"}, pairs...) }

// unasked are the ways to sign that a caller who says nothing gets.
var unasked = []any{"hash_algorithm", "sha2-256", "signature_algorithm", "pss", "marshaling_algorithm", "asn1", "prehashed", false}

// transitStory is what a user does with keys, through every surface.
var transitStory = []keptStep{
	{step: step{about: "encrypt", tool: "transit.encrypt", args: utf8Args("key", "dev", "plaintext", "gr\u00fc\u00df\nGott"), want: has("key_version", 1)}, keep: map[string]string{"sealed": "ciphertext"}},
	{step: step{about: "decrypt", tool: "transit.decrypt", args: utf8Args("key", "dev", "ciphertext", "<sealed>"), want: has("plaintext", "gr\u00fc\u00df\nGott")}},
	{step: step{about: "decrypt to base64", tool: "transit_decrypt", args: obj{"key": "dev", "ciphertext": "<sealed>"}, want: has("plaintext", base64.StdEncoding.EncodeToString([]byte("gr\u00fc\u00df\nGott")))}},
	{step: step{about: "decrypt for another", tool: "transit.decrypt", args: obj{"key": "dev", "ciphertext": "<sealed>", "wrap_ttl": "60s"}, want: wrappedAlone}},
	{step: step{about: "encrypt nothing", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": ""}}, keep: map[string]string{"nothing": "ciphertext"}},
	{step: step{about: "decrypt nothing", tool: "transit.decrypt", args: obj{"key": "dev", "ciphertext": "<nothing>"}, want: has("plaintext", "")}},
	{step: step{about: "bytes that are no text", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": "/w=="}}, keep: map[string]string{"bytes": "ciphertext"}},
	{step: step{about: "are not given as text", tool: "transit.decrypt", args: utf8Args("key", "dev", "ciphertext", "<bytes>"), code: "invalid", want: has("details.field", "/encoding")}},
	{step: step{about: "encrypt with associated data", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": "YQ==", "associated_data": "cm93"}}, keep: map[string]string{"row": "ciphertext"}},
	{step: step{about: "which decrypting needs", tool: "transit.decrypt", args: obj{"key": "dev", "ciphertext": "<row>"}, code: "invalid", want: has("details.field", "/ciphertext")}},
	{step: step{about: "and takes", tool: "transit.decrypt", args: obj{"key": "dev", "ciphertext": "<row>", "associated_data": "cm93"}, want: has("plaintext", "YQ==")}},
	{step: step{about: "a derived key wants a context", tool: "transit.encrypt", args: obj{"key": "dev--tenants", "plaintext": "YQ=="}, code: "invalid", want: has("details.field", "/context")}},
	{step: step{about: "encrypt convergently", tool: "transit.encrypt", args: obj{"key": "dev--tenants", "plaintext": "YQ==", "context": "dDE="}}, keep: map[string]string{"once": "ciphertext"}},
	{step: step{about: "the same, again", tool: "transit.encrypt", args: obj{"key": "dev--tenants", "plaintext": "YQ==", "context": "dDE="}}, keep: map[string]string{"again": "ciphertext"}},
	{step: step{about: "decrypt with another context", tool: "transit.decrypt", args: obj{"key": "dev--tenants", "ciphertext": "<once>", "context": "dDI="}, code: "invalid"}, before: bothAreOne},
	{
		step: step{about: "rewrap after a rotation", tool: "transit.rewrap", args: obj{"key": "dev", "ciphertext": "<sealed>"}, want: has("key_version", 2)},
		before: func(t *testing.T, beside servers, _ obj) {
			t.Helper()
			require.NoError(t, beside.vault.Request(t.Context(), "POST", "transit/keys/dev/rotate", nil, nil))
		},
		keep: map[string]string{"renewed": "ciphertext"},
	},
	{step: step{about: "decrypt the renewed", tool: "transit.decrypt", args: utf8Args("key", "dev", "ciphertext", "<renewed>"), want: has("plaintext", "gr\u00fc\u00df\nGott")}, before: vaultDecrypts},
	{step: step{about: "a version that is not there", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": "", "key_version": 9}, code: "invalid", want: has("details.field", "/key_version")}},
	{step: step{about: "sign", tool: "transit.sign", args: utf8Args("key", "dev--sign", "input", "plan"), want: has(append([]any{"key_version", 1}, unasked...)...)}, keep: map[string]string{"signature": "signature"}},
	{step: step{about: "verify", tool: "transit.verify", args: utf8Args("key", "dev--sign", "input", "plan", "signature", "<signature>"), want: has(append([]any{"valid", true}, unasked...)...)}, before: goVerifiesPlan},
	{step: step{about: "another input is an answer", tool: "transit.verify", args: utf8Args("key", "dev--sign", "input", "plot", "signature", "<signature>"), want: has(append([]any{"valid", false}, unasked...)...)}},
	{step: step{about: "another hash is an answer", tool: "transit.verify", args: utf8Args("key", "dev--sign", "input", "plan", "signature", "<signature>", "hash_algorithm", "sha2-512"), want: has("valid", false, "hash_algorithm", "sha2-512")}},
	{step: step{about: "no signature at all is an answer", tool: "transit.verify", args: utf8Args("key", "dev--sign", "input", "plan", "signature", "none"), want: has("valid", false)}},
	{step: step{about: "a hash of the wrong length", tool: "transit.sign", args: obj{"key": "dev--sign", "input": "YQ==", "prehashed": true}, code: "invalid", want: has("details.field", "/input")}},
	{step: step{about: "a weak hash", tool: "transit.sign", args: obj{"key": "dev--sign", "input": "YQ==", "hash_algorithm": "sha1"}, code: "invalid", want: has("details.field", "/hash_algorithm")}},
	{step: step{about: "sign with a key for encryption", tool: "transit.sign", args: obj{"key": "dev", "input": "YQ=="}, code: "invalid", want: has("details.field", "/key")}},
	{step: step{about: "random bytes", tool: "transit.random", args: obj{}, want: has("format", "base64")}},
	{step: step{about: "random bytes in hex", tool: "transit.random", args: obj{"bytes": 16, "format": "hex"}, want: func(t *testing.T, got obj) {
		t.Helper()
		require.Regexp(t, "^[0-9a-f]{32}$", got["random"])
	}}},
	{step: step{about: "too many of them", tool: "transit.random", args: obj{"bytes": 1025}, code: "invalid", want: has("details.field", "/bytes")}},
	{step: step{about: "less than one", tool: "transit.random", args: obj{"bytes": -1}, code: "invalid", want: has("details.field", "/bytes")}},
	{step: step{about: "a key that is not there", tool: "transit.encrypt", args: obj{"key": "dev--none", "plaintext": "YQ=="}, code: "not_found", want: has("details.field", "/key")}},
	{step: step{about: "is not made", tool: "transit.decrypt", args: obj{"key": "dev--none", "ciphertext": "<sealed>"}, code: "not_found"}},
	{step: step{about: "another's key", tool: "transit.encrypt", args: obj{"key": "dev-bot", "plaintext": "YQ=="}, code: "forbidden", want: has("details.field", "/key")}},
	{step: step{about: "another's ciphertext", tool: "transit.decrypt", args: obj{"key": "dev-bot", "ciphertext": "<sealed>"}, code: "forbidden"}},
	{step: step{about: "a key's name that leaves the engine", tool: "transit.encrypt", args: obj{"key": "../keys/dev", "plaintext": ""}, code: "invalid", want: has("details.field", "/key")}},
	{step: step{about: "base64 without padding", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": "YQ"}, code: "invalid", want: has("details.field", "/plaintext")}},
	{step: step{about: "base64 of the URL alphabet", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": "-_-_"}, code: "invalid", want: has("details.field", "/plaintext")}},
	{step: step{about: "base64 with a line end", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": "YQ==\n"}, code: "invalid", want: has("details.field", "/plaintext")}},
	{step: step{about: "a context that is no base64", tool: "transit.encrypt", args: utf8Args("key", "dev--tenants", "plaintext", "a", "context", "t 1"), code: "invalid", want: has("details.field", "/context")}},
	{step: step{about: "a ciphertext that is none", tool: "transit.decrypt", args: obj{"key": "dev", "ciphertext": "vault:v1:?"}, code: "invalid", want: has("details.field", "/ciphertext")}},
	{step: step{about: "a missing argument", tool: "transit.encrypt", args: obj{"key": "dev"}, code: "invalid", want: has("details.field", "/plaintext")}},
	{step: step{about: "an unknown argument", tool: "transit.encrypt", args: obj{"key": "dev", "plaintext": "", "type": "aes256-gcm96"}, code: "invalid"}},
}

func wrappedAlone(t *testing.T, got obj) {
	t.Helper()
	require.Len(t, got, 1)
	require.NotEmpty(t, dig(got, "wrap.token"))
}

// bothAreOne: convergent encryption gives the same twice.
func bothAreOne(t *testing.T, _ servers, kept obj) {
	t.Helper()
	require.Equal(t, kept["<once>"], kept["<again>"])
}

// vaultDecrypts opens what we have made without us.
func vaultDecrypts(t *testing.T, beside servers, kept obj) {
	t.Helper()
	var answer struct{ Data struct{ Plaintext []byte } }
	require.NoError(t, beside.vault.Request(t.Context(), "POST", "transit/decrypt/dev", obj{"ciphertext": kept["<renewed>"]}, &answer))
	require.Equal(t, "gr\u00fc\u00df\nGott", string(answer.Data.Plaintext))
}

// goVerifiesPlan holds the signature against the public key.
func goVerifiesPlan(t *testing.T, beside servers, kept obj) {
	t.Helper()
	require.True(t, goVerifies(t, beside.vault, "dev--sign", "plan", kept["<signature>"].(string)))
}

// goVerifies reports whether Go's crypto takes a signature by the first version
// of an ECDSA key for one of the input.
func goVerifies(t *testing.T, v *devstack.Vault, key, input, signature string) bool {
	t.Helper()
	var answer struct {
		Data struct {
			Keys map[string]struct {
				Public string `json:"public_key"`
			}
		}
	}
	require.NoError(t, v.Request(t.Context(), "GET", "transit/keys/"+key, nil, &answer))
	block, _ := pem.Decode([]byte(answer.Data.Keys["1"].Public))
	require.NotNil(t, block)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	der, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "vault:v1:"))
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(input))
	return ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), sum[:], der)
}

func TestTransitStory(t *testing.T) {
	for _, s := range surfaces() {
		t.Run(s.name, func(t *testing.T) {
			v := devstacktest.Fresh(t, devstacktest.Options{})
			seedTransit(t, v)
			s.open(t, v, devKey).tell(t, servers{vault: v}, transitStory)
			require.Error(t, v.Request(t.Context(), "GET", "transit/keys/dev--none", nil, nil), "a key was made")
		})
	}
}
