package main_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

// kmsOn are the settings of a server that uses a KMS, all of whose keys but
// AliasRSAEncrypt are granted.
func kmsOn(t testing.TB, k *devstack.KMS) []string {
	t.Helper()
	grants, err := json.Marshal(obj{"kms": []string{
		devstack.AliasDemo, devstack.AliasOther, devstack.AliasRSA, devstack.AliasECC, kmsNone,
	}})
	require.NoError(t, err)
	return []string{
		"AWS_KMS_ENABLED=true", "AWS_KMS_ENDPOINT=" + k.Endpoint, "AWS_REGION=" + devstack.KMSRegion,
		"AWS_ACCESS_KEY_ID=AKIDTEST", "AWS_SECRET_ACCESS_KEY=test-secret", "AWS_KMS_DEFAULT_KEY_ID=" + devstack.AliasDemo,
		"GRANTS=" + string(grants),
	}
}

// kmsNone is granted, and not there.
const kmsNone = "alias/demo-none"

// kmsArgs are arguments for a key of the demo; without a name, the default key.
func kmsArgs(alias string, pairs ...any) obj {
	if alias == "" {
		return with(obj{}, pairs...)
	}
	return with(obj{"key_id": alias}, pairs...)
}

func kmsPlan(alias, algorithm, kind, message string, more ...any) obj {
	return kmsArgs(alias, append([]any{"signing_algorithm", algorithm, "message_type", kind, "message", message}, more...)...)
}

var (
	kmsApp     = obj{"app": "web", "tier": "1"}
	planBase64 = base64.StdEncoding.EncodeToString([]byte("plan"))
	planDigest = func() string {
		sum := sha256.Sum256([]byte("plan"))
		return base64.StdEncoding.EncodeToString(sum[:])
	}()
	kmsTooLong = base64.StdEncoding.EncodeToString(make([]byte, 4097))
	kmsLongest = base64.StdEncoding.EncodeToString(make([]byte, 4096))
)

// kmsStory is what a user does with keys of AWS KMS, through every surface.
var kmsStory = []keptStep{
	{step: step{about: "encrypt", tool: "kms.encrypt", args: kmsArgs(devstack.AliasDemo, "plaintext", "grüß\nGott", "encoding", "utf8", "encryption_context", kmsApp)}, key: devstack.AliasDemo, keep: map[string]string{"sealed": "ciphertext"}},
	{step: step{about: "decrypt", tool: "kms.decrypt", args: kmsArgs(devstack.AliasDemo, "ciphertext", "<sealed>", "encoding", "utf8", "encryption_context", kmsApp), want: has("plaintext", "grüß\nGott")}, key: devstack.AliasDemo},
	{step: step{about: "decrypt to base64, by the default key", tool: "kms_decrypt", args: kmsArgs("", "ciphertext", "<sealed>", "encryption_context", kmsApp), want: has("plaintext", base64.StdEncoding.EncodeToString([]byte("grüß\nGott")))}, key: devstack.AliasDemo},
	{step: step{about: "decrypt with another context", tool: "kms.decrypt", args: kmsArgs("", "ciphertext", "<sealed>", "encryption_context", obj{"app": "web", "tier": "2"}), code: "invalid", want: has("details.field", "/ciphertext")}},
	{step: step{about: "decrypt with less of it", tool: "kms.decrypt", args: kmsArgs("", "ciphertext", "<sealed>", "encryption_context", obj{"app": "web"}), code: "invalid", want: has("details.field", "/ciphertext")}},
	{step: step{about: "decrypt without it", tool: "kms.decrypt", args: kmsArgs("", "ciphertext", "<sealed>"), code: "invalid", want: has("details.field", "/ciphertext")}},
	{step: step{about: "decrypt with another key", tool: "kms.decrypt", args: kmsArgs(devstack.AliasOther, "ciphertext", "<sealed>", "encryption_context", kmsApp), code: "invalid", want: has("details.field", "/ciphertext")}},
	{step: step{about: "decrypt for another", tool: "kms.decrypt", args: kmsArgs("", "ciphertext", "<sealed>", "encryption_context", kmsApp, "wrap_ttl", "60s")}, key: devstack.AliasDemo, after: unwraps("grüß\nGott")},
	{step: step{about: "bytes that are no text", tool: "kms.encrypt", args: kmsArgs("", "plaintext", "/w==")}, key: devstack.AliasDemo, keep: map[string]string{"bytes": "ciphertext"}},
	{step: step{about: "are not given as text", tool: "kms.decrypt", args: kmsArgs("", "ciphertext", "<bytes>", "encoding", "utf8"), code: "invalid", want: has("details.field", "/encoding")}},

	{step: step{about: "a data key", tool: "kms.generate_data_key", args: kmsArgs("", "encryption_context", kmsApp), want: ofBytes(32)}, key: devstack.AliasDemo, keep: map[string]string{"data key": "plaintext", "sealed key": "ciphertext"}},
	{step: step{about: "opens again", tool: "kms.decrypt", args: kmsArgs("", "ciphertext", "<sealed key>", "encryption_context", kmsApp), want: ofBytes(32)}, key: devstack.AliasDemo, keep: map[string]string{"opened key": "plaintext"}},
	{step: step{about: "a data key of another length", tool: "kms.generate_data_key", args: kmsArgs("", "number_of_bytes", 7), want: ofBytes(7)}, key: devstack.AliasDemo},
	{step: step{about: "a data key for later", tool: "kms.generate_data_key", args: kmsArgs("", "key_spec", "AES_128", "without_plaintext", true), want: lacks("plaintext", "wrap")}, key: devstack.AliasDemo, keep: map[string]string{"later": "ciphertext"}},
	{step: step{about: "is there when it is needed", tool: "kms.decrypt", args: kmsArgs("", "ciphertext", "<later>"), want: ofBytes(16)}, key: devstack.AliasDemo},
	{step: step{about: "a data key for another", tool: "kms.generate_data_key", args: kmsArgs("", "wrap_ttl", "60s"), want: lacks("plaintext")}, key: devstack.AliasDemo, keep: map[string]string{"wrapped": "ciphertext"}, after: unwraps("")},
	{step: step{about: "nothing to wrap", tool: "kms.generate_data_key", args: kmsArgs("", "without_plaintext", true, "wrap_ttl", "60s"), code: "invalid", want: has("details.field", "/wrap_ttl")}},
	{step: step{about: "a data key of a key that signs", tool: "kms.generate_data_key", args: kmsArgs(devstack.AliasECC), code: "invalid", want: has("details.field", "/key_id")}},

	{step: step{about: "sign", tool: "kms.sign", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "RAW", planBase64), want: has("signing_algorithm", "ECDSA_SHA_256", "message_type", "RAW")}, key: devstack.AliasECC, keep: map[string]string{"raw": "signature"}, after: goVerifiesKMS},
	{step: step{about: "verify", tool: "kms.verify", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "RAW", planBase64, "signature", "<raw>"), want: has("valid", true, "signing_algorithm", "ECDSA_SHA_256", "message_type", "RAW")}, key: devstack.AliasECC},
	{step: step{about: "verify by the digest", tool: "kms.verify", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "DIGEST", planDigest, "signature", "<raw>"), want: has("valid", true, "message_type", "DIGEST")}, key: devstack.AliasECC},
	{step: step{about: "sign a digest", tool: "kms.sign", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "DIGEST", planDigest), want: has("message_type", "DIGEST")}, key: devstack.AliasECC, keep: map[string]string{"digest": "signature"}, after: goVerifiesKMS},
	{step: step{about: "verify it by the message", tool: "kms.verify", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "RAW", planBase64, "signature", "<digest>"), want: has("valid", true)}, key: devstack.AliasECC},
	{step: step{about: "a digest that is taken for a message is an answer", tool: "kms.verify", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "RAW", planDigest, "signature", "<digest>"), want: has("valid", false)}},
	{step: step{about: "another message is an answer", tool: "kms.verify", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "RAW", "cGxvdA==", "signature", "<raw>"), want: has("valid", false)}},
	{step: step{about: "sign with RSA", tool: "kms.sign", args: kmsPlan(devstack.AliasRSA, "RSASSA_PSS_SHA_256", "RAW", planBase64)}, key: devstack.AliasRSA, keep: map[string]string{"pss": "signature"}},
	{step: step{about: "another padding is an answer", tool: "kms.verify", args: kmsPlan(devstack.AliasRSA, "RSASSA_PKCS1_V1_5_SHA_256", "RAW", planBase64, "signature", "<pss>"), want: has("valid", false)}},
	{step: step{about: "a digest of the wrong length", tool: "kms.sign", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "DIGEST", planBase64), code: "invalid", want: names("/message", "32 bytes")}},
	{step: step{about: "an algorithm of another key's", tool: "kms.sign", args: kmsPlan(devstack.AliasECC, "RSASSA_PSS_SHA_256", "RAW", planBase64), code: "invalid"}},
	{step: step{about: "sign with a key for encryption", tool: "kms.sign", args: kmsPlan(devstack.AliasDemo, "ECDSA_SHA_256", "RAW", planBase64), code: "invalid", want: has("details.field", "/key_id")}},
	{step: step{about: "encrypt with a key that signs", tool: "kms.encrypt", args: kmsArgs(devstack.AliasECC, "plaintext", "YQ=="), code: "invalid", want: has("details.field", "/key_id")}},

	{step: step{about: "a key without a grant", tool: "kms.encrypt", args: kmsArgs(devstack.AliasRSAEncrypt, "plaintext", "YQ=="), code: "forbidden", want: has("details.field", "/key_id")}},
	{step: step{about: "decrypt with it", tool: "kms.decrypt", args: kmsArgs(devstack.AliasRSAEncrypt, "ciphertext", "<sealed>"), code: "forbidden", want: has("details.field", "/key_id")}},
	{step: step{about: "a key that is not there", tool: "kms.encrypt", args: kmsArgs(kmsNone, "plaintext", "YQ=="), code: "not_found"}},
	{step: step{about: "a key of AWS's own", tool: "kms.encrypt", args: kmsArgs("alias/aws/s3", "plaintext", "YQ=="), code: "invalid", want: has("details.field", "/key_id")}},
	{step: step{about: "a key's name that leaves the keys", tool: "kms.encrypt", args: kmsArgs("../creds/admin", "plaintext", "YQ=="), code: "invalid", want: has("details.field", "/key_id")}},
	{step: step{about: "as much as goes", tool: "kms.encrypt", args: kmsArgs("", "plaintext", kmsLongest)}, key: devstack.AliasDemo},
	{step: step{about: "one byte more", tool: "kms.encrypt", args: kmsArgs("", "plaintext", kmsTooLong), code: "invalid", want: names("/plaintext", "4096 bytes")}},
	{step: step{about: "a message of one byte more", tool: "kms.sign", args: kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "RAW", kmsTooLong), code: "invalid", want: names("/message", "4096 bytes")}},
	{step: step{about: "nothing", tool: "kms.encrypt", args: kmsArgs("", "plaintext", ""), code: "invalid", want: has("details.field", "/plaintext")}},
	{step: step{about: "base64 of the URL alphabet", tool: "kms.encrypt", args: kmsArgs("", "plaintext", "-_-_"), code: "invalid", want: has("details.field", "/plaintext")}},
	{step: step{about: "a context of AWS's own", tool: "kms.encrypt", args: kmsArgs("", "plaintext", "YQ==", "encryption_context", obj{"aws:x": "y"}), code: "invalid", want: has("details.field", "/encryption_context")}},
	{step: step{about: "a missing argument", tool: "kms.encrypt", args: kmsArgs(""), code: "invalid", want: has("details.field", "/plaintext")}},
	{step: step{about: "an unknown argument", tool: "kms.encrypt", args: kmsArgs("", "plaintext", "YQ==", "region", "us-east-1"), code: "invalid"}},
}

// names expects a refusal that names the argument and the limit.
func names(field, limit string) func(*testing.T, obj) {
	return func(t *testing.T, got obj) {
		t.Helper()
		has("details.field", field)(t, got)
		require.Contains(t, got["message"], limit)
	}
}

// lacks expects that there are no such members.
func lacks(members ...string) func(*testing.T, obj) {
	return func(t *testing.T, got obj) {
		t.Helper()
		for _, member := range members {
			require.NotContains(t, got, member)
		}
	}
}

// ofBytes expects a plaintext of that many bytes.
func ofBytes(n int) func(*testing.T, obj) {
	return func(t *testing.T, got obj) {
		t.Helper()
		raw, err := base64.StdEncoding.DecodeString(got["plaintext"].(string))
		require.NoError(t, err)
		require.Len(t, raw, n)
	}
}

// unwraps takes the answer's token to Vault, once: it holds the plaintext and
// nothing else. A data key, for which want is empty, is what its ciphertext is.
func unwraps(want string) func(*testing.T, servers, obj) {
	return func(t *testing.T, beside servers, got obj) {
		t.Helper()
		lacks("plaintext")(t, got)
		token := obj{"token": dig(got, "wrap.token")}
		var inside struct{ Data map[string][]byte }
		require.NoError(t, beside.vault.Request(t.Context(), "POST", "sys/wrapping/unwrap", token, &inside))
		plain := []byte(want)
		if want == "" {
			var opened struct{ Plaintext []byte }
			body := obj{"KeyId": devstack.AliasDemo, "CiphertextBlob": got["ciphertext"]}
			require.NoError(t, beside.kms.Request(t.Context(), "Decrypt", body, &opened))
			require.Len(t, opened.Plaintext, 32)
			plain = opened.Plaintext
		}
		require.Equal(t, map[string][]byte{"plaintext": plain}, inside.Data)
		require.Error(t, beside.vault.Request(t.Context(), "POST", "sys/wrapping/unwrap", token, nil), "it was opened twice")
	}
}

// goVerifiesKMS holds the signature against the public key with Go's crypto.
func goVerifiesKMS(t *testing.T, beside servers, got obj) {
	t.Helper()
	var answer struct{ PublicKey []byte }
	require.NoError(t, beside.kms.Request(t.Context(), "GetPublicKey", obj{"KeyId": devstack.AliasECC}, &answer))
	public, err := x509.ParsePKIXPublicKey(answer.PublicKey)
	require.NoError(t, err)
	signature, err := base64.StdEncoding.DecodeString(got["signature"].(string))
	require.NoError(t, err)
	sum := sha256.Sum256([]byte("plan"))
	require.True(t, ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), sum[:], signature))
}

func TestKMSStory(t *testing.T) {
	v, k := devstacktest.Shared(t), devstacktest.KMS(t)
	for _, s := range surfaces() {
		t.Run(s.name, func(t *testing.T) {
			kept := s.open(t, v, devKey, kmsOn(t, k)...).tell(t, servers{v, k}, kmsStory)
			require.Equal(t, kept["<data key>"], kept["<opened key>"])
		})
	}
}

// Without AWS KMS its tools are hidden, and refused as unavailable where they are
// called all the same; with it they are shown.
func TestKMSIsOff(t *testing.T) {
	v, k := devstacktest.Shared(t), devstacktest.KMS(t)
	kmsTools := []string{"encrypt", "decrypt", "generate_data_key", "sign", "verify"}
	for on, more := range map[bool][]string{false: nil, true: kmsOn(t, k)} {
		for surface, call := range rawSurfaces(t, settings(t, v, more...), devKey) {
			meta := ""
			if surface == "modern" {
				meta = strings.TrimSuffix(modernMeta, ",")
			}
			list := call(t, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+meta+`}}`)
			require.Regexp(t, `"name":"transit[._]encrypt"`, list, surface)
			for _, name := range kmsTools {
				shown := fmt.Sprintf(`"name":"kms[._]%s"`, name)
				if on {
					require.Regexp(t, shown, list, surface)
					continue
				}
				require.NotRegexp(t, shown, list, surface)
				for _, args := range []string{`{}`, `{"plaintext":"YQ==","key_id":"alias/dev"}`} {
					got := judge(t, call(t, toolCall(quote("kms."+name), args)))
					require.Equal(t, "unavailable", got.code, "%s kms.%s %s", surface, name, args)
				}
			}
		}
	}
}
