package main_test

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
)

// succeeds makes a call that must succeed, and returns its result and all that
// came back.
func succeeds(t *testing.T, call rawCall, tool string, args obj) (result obj, answer string) {
	t.Helper()
	text, err := json.Marshal(args)
	require.NoError(t, err)
	answer = call(t, toolCall(quote(tool), string(text)))
	got := judge(t, answer)
	require.Equal(t, "ok", got.code, answer)
	require.NoError(t, json.Unmarshal(got.content, &result))
	return result, answer
}

// textsAt are texts of results.
func textsAt(t *testing.T, values ...any) []string {
	t.Helper()
	texts := make([]string, len(values))
	for i, value := range values {
		require.NotEmpty(t, value)
		texts[i] = value.(string)
	}
	return texts
}

// issuedBySSH are secrets that Vault makes when it is asked: a password, and the
// token that another is wrapped in. They stand in the answers alone. The key
// that is signed has the mark in its comment, which goes nowhere.
func issuedBySSH(t *testing.T, call rawCall) []string {
	t.Helper()
	text := func(args obj, tool, path string) string {
		result, _ := succeeds(t, call, tool, args)
		return textsAt(t, dig(result, path))[0]
	}
	requireNoMark(t, text(obj{"role": "dev", "public_key": sshKey + " " + canary}, "ssh.sign", "certificate"), "a certificate")
	return []string{
		text(obj{"role": "dev--otp", "ip": "192.0.2.7"}, "ssh.otp", "otp"),
		text(obj{"role": "dev--otp", "ip": "192.0.2.7", "wrap_ttl": "60s"}, "ssh.otp", "wrap.token"),
	}
}

// issuedByTransit sends the mark through keys, where it comes back in nothing
// but what was decrypted, and returns random bytes and a wrapping token, which
// stand in the answers alone.
func issuedByTransit(t *testing.T, call rawCall) []string {
	t.Helper()
	mark := base64.StdEncoding.EncodeToString([]byte(canary))
	aside := func(more ...any) obj {
		o := obj{"key": "dev--tenants", "context": mark, "associated_data": mark}
		for i := 0; i < len(more); i += 2 {
			o[more[i].(string)] = more[i+1]
		}
		return o
	}
	sealed, answer := succeeds(t, call, "transit.encrypt", aside("plaintext", canary, "encoding", "utf8"))
	requireNoMark(t, answer, "the answer to transit.encrypt")
	_, answer = succeeds(t, call, "transit.decrypt", aside("ciphertext", sealed["ciphertext"]))
	require.Contains(t, answer, mark, "the one place where it may stand")
	wrapped, answer := succeeds(t, call, "transit.decrypt", aside("ciphertext", sealed["ciphertext"], "wrap_ttl", "60s"))
	requireNoMark(t, answer, "a wrapped answer")
	signed, answer := succeeds(t, call, "transit.sign", obj{"key": "dev--sign", "input": mark})
	requireNoMark(t, answer, "the answer to transit.sign")
	_, answer = succeeds(t, call, "transit.verify", obj{"key": "dev--sign", "input": mark, "signature": signed["signature"]})
	requireNoMark(t, answer, "the answer to transit.verify")
	random, _ := succeeds(t, call, "transit.random", obj{})
	return textsAt(t, random["random"], dig(wrapped, "wrap.token"))
}

// markedKMS are good arguments of kms tools where those of others differ.
var markedKMS = obj{
	"key_id": devstack.AliasDemo, "message": "YQ==", "ciphertext": "YQ==", "signature": "YQ==", "grant_tokens": []string{"t"},
}

// issuedByKMS sends the mark through keys of AWS KMS, also as the encryption
// context, where it comes back in nothing but what was decrypted, and returns
// data keys and wrapping tokens, which stand in the answers alone.
func issuedByKMS(t *testing.T, call rawCall) []string {
	t.Helper()
	mark := base64.StdEncoding.EncodeToString([]byte(canary))
	aside := func(pairs ...any) obj {
		return kmsArgs(devstack.AliasDemo, append(pairs, "encryption_context", obj{"row": canary, canary: "x"})...)
	}
	sealed, answer := succeeds(t, call, "kms.encrypt", aside("plaintext", canary, "encoding", "utf8"))
	requireNoMark(t, answer, "the answer to kms.encrypt")
	_, answer = succeeds(t, call, "kms.decrypt", aside("ciphertext", sealed["ciphertext"]))
	require.Contains(t, answer, mark, "the one place where it may stand")
	wrapped, answer := succeeds(t, call, "kms.decrypt", aside("ciphertext", sealed["ciphertext"], "wrap_ttl", "60s"))
	requireNoMark(t, answer, "a wrapped answer")
	shown, answer := succeeds(t, call, "kms.generate_data_key", aside())
	requireNoMark(t, answer, "the answer to kms.generate_data_key")
	opened, _ := succeeds(t, call, "kms.decrypt", aside("ciphertext", shown["ciphertext"]))
	require.Equal(t, shown["plaintext"], opened["plaintext"])
	hidden, _ := succeeds(t, call, "kms.generate_data_key", aside("wrap_ttl", "60s"))
	plan := func(more ...any) obj { return kmsPlan(devstack.AliasECC, "ECDSA_SHA_256", "RAW", mark, more...) }
	signed, answer := succeeds(t, call, "kms.sign", plan())
	requireNoMark(t, answer, "the answer to kms.sign")
	_, answer = succeeds(t, call, "kms.verify", plan("signature", signed["signature"]))
	requireNoMark(t, answer, "the answer to kms.verify")
	for _, refused := range []obj{ // by KMS itself
		aside("ciphertext", mark),
		kmsArgs(devstack.AliasDemo, "ciphertext", sealed["ciphertext"], "encryption_context", obj{"row": canary}),
	} {
		text, err := json.Marshal(refused)
		require.NoError(t, err)
		answer := call(t, toolCall(`"kms.decrypt"`, string(text)))
		require.Equal(t, "invalid", judge(t, answer).code)
		requireNoMark(t, answer, "a refused kms.decrypt")
	}
	return textsAt(t, shown["plaintext"], dig(wrapped, "wrap.token"), dig(hidden, "wrap.token"))
}
