package tools_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha3"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	stdhash "hash"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/fault"
)

// hashes by Vault's names; and OpenSSL's, by which its command knows them.
var hashes = map[string]struct {
	hash    crypto.Hash
	openssl string
}{
	"sha2-224": {crypto.SHA224, "sha224"}, "sha2-256": {crypto.SHA256, "sha256"},
	"sha2-384": {crypto.SHA384, "sha384"}, "sha2-512": {crypto.SHA512, "sha512"},
	"sha3-224": {crypto.SHA3_224, "sha3-224"}, "sha3-256": {crypto.SHA3_256, "sha3-256"},
	"sha3-384": {crypto.SHA3_384, "sha3-384"}, "sha3-512": {crypto.SHA3_512, "sha3-512"},
}

func digest(name string, message []byte) []byte {
	var h stdhash.Hash
	switch name {
	case "sha3-224":
		h = sha3.New224()
	case "sha3-256":
		h = sha3.New256()
	case "sha3-384":
		h = sha3.New384()
	case "sha3-512":
		h = sha3.New512()
	default:
		h = hashes[name].hash.New()
	}
	h.Write(message)
	return h.Sum(nil)
}

// publicKey is a key's newest public part, as Vault gives it.
func (r *transitRig) publicKey(key string) (any, []byte) {
	r.t.Helper()
	var answer struct {
		Data struct {
			Type   string `json:"type"`
			Latest int    `json:"latest_version"`
			Keys   map[string]struct {
				Public string `json:"public_key"`
			} `json:"keys"`
		} `json:"data"`
	}
	require.NoError(r.t, r.v.Request(r.t.Context(), "GET", "transit/keys/"+key, nil, &answer))
	text := answer.Data.Keys["1"].Public
	if answer.Data.Type == "ed25519" {
		raw, err := base64.StdEncoding.DecodeString(text)
		require.NoError(r.t, err)
		der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(raw))
		require.NoError(r.t, err)
		return ed25519.PublicKey(raw), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	block, _ := pem.Decode([]byte(text))
	require.NotNil(r.t, block)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(r.t, err)
	return public, []byte(text)
}

// way is one way to sign, by the arguments that say so.
type way struct{ hash, scheme, marshaling string }

func (w way) args(prehashed bool) obj {
	return obj{"hash_algorithm": w.hash, "signature_algorithm": w.scheme, "marshaling_algorithm": w.marshaling, "prehashed": prehashed}
}

// raw is what other software takes of a signature.
func raw(t testing.TB, signature any, marshaling string) []byte {
	t.Helper()
	text, ok := strings.CutPrefix(signature.(string), "vault:v1:")
	require.True(t, ok)
	enc := base64.StdEncoding
	if marshaling == "jws" {
		enc = base64.RawURLEncoding
	}
	b, err := enc.DecodeString(text)
	require.NoError(t, err)
	return b
}

// goVerifies asks Go's own crypto.
func goVerifies(t testing.TB, public any, w way, message, signature []byte) bool {
	t.Helper()
	switch key := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, signature)
	case *ecdsa.PublicKey:
		sum := digest(w.hash, message)
		if w.marshaling == "asn1" {
			return ecdsa.VerifyASN1(key, sum, signature)
		}
		size := (key.Params().BitSize + 7) / 8
		require.Len(t, signature, 2*size, "r and s side by side")
		return ecdsa.Verify(key, sum, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	case *rsa.PublicKey:
		sum, h := digest(w.hash, message), hashes[w.hash].hash
		if w.scheme == "pss" {
			return rsa.VerifyPSS(key, h, sum, signature, nil) == nil
		}
		return rsa.VerifyPKCS1v15(key, h, sum, signature) == nil
	}
	t.Fatalf("a key of type %T", public)
	return false
}

// opensslVerifies asks the openssl command.
func opensslVerifies(t testing.TB, public any, publicPEM []byte, w way, message, signature []byte) bool {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		return path
	}
	args := []string{"pkeyutl", "-verify", "-pubin", "-inkey", file("key.pem", publicPEM)}
	switch key := public.(type) {
	case ed25519.PublicKey:
		args = append(args, "-rawin")
	case *ecdsa.PublicKey:
		message = digest(w.hash, message)
		if w.marshaling == "jws" { // OpenSSL takes ASN.1 alone
			size := (key.Params().BitSize + 7) / 8
			var err error
			signature, err = asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])})
			require.NoError(t, err)
		}
	case *rsa.PublicKey:
		message = digest(w.hash, message)
		args = append(args, "-pkeyopt", "digest:"+hashes[w.hash].openssl)
		if w.scheme == "pss" {
			args = append(args, "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:auto")
		} else {
			args = append(args, "-pkeyopt", "rsa_padding_mode:pkcs1")
		}
	}
	args = append(args, "-in", file("message", message), "-sigfile", file("signature", signature))
	out, err := exec.Command("openssl", args...).CombinedOutput() //nolint:gosec // the test's own arguments
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.Equal(t, err == nil, strings.Contains(string(out), "Signature Verified Successfully"), "%s", out)
	return err == nil
}

// ways are all that mean something for a type of key.
func ways(keyType string) (all []way) {
	if keyType == "ed25519" {
		return []way{{"sha2-256", "pss", "asn1"}, {"sha2-384", "pkcs1v15", "jws"}}
	}
	for h := range hashes {
		for _, marshaling := range []string{"asn1", "jws"} {
			all = append(all, way{h, "pss", marshaling})
			if strings.HasPrefix(keyType, "rsa") {
				all = append(all, way{h, "pkcs1v15", marshaling})
			}
		}
	}
	return all
}

// Signatures of every type of key, hash, scheme and marshaling are what Go and
// OpenSSL take for signatures of this kind, and are verified by us; a hash that
// is given is signed as if we had made it.
func TestTransitSignaturesAreSignatures(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		devstacktest.Cannot(t, "the openssl command is missing; install the package openssl")
	}
	r := newTransitRig(t, "sign")
	message := []byte("to be signed\x00\xff")
	for _, keyType := range []string{"ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-4096"} {
		key := r.key(keyType, obj{"type": keyType})
		public, publicPEM := r.publicKey(key)
		for _, w := range ways(keyType) {
			for _, prehashed := range []bool{false, true} {
				if prehashed && keyType == "ed25519" {
					continue
				}
				about := keyType + " " + w.hash + " " + w.scheme + " " + w.marshaling
				given := message
				if prehashed {
					given = digest(w.hash, message)
				}
				args := and(w.args(prehashed), "key", key, "input", base64.StdEncoding.EncodeToString(given))
				signed := r.ok("sign", args)
				require.InDelta(t, 1, signed["key_version"], 0)
				for name, used := range w.args(prehashed) {
					require.Equal(t, used, signed[name], about)
				}
				signature := raw(t, signed["signature"], w.marshaling)
				require.True(t, goVerifies(t, public, w, message, signature), about)
				if !prehashed { // a process each; what is prehashed is the same signature
					require.True(t, opensslVerifies(t, public, publicPEM, w, message, signature), about)
				}
				require.Equal(t, and(w.args(prehashed), "valid", true), r.ok("verify", and(args, "signature", signed["signature"])), about)

				signature[len(signature)-1] ^= 1
				require.False(t, goVerifies(t, public, w, message, signature), about)
			}
		}
		require.False(t, opensslVerifies(t, public, publicPEM, ways(keyType)[0], message, make([]byte, 64)), keyType)
	}
}

// Hash none signs what it is given: a whole DigestInfo of RSA, or nothing but
// the hash of ECDSA.
func TestTransitSignsWithoutHash(t *testing.T) {
	r := newTransitRig(t, "none")
	rsaKey, ecKey := r.key("rsa", obj{"type": "rsa-2048"}), r.key("ec", obj{"type": "ecdsa-p256"})
	none := way{"none", "pkcs1v15", "asn1"}.args(true)
	for _, n := range []int{1, 32, 51, 245} {
		input := strings.Repeat("x", n)
		signed := r.ok("sign", and(none, "key", rsaKey, "input", b64(input)))
		public, _ := r.publicKey(rsaKey)
		require.NoError(t, rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), 0, []byte(input), raw(t, signed["signature"], "asn1")))
		require.Equal(t, true, r.ok("verify", and(none, "key", rsaKey, "input", b64(input), "signature", signed["signature"]))["valid"])
	}
	require.Equal(t, "/input: is longer than an RSA key of this size signs",
		r.refused("sign", and(none, "key", rsaKey, "input", b64(strings.Repeat("x", 246)))).Msg)
	signed := r.ok("sign", and(none, "key", ecKey, "input", b64(strings.Repeat("y", 32))))
	public, _ := r.publicKey(ecKey)
	require.True(t, ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), []byte(strings.Repeat("y", 32)), raw(t, signed["signature"], "asn1")))
}

// What a signature does not fit is false, and what is none is false too; only
// what cannot be judged is an error.
func TestTransitVerifySaysFalse(t *testing.T) {
	r := newTransitRig(t, "false")
	for _, keyType := range []string{"ed25519", "ecdsa-p256", "rsa-2048"} {
		key, other := r.key(keyType, obj{"type": keyType}), r.key(keyType+"-other", obj{"type": keyType})
		good := obj{"key": key, "input": "hello", "encoding": "utf8"}
		signature := r.ok("sign", good)["signature"].(string)
		good = and(good, "signature", signature)
		require.Equal(t, true, r.ok("verify", good)["valid"])
		require.Equal(t, true, r.ok("verify", and(good, "encoding", "base64", "input", b64("hello")))["valid"])
		rows := map[string]obj{
			"another input":     and(good, "input", "hellp"),
			"empty input":       and(good, "input", ""),
			"another key":       and(good, "key", other),
			"another's":         and(good, "signature", r.ok("sign", obj{"key": other, "input": b64("hello")})["signature"]),
			"altered":           and(good, "signature", flipped(signature)),
			"no prefix":         and(good, "signature", "hello"),
			"no version":        and(good, "signature", "vault:v1"),
			"no number":         and(good, "signature", "vault:vx:AAAA"),
			"a number too long": and(good, "signature", "vault:v99999999999999999999:AAAA"),
			"version to come":   and(good, "signature", strings.Replace(signature, ":v1:", ":v2:", 1)),
			"nothing":           and(good, "signature", "vault:v1:"),
			"no signature":      and(good, "signature", "vault:v1:AAAA"),
			"URL alphabet":      and(good, "signature", "vault:v1:-_-_"),
			"no padding":        and(good, "signature", "vault:v1:AA"),
			"a ciphertext":      and(good, "signature", "vault:v1:"+b64(strings.Repeat("z", 64))),
			"more at its end":   and(good, "signature", "vault:v1:"+b64(string(raw(t, signature, "asn1"))+"x")),
			"the other form":    and(good, "marshaling_algorithm", "jws"),
		}
		if keyType == "rsa-2048" {
			rows["another hash"] = and(good, "hash_algorithm", "sha2-384")
			rows["another scheme"] = and(good, "signature_algorithm", "pkcs1v15")
			// The hash as if it were the message.
			rows["hashed twice"] = and(good, "encoding", "base64", "input", b64(string(digest("sha2-256", []byte("hello")))))
		}
		for about, args := range rows {
			require.Equal(t, false, r.ok("verify", args)["valid"], "%s %s", keyType, about)
		}
		f := r.refused("verify", and(good, "signature", "vault:v0:AAAA"))
		require.Equal(t, fault.Invalid, f.Kind, "of a version that may have been: not judged")
		for _, spaced := range []string{signature + "\n", " " + signature, signature[:20] + " " + signature[20:], "vault:v1:\u00e9", "\x00"} {
			f := r.refused("verify", and(good, "signature", spaced))
			require.Contains(t, f.Msg, "/signature: does not have the form")
		}

		// A version that signed, and is not accepted any more, is not judged either.
		require.NoError(t, r.v.Request(t.Context(), "POST", "transit/keys/"+key+"/rotate", nil, nil))
		require.NoError(t, r.v.Request(t.Context(), "POST", "transit/keys/"+key+"/config", obj{"min_decryption_version": 2, "min_encryption_version": 2}, nil))
		require.Equal(t, "it was made by a version of the key that is not accepted any more", r.refused("verify", good).Msg)
		second := r.ok("sign", obj{"key": key, "input": ""})
		require.InDelta(t, 2, second["key_version"], 0)
		require.True(t, strings.HasPrefix(second["signature"].(string), "vault:v2:"))
		require.Equal(t, "/key_version: is higher than the key's newest version", r.refused("sign", obj{"key": key, "input": "", "key_version": 3}).Msg)
		require.Equal(t, "/key_version: is lower than the oldest version that may encrypt or sign", r.refused("sign", obj{"key": key, "input": "", "key_version": 1}).Msg)
	}
}

func TestTransitSignRefuses(t *testing.T) {
	r := newTransitRig(t, "nosign")
	aes, ed, derived := r.key("aes", obj{}), r.key("ed", obj{"type": "ed25519"}), r.key("d", obj{"type": "ed25519", "derived": true})
	for _, tool := range []string{"sign", "verify"} {
		refused := func(args obj) *fault.Error {
			if tool == "verify" {
				args = and(args, "signature", "vault:v1:AAAA")
			}
			f := r.refused(tool, args)
			require.Equal(t, fault.Invalid, f.Kind)
			return f
		}
		require.Equal(t, "/key: cannot sign or verify: it is of a type for encryption only", refused(obj{"key": aes, "input": ""}).Msg)
		require.Contains(t, refused(obj{"key": derived, "input": ""}).Msg, "/key: is a derived key")
		require.Contains(t, refused(obj{"key": ed, "input": "", "hash_algorithm": "sha2-512"}).Msg, "an ed25519 key hashes in its own way")
		require.Contains(t, refused(obj{"key": ed, "input": b64(strings.Repeat("x", 32)), "prehashed": true}).Msg, "an ed25519 key hashes in its own way")
	}
}

// What we refuse before Vault is asked.
func TestTransitChecksBeforeItAsks(t *testing.T) {
	vault := newFakeVault(t, answerJSON(`{}`))
	r := &transitRig{newRig(t, rigOptions{addr: vault.URL}), nil, principal("dev")}
	sign := obj{"key": "dev", "input": b64(strings.Repeat("x", 32))}
	none := and(sign, "hash_algorithm", "none", "prehashed", true, "signature_algorithm", "pkcs1v15")
	seal := obj{"key": "dev", "plaintext": "YQ=="}
	const base64Wanted = "must be base64: the standard alphabet, with padding, without spaces or line ends"
	rows := []struct {
		tool string
		args obj
		want string
	}{
		{"sign", and(sign, "hash_algorithm", "md5"), "/hash_algorithm: must be one of sha2-256"},
		{"sign", and(sign, "hash_algorithm", "sha1"), "/hash_algorithm: must be one of sha2-256"},
		{"sign", and(sign, "hash_algorithm", "SHA2-256"), "/hash_algorithm: must be one of sha2-256"},
		{"sign", and(sign, "hash_algorithm", "none"), "/hash_algorithm: none needs prehashed true"},
		{"sign", and(none, "prehashed", false), "/hash_algorithm: none needs prehashed true"},
		{"sign", and(none, "signature_algorithm", "pss"), "/hash_algorithm: none needs prehashed true"},
		{"sign", and(none, "input", ""), "/input: must be of 1 to 501 bytes"},
		{"sign", and(none, "input", b64(strings.Repeat("x", 502))), "/input: must be of 1 to 501 bytes"},
		{"sign", and(sign, "signature_algorithm", "pkcs1"), "/signature_algorithm: must be one of pss, pkcs1v15"},
		{"sign", and(sign, "marshaling_algorithm", "der"), "/marshaling_algorithm: must be one of asn1, jws"},
		{"sign", and(sign, "prehashed", "true"), "/prehashed: must be of type boolean"},
		{"sign", and(sign, "key_version", -1), "/key_version: must be at least 0"},
		{"sign", and(sign, "key_version", 1<<31), "/key_version: must be at most 2147483647"},
		{"sign", and(sign, "encoding", "hex"), "/encoding: must be one of base64, utf8"},
		{"encrypt", and(seal, "key_version", 1.5), "/key_version: must be of type integer"},
		{"encrypt", and(seal, "context", ""), "/context: must have at least 1 characters"},
		{"encrypt", and(seal, "context", b64(strings.Repeat("x", 4097))), "/context: must be at most 4096 bytes"},
		{"encrypt", and(seal, "associated_data", b64(strings.Repeat("x", 65537))), "/associated_data: must be at most 65536 bytes"},
		{"encrypt", and(seal, "encoding", "utf8", "context", "no base64"), "/context: " + base64Wanted},
		{"encrypt", and(seal, "plaintext", 5), "/plaintext: must be of type string"},
		{"random", obj{"bytes": 0}, "/bytes: must be at least 1"},
		{"random", obj{"bytes": -1}, "/bytes: must be at least 1"},
		{"random", obj{"bytes": 1025}, "/bytes: must be at most 1024"},
		{"random", obj{"bytes": "32"}, "/bytes: must be of type integer"},
		{"random", obj{"format": "raw"}, "/format: must be one of base64, hex"},
	}
	for h, length := range map[string]int{"sha2-224": 28, "sha2-256": 32, "sha2-384": 48, "sha2-512": 64, "sha3-224": 28, "sha3-256": 32, "sha3-384": 48, "sha3-512": 64} {
		for _, n := range []int{0, length - 1, length + 1, 2 * length} {
			for _, tool := range []string{"sign", "verify"} {
				args := and(sign, "hash_algorithm", h, "prehashed", true, "input", b64(strings.Repeat("x", n)))
				if tool == "verify" {
					args["signature"] = "vault:v1:AAAA"
				}
				rows = append(rows, struct {
					tool string
					args obj
					want string
				}{tool, args, "/input: must be a hash of exactly"})
			}
		}
	}
	for _, bad := range []string{"YQ", "YQ=", "YQ==\n", "Y Q==", " YQ==", "YQ== ", "-_-_", "YR==", "YQ===", "YQ==YQ==", "Y\u0051==\u00e9", "Y\r\nQ==", canary + "=", "=", "data:;base64,YQ=="} {
		for argument, args := range map[string]obj{"plaintext": seal, "context": seal, "associated_data": seal, "input": sign} {
			tool := "encrypt"
			if argument == "input" {
				tool = "sign"
			}
			rows = append(rows, struct {
				tool string
				args obj
				want string
			}{tool, and(args, argument, bad), "/" + argument + ": " + base64Wanted})
		}
	}
	for _, row := range rows {
		f := r.refused(row.tool, row.args)
		require.Equal(t, fault.Invalid, f.Kind)
		require.Contains(t, f.Msg, row.want)
		pointer, _, _ := strings.Cut(row.want, ":")
		require.Equal(t, pointer, f.Details["field"])
	}
	require.Empty(t, vault.seen())
	for _, rec := range r.records() {
		require.Equal(t, "outcome", string(rec.Kind), "nothing was attempted")
	}
	require.NotContains(t, r.everywhere(), canary)
}
