package kmsx_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

const (
	forEncryption = "ENCRYPT_DECRYPT"
	forSigning    = "SIGN_VERIFY"
	symmetric     = "SYMMETRIC_DEFAULT"
)

func TestEncryptAndDecrypt(t *testing.T) {
	c, key := realKey(t, symmetric, forEncryption)
	_, other := realKey(t, symmetric, forEncryption)
	ours := map[string]string{"app": "web", "Ünï": "çödé"}
	for _, text := range []string{"x", "line\nline\x00\xff", strings.Repeat("a", 4096)} {
		b := bind(c, kmsx.ActionEncrypt, key)
		ciphertext, err := b.Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText(text), Context: ours})
		require.NoError(t, err)
		if len(text) > 8 { // few bytes may stand in any ciphertext by chance
			require.NotContains(t, string(ciphertext), text)
		}

		decrypt := func(key kmsx.Key, in kmsx.DecryptInput) (string, error) {
			plain, err := bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), in)
			return plain.Reveal(), err
		}
		plain, err := decrypt(key, kmsx.DecryptInput{Ciphertext: ciphertext, Context: ours})
		require.NoError(t, err)
		require.Equal(t, text, plain)

		for name, wrong := range map[string]map[string]string{
			"none": nil, "another value": {"app": "Web", "Ünï": "çödé"}, "less": {"app": "web"}, "more": {"app": "web", "Ünï": "çödé", "x": "y"},
		} {
			_, err = decrypt(key, kmsx.DecryptInput{Ciphertext: ciphertext, Context: wrong})
			require.Error(t, err, name)
			requireField(t, "/ciphertext", "another encryption_context", err)
		}
		_, err = decrypt(other, kmsx.DecryptInput{Ciphertext: ciphertext, Context: ours})
		requireField(t, "/ciphertext", "another key", err)
		altered := append([]byte(nil), ciphertext...)
		altered[len(altered)-1] ^= 1
		_, err = decrypt(key, kmsx.DecryptInput{Ciphertext: altered, Context: ours})
		requireField(t, "/ciphertext", "altered", err)
	}
}

// What we encrypt, the SDK alone decrypts, and the reverse.
func TestOthersReadWhatWeWrite(t *testing.T) {
	c, key := realKey(t, symmetric, forEncryption)
	ours := map[string]string{"a": "b"}
	ciphertext, err := bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("text"), Context: ours})
	require.NoError(t, err)
	out, err := admin(t).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext, EncryptionContext: ours})
	require.NoError(t, err)
	require.Equal(t, "text", string(out.Plaintext))
	theirs, err := admin(t).Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key.ID), Plaintext: []byte("theirs")})
	require.NoError(t, err)
	plain, err := bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: theirs.CiphertextBlob})
	require.NoError(t, err)
	require.Equal(t, "theirs", plain.Reveal())
}

func TestRSAEncryption(t *testing.T) {
	for spec, most := range map[string]int{"RSA_2048": 190, "RSA_3072": 318, "RSA_4096": 446} {
		t.Run(spec, func(t *testing.T) {
			c, key := realKey(t, spec, forEncryption)
			text := strings.Repeat("k", most)
			ciphertext, err := bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText(text)})
			require.NoError(t, err)
			plain, err := bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: ciphertext})
			require.NoError(t, err)
			require.Equal(t, text, plain.Reveal())

			// What is encrypted outside, with the public key, is decrypted here.
			public := publicKey(t, key).(*rsa.PublicKey)
			outside, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("outside"), nil)
			require.NoError(t, err)
			plain, err = bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: outside})
			require.NoError(t, err)
			require.Equal(t, "outside", plain.Reveal())

			_, err = bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText(text + "k")})
			requireField(t, "/plaintext", fmt.Sprintf("at most %d bytes", most), err)
			_, err = bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x"), Context: map[string]string{"a": "b"}})
			requireField(t, "/encryption_context", "symmetric keys only", err)
			_, err = bind(c, kmsx.ActionDataKey, key).GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
			requireField(t, "/key_id", "symmetric", err)
		})
	}
}

// publicKey is the emulator's own word on a key.
func publicKey(t *testing.T, key kmsx.Key) any {
	t.Helper()
	out, err := admin(t).GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: aws.String(key.ID)})
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	require.NoError(t, err)
	return public
}

func TestDataKeys(t *testing.T) {
	c, key := realKey(t, symmetric, forEncryption)
	ours := map[string]string{"for": "disk"}
	for _, in := range []struct {
		kmsx.DataKeyInput
		length int
	}{
		{kmsx.DataKeyInput{}, 32},
		{kmsx.DataKeyInput{KeySpec: "AES_256"}, 32},
		{kmsx.DataKeyInput{KeySpec: "AES_128"}, 16},
		{kmsx.DataKeyInput{Bytes: 1}, 1},
		{kmsx.DataKeyInput{Bytes: 1024}, 1024},
	} {
		in.Context = ours
		shown, err := bind(c, kmsx.ActionDataKey, key).GenerateDataKey(t.Context(), in.DataKeyInput)
		require.NoError(t, err)
		require.Len(t, shown.Plaintext.Reveal(), in.length)
		again, err := bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: shown.Ciphertext, Context: ours})
		require.NoError(t, err)
		require.Equal(t, shown.Plaintext.Reveal(), again.Reveal())

		hidden, err := bind(c, kmsx.ActionDataKeyNoPlain, key).GenerateDataKey(t.Context(), in.DataKeyInput)
		require.NoError(t, err)
		require.True(t, hidden.Plaintext.IsZero())
		again, err = bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: hidden.Ciphertext, Context: ours})
		require.NoError(t, err)
		require.Len(t, again.Reveal(), in.length)
		if in.length > 15 {
			require.NotEqual(t, shown.Plaintext.Reveal(), again.Reveal())
		}
	}
}

// What breaks a limit is refused with words that name it, and AWS is not asked.
func TestLimitsBeforeTheCall(t *testing.T) {
	f := newFake(t, func(http.ResponseWriter, *http.Request) { t.Error("AWS was asked") })
	c, key := f.client(t)
	text := secret.NewText
	encrypt := func(in kmsx.EncryptInput) error {
		_, err := bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), in)
		return err
	}
	decrypt := func(in kmsx.DecryptInput) error {
		_, err := bind(c, kmsx.ActionDecrypt, key).Decrypt(t.Context(), in)
		return err
	}
	dataKey := func(in kmsx.DataKeyInput) error {
		_, err := bind(c, kmsx.ActionDataKey, key).GenerateDataKey(t.Context(), in)
		return err
	}
	many := func(n int) []string { return strings.Split(strings.Repeat("t ", n-1)+"t", " ") }
	for _, refused := range []struct {
		field, msg string
		err        error
	}{
		{"/plaintext", "empty", encrypt(kmsx.EncryptInput{})},
		{"/plaintext", "at most 4096 bytes; to encrypt more, use a data key", encrypt(kmsx.EncryptInput{Plaintext: text(strings.Repeat("a", 4097))})},
		{"/ciphertext", "1 to 6144 bytes", decrypt(kmsx.DecryptInput{})},
		{"/ciphertext", "1 to 6144 bytes", decrypt(kmsx.DecryptInput{Ciphertext: make([]byte, 6145)})},
		{"/encryption_context", "aws:", encrypt(kmsx.EncryptInput{Plaintext: text("x"), Context: map[string]string{"aws:x": "y"}})},
		{"/encryption_context", "server's own", encrypt(kmsx.EncryptInput{Plaintext: text("x"), Context: map[string]string{kmsx.SubjectKey: "other"}})},
		{"/encryption_context", "without a name", decrypt(kmsx.DecryptInput{Ciphertext: []byte("x"), Context: map[string]string{"": "y"}})},
		{"/encryption_context", "8192 bytes", dataKey(kmsx.DataKeyInput{Context: map[string]string{"a": strings.Repeat("x", 8192-len(`{"a":""}`)+1)}})},
		{"/encryption_context", "UTF-8", encrypt(kmsx.EncryptInput{Plaintext: text("x"), Context: map[string]string{"a": "\xff"}})},
		{"/encryption_context", "UTF-8", encrypt(kmsx.EncryptInput{Plaintext: text("x"), Context: map[string]string{"\xff": "a"}})},
		{"/grant_tokens", "at most 10", encrypt(kmsx.EncryptInput{Plaintext: text("x"), GrantTokens: many(11)})},
		{"/grant_tokens/1", "8192", encrypt(kmsx.EncryptInput{Plaintext: text("x"), GrantTokens: []string{"t", strings.Repeat("t", 8193)}})},
		{"/grant_tokens/0", "8192", decrypt(kmsx.DecryptInput{Ciphertext: []byte("x"), GrantTokens: []string{""}})},
		{"/grant_tokens/0", "ASCII", decrypt(kmsx.DecryptInput{Ciphertext: []byte("x"), GrantTokens: []string{"a\nb"}})},
		{"/number_of_bytes", "left out", dataKey(kmsx.DataKeyInput{KeySpec: "AES_256", Bytes: 32})},
		{"/number_of_bytes", "from 1 to 1024", dataKey(kmsx.DataKeyInput{Bytes: 1025})},
		{"/number_of_bytes", "from 1 to 1024", dataKey(kmsx.DataKeyInput{Bytes: -1})},
		{"/key_spec", "AES_256 or AES_128", dataKey(kmsx.DataKeyInput{KeySpec: "AES_512"})},
	} {
		requireField(t, refused.field, refused.msg, refused.err)
	}
}

// The largest context that there may be is sent.
func TestLargestContext(t *testing.T) {
	c, key := realKey(t, symmetric, forEncryption)
	ours := map[string]string{"a": strings.Repeat("x", 8192-len(`{"a":""}`))}
	_, err := bind(c, kmsx.ActionEncrypt, key).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x"), Context: ours})
	require.NoError(t, err)
}

// A ciphertext that is bound to its principal is of use to no other.
func TestSubjectContext(t *testing.T) {
	_, key := realKey(t, symmetric, forEncryption)
	for name, all := range map[string]bool{"for all": true, "by the call": false} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, kmsx.Config{Endpoint: localKMS(t), SubjectContext: all})
			as := func(action kmsx.Action, subject string) *kmsx.Bound {
				return c.Bind(kmsx.Operation{Action: action, Key: key}, kmsx.BindOptions{Owner: owner, Subject: subject, SubjectContext: !all})
			}
			given := map[string]string{"a": "b"}
			ciphertext, err := as(kmsx.ActionEncrypt, "dev-bot").Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("mine"), Context: given})
			require.NoError(t, err)
			require.Equal(t, map[string]string{"a": "b"}, given, "the caller's own map is changed")
			plain, err := as(kmsx.ActionDecrypt, "dev-bot").Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: ciphertext, Context: given})
			require.NoError(t, err)
			require.Equal(t, "mine", plain.Reveal())
			_, err = as(kmsx.ActionDecrypt, "other").Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: ciphertext, Context: given})
			requireField(t, "/ciphertext", "cannot be decrypted", err)
			out, err := admin(t).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: ciphertext, EncryptionContext: map[string]string{"a": "b", "mcp-subject": "dev-bot"}})
			require.NoError(t, err)
			require.Equal(t, "mine", string(out.Plaintext))

			_, err = as(kmsx.ActionEncrypt, "").Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
			requireKind(t, fault.Internal, err)
			almost := map[string]string{"a": strings.Repeat("x", 8192-len(`{"a":""}`))}
			_, err = as(kmsx.ActionEncrypt, "dev-bot").Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x"), Context: almost})
			requireField(t, "/encryption_context", "8192", err)
			_, asymmetric := realKey(t, "RSA_2048", forEncryption)
			b := c.Bind(kmsx.Operation{Action: kmsx.ActionEncrypt, Key: asymmetric}, kmsx.BindOptions{Owner: owner, Subject: "dev-bot", SubjectContext: !all})
			_, err = b.Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
			requireField(t, "/key_id", "bound to its principal", err)
		})
	}
}

// A Bound does what it was bound for, on a key that is for it.
func TestBoundToOneOperation(t *testing.T) {
	c, key := realKey(t, symmetric, forEncryption)
	_, err := bind(c, kmsx.ActionEncrypt, key).Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: []byte("x")})
	requireKind(t, fault.Internal, err)
	_, err = bind(c, kmsx.ActionEncrypt, key).GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
	requireKind(t, fault.Internal, err)
	_, err = bind(c, kmsx.ActionSign, key).Sign(t.Context(), kmsx.SignInput{Algorithm: "ECDSA_SHA_256", Message: secret.NewText("x")})
	requireField(t, "/key_id", "for sign and verify", err)
	_, signing := realKey(t, "ECC_NIST_P256", forSigning)
	_, err = bind(c, kmsx.ActionEncrypt, signing).Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
	requireField(t, "/key_id", "for encrypt and decrypt", err)
}

// The key's id is sent with every request, as the ARN that was authorized.
func TestKeyIDIsAlwaysSent(t *testing.T) {
	f := newFake(t, says(400, "KMSInternalException"))
	c, key := f.client(t)
	for action, call := range map[kmsx.Action]func(*kmsx.Bound) error{
		kmsx.ActionEncrypt: func(b *kmsx.Bound) error {
			_, err := b.Encrypt(t.Context(), kmsx.EncryptInput{Plaintext: secret.NewText("x")})
			return err
		},
		kmsx.ActionDecrypt: func(b *kmsx.Bound) error {
			_, err := b.Decrypt(t.Context(), kmsx.DecryptInput{Ciphertext: []byte("x")})
			return err
		},
		kmsx.ActionDataKey: func(b *kmsx.Bound) error {
			_, err := b.GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
			return err
		},
		kmsx.ActionDataKeyNoPlain: func(b *kmsx.Bound) error {
			_, err := b.GenerateDataKey(t.Context(), kmsx.DataKeyInput{})
			return err
		},
	} {
		require.Error(t, call(bind(c, action, key)))
		require.Equal(t, keyARN, f.sent()["KeyId"], action)
	}
}
