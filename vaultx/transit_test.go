package vaultx_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// transitAt binds an operation of the transit engine to a server of the test's.
func transitAt(t *testing.T, operation, path string, answer http.HandlerFunc) *vaultx.Bound {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	c := connect(t, vaultx.Config{Address: server.URL, Token: secret.NewText("t"), Mounts: vaultx.Mounts{Transit: "transit"}})
	op, err := vaultx.NewOperation("update", vaultx.MustTemplate("{transit}/"+path), map[string]string{"transit": "transit", "key": "k"})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(op.Path.String(), "transit/"+operation))
	return c.Bind(op, vaultx.BindOptions{Owner: "o", Retryable: true})
}

func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var signing = vaultx.TransitSigning{Hash: "sha2-256", Signature: "pss", Marshaling: "asn1"}

// transitDo does each operation with a server that answers one thing.
var transitDo = map[string]func(t *testing.T, answer http.HandlerFunc) error{
	"encrypt": func(t *testing.T, answer http.HandlerFunc) error {
		t.Helper()
		_, err := vaultx.TransitEncrypt(t.Context(), transitAt(t, "encrypt", "encrypt/{key}", answer), secret.Text{}, vaultx.TransitAside{}, 0)
		return err
	},
	"decrypt": func(t *testing.T, answer http.HandlerFunc) error {
		t.Helper()
		_, err := vaultx.TransitDecrypt(t.Context(), transitAt(t, "decrypt", "decrypt/{key}", answer), "vault:v1:AAAA", vaultx.TransitAside{})
		return err
	},
	"rewrap": func(t *testing.T, answer http.HandlerFunc) error {
		t.Helper()
		_, err := vaultx.TransitRewrap(t.Context(), transitAt(t, "rewrap", "rewrap/{key}", answer), "vault:v1:AAAA", secret.Text{}, 0)
		return err
	},
	"sign": func(t *testing.T, answer http.HandlerFunc) error {
		t.Helper()
		_, err := vaultx.TransitSign(t.Context(), transitAt(t, "sign", "sign/{key}", answer), secret.Text{}, signing, 0)
		return err
	},
	"verify": func(t *testing.T, answer http.HandlerFunc) error {
		t.Helper()
		_, err := vaultx.TransitVerify(t.Context(), transitAt(t, "verify", "verify/{key}", answer), secret.Text{}, "vault:v1:AAAA", signing)
		return err
	},
	"random": func(t *testing.T, answer http.HandlerFunc) error {
		t.Helper()
		_, err := vaultx.TransitRandom(t.Context(), transitAt(t, "random", "random", answer), 3, "hex")
		return err
	},
}

// An answer that is not what the engine gives is not passed on: above all, what
// does not say that a signature is valid does not make it so, and random bytes
// are as many as were asked for.
func TestTransitAnswersThatAreNone(t *testing.T) {
	for operation, do := range transitDo {
		for _, data := range []string{
			`{}`, `null`, `[]`, `"x"`, `{"ciphertext":null,"signature":null,"plaintext":null,"valid":null,"random_bytes":null}`,
			`{"ciphertext":"","signature":"","plaintext":"%","valid":"true","random_bytes":"abcd"}`,
			`{"ciphertext":"vault:v0:AA","signature":"vault:x","plaintext":5,"valid":1,"random_bytes":"zzzzzz"}`,
			`{"ciphertext":["vault:v1:AA"],"signature":{"a":1},"plaintext":["YQ=="],"valid":[true],"random_bytes":"abcdef00"}`,
			`{"batch_results":[{"ciphertext":"vault:v1:AA","signature":"vault:v1:AA","plaintext":"YQ==","valid":true}]}`,
		} {
			err := do(t, answers(http.StatusOK, `{"data":`+data+`}`))
			require.ErrorIs(t, err, fault.Unavailable, "%s %s", operation, data)
		}
		require.ErrorIs(t, do(t, answers(http.StatusNoContent, "")), fault.Unavailable, operation)
	}
}

// Refusals whose words are known by no rule say what was refused, and nothing
// of Vault's; a server's own faults stay that.
func TestTransitRefusalsOfUnknownWords(t *testing.T) {
	const words = `{"errors":["CANARY words"]}`
	for operation, do := range transitDo {
		f := fault.From(do(t, answers(http.StatusBadRequest, words)))
		require.Equal(t, fault.Invalid, f.Kind, operation)
		require.Contains(t, f.Msg, "Vault refused")
		require.NotContains(t, f.Msg+f.Err.Error(), "CANARY")
		f = fault.From(do(t, answers(http.StatusInternalServerError, words)))
		require.Equal(t, fault.Unavailable, f.Kind, operation)
		require.NotContains(t, f.Msg+f.Err.Error(), "CANARY")
		require.ErrorIs(t, do(t, answers(http.StatusBadRequest, `{"errors":["missing client token"]}`)), fault.Unavailable, operation)
	}
	// A malformed signature is an answer only where the whole text says so.
	for body, want := range map[string]bool{
		`{"errors":["supplied signature is invalid"]}`:                  true,
		`{"errors":["x supplied signature is invalid"]}`:                false,
		`{"errors":["supplied signature is invalid because of the y"]}`: false,
	} {
		require.Equal(t, want, transitDo["verify"](t, answers(http.StatusBadRequest, body)) == nil, body)
	}
	require.Error(t, transitDo["sign"](t, answers(http.StatusBadRequest, `{"errors":["supplied signature is invalid"]}`)))
}

// What is sent, to the member: the type that is no key's with every encryption,
// and all that a signature depends on.
func TestTransitRequests(t *testing.T) {
	for operation, want := range map[string]string{
		"encrypt": `{"type":"none-existing-keys-only","plaintext":""}`,
		"decrypt": `{"ciphertext":"vault:v1:AAAA"}`,
		"rewrap":  `{"ciphertext":"vault:v1:AAAA"}`,
		"sign":    `{"input":"","hash_algorithm":"sha2-256","signature_algorithm":"pss","marshaling_algorithm":"asn1","prehashed":false}`,
		"verify":  `{"input":"","hash_algorithm":"sha2-256","signature_algorithm":"pss","marshaling_algorithm":"asn1","prehashed":false,"signature":"vault:v1:AAAA"}`,
		"random":  `{"bytes":3,"format":"hex"}`,
	} {
		var sent json.RawMessage
		err := transitDo[operation](t, func(w http.ResponseWriter, r *http.Request) {
			sent, _ = io.ReadAll(r.Body)
			_, _ = io.WriteString(w, `{"data":{"ciphertext":"vault:v1:AAAA","signature":"vault:v1:AAAA","plaintext":"YQ==","valid":true,"random_bytes":"abcdef"}}`)
		})
		require.NoError(t, err, operation)
		require.JSONEq(t, want, string(sent), operation)
	}
}

func TestCheckCiphertext(t *testing.T) {
	for _, good := range []string{"vault:v1:AAAA", "vault:v2147483647:AA==", "vault:v10:AAA=", "vault:v1:" + strings.Repeat("+/", 1000)} {
		require.NoError(t, vaultx.CheckCiphertext(good), good)
	}
	for _, bad := range []string{
		"", "vault:v1:", "vault:v1", "vault:v:AAAA", "vault:v0:AAAA", "vault:v00:AAAA", "vault:v01:AAAA", "vault:v-1:AAAA", "vault:v+1:AAAA", "vault:v1.0:AAAA",
		"vault:v2147483648:AAAA", "vault:V1:AAAA", "Vault:v1:AAAA", " vault:v1:AAAA", "vault:v1:AAAA ", "vault:v1:AAAA\n", "vault:v1:AA\r\nAA", "vault:v1:AA", "vault:v1:AB==",
		"vault:v1:-_-_", "vault:v1:AAAA:AAAA", "bao:v1:AAAA", "vault:v1:" + strings.Repeat("A", 1<<20),
	} {
		err := vaultx.CheckCiphertext(bad)
		require.ErrorIs(t, err, fault.Invalid, bad)
	}
}
