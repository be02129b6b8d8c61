package kmsx_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

// An answer that is about another key, or is not what was asked for, is not
// passed on, whatever stands in it.
func TestAnswersThatWereNotAskedFor(t *testing.T) {
	const otherARN = "arn:aws:kms:" + region + ":" + account + ":key/00000000-0000-0000-0000-000000000000"
	key32, key31 := strings.Repeat("A", 42)+"E=", strings.Repeat("A", 40)+"AA=="
	message := kmsx.SignInput{Algorithm: "ECDSA_SHA_256", Message: secret.NewText("m")}
	for _, c := range []struct {
		action kmsx.Action
		call   func(b *kmsx.Bound) (any, error)
		good   string   // the answer without its key
		bad    []string // likewise
	}{
		{kmsx.ActionDecrypt, func(b *kmsx.Bound) (any, error) {
			return b.Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: []byte("x")})
		}, `"Plaintext":"YQ=="`, nil},
		{kmsx.ActionDataKey, func(b *kmsx.Bound) (any, error) {
			return b.GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
		}, `"Plaintext":"` + key32 + `","CiphertextBlob":"YQ=="`, []string{
			`"Plaintext":"` + key31 + `","CiphertextBlob":"YQ=="`, `"Plaintext":"` + key32 + `"`, `"CiphertextBlob":"YQ=="`,
		}},
		{kmsx.ActionDataKeyNoPlain, func(b *kmsx.Bound) (any, error) {
			return b.GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
		}, `"CiphertextBlob":"YQ=="`, []string{`"CiphertextBlob":""`, `"CiphertextBlob":null`}},
		{kmsx.ActionSign, func(b *kmsx.Bound) (any, error) {
			return b.Sign(t.Context(), message)
		}, `"Signature":"YQ=="`, []string{`"Signature":""`, `"Signature":null`}},
		{kmsx.ActionVerify, func(b *kmsx.Bound) (any, error) {
			return b.Verify(t.Context(), kmsx.VerifyInput{SignInput: message, Signature: []byte("s")})
		}, `"SignatureValid":true`, nil},
	} {
		ask := func(body string) error {
			f := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
			if c.action == kmsx.ActionSign || c.action == kmsx.ActionVerify {
				f.spec, f.usage = "ECC_NIST_P256", forSigning
			}
			client, key := f.client(t)
			_, err := c.call(bind(client, c.action, key))
			return err
		}
		answer := func(members, arn string) string { return fmt.Sprintf(`{%s,"KeyId":%q}`, members, arn) }
		require.NoError(t, ask(answer(c.good, keyARN)), c.action)
		refused := []string{answer(c.good, otherARN), answer(c.good, keyID), `{` + c.good + `}`}
		for _, bad := range c.bad {
			refused = append(refused, answer(bad, keyARN))
		}
		for _, body := range refused {
			require.Contains(t, requireKind(t, fault.Unavailable, ask(body)).Msg, "cannot be read", "%s %s", c.action, body)
		}
	}
}

// Only "valid" is valid.
func TestVerifyTakesNoSilenceForAnAnswer(t *testing.T) {
	for members, want := range map[string]bool{`"SignatureValid":true`: true, `"SignatureValid":false`: false, `"x":1`: false} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{%s,"KeyId":%q}`, members, keyARN)
		})
		f.spec, f.usage = "ECC_NIST_P256", forSigning
		c, key := f.client(t)
		valid, err := bind(c, kmsx.ActionVerify, key).Verify(t.Context(), kmsx.VerifyInput{
			SignInput: kmsx.SignInput{Algorithm: "ECDSA_SHA_256", Message: secret.NewText("m")}, Signature: []byte("s"),
		})
		require.NoError(t, err)
		require.Equal(t, want, valid, members)
	}
}

// Where a redirect leads is never asked, in none of the ways that HTTP has.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
		})
		_, err := f.encrypt(t, t.Context())
		require.Contains(t, requireKind(t, fault.Unavailable, err).Msg, "redirect", status)
	}
	require.Zero(t, asked.Load())
}

// A key of a kind that there is in some regions only is refused for what we do
// not know how to do with it.
func TestKeysOfUnknownKinds(t *testing.T) {
	f := newFake(t, func(http.ResponseWriter, *http.Request) { t.Error("AWS was asked") })
	f.spec, f.usage = "SM2", forEncryption
	c, key := f.client(t)
	_, err := bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
	requireField(t, "/key_id", "symmetric key or one of RSA", err)
	_, err = bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: []byte("x")})
	requireField(t, "/key_id", "symmetric key or one of RSA", err)
	for _, action := range []kmsx.Action{kmsx.ActionDataKey, kmsx.ActionDataKeyNoPlain} {
		_, err = bind(c, action, key).GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
		requireField(t, "/key_id", "must be a symmetric key", err)
	}

	f = newFake(t, func(http.ResponseWriter, *http.Request) { t.Error("AWS was asked") })
	f.spec, f.usage = "SM2", forSigning
	c, key = f.client(t)
	_, err = bind(c, kmsx.ActionSign, key).Sign(t.Context(), kmsx.SignInput{Algorithm: "ECDSA_SHA_256", Message: secret.NewText("m")})
	requireField(t, "/signing_algorithm", "it has none", err)
}

// AWS_USE_FIPS_ENDPOINT of the configuration decides, and no endpoint stands in
// its way.
func TestFIPS(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
	for fips, want := range map[bool]aws.FIPSEndpointState{true: aws.FIPSEndpointStateEnabled, false: aws.FIPSEndpointStateUnset} {
		o := connect(t, kmsx.Config{FIPS: fips}).Options()
		require.Equal(t, want, o.EndpointOptions.UseFIPSEndpoint)
		require.Nil(t, o.BaseEndpoint)
	}
}

// What is wrong with the SDK's files is not quoted: they hold credentials.
func TestConfigurationFilesThatCannotBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte("[profile team]\naws_secret_access_key = CANARY\n"), 0o600))
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_PROFILE", "CANARY-absent")
	_, err := kmsx.New(t.Context(), kmsx.Config{Region: region})
	require.ErrorContains(t, err, "AWS_PROFILE")
	require.NotContains(t, err.Error(), "CANARY")
	require.NotContains(t, err.Error(), file)
}
