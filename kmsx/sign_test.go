package kmsx_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

// digest is the hash of an algorithm.
func digest(algorithm, message string) (crypto.Hash, []byte) {
	switch algorithm[strings.LastIndex(algorithm, "_")+1:] {
	case "256":
		sum := sha256.Sum256([]byte(message))
		return crypto.SHA256, sum[:]
	case "384":
		sum := sha512.Sum384([]byte(message))
		return crypto.SHA384, sum[:]
	}
	sum := sha512.Sum512([]byte(message))
	return crypto.SHA512, sum[:]
}

// holds is Go's own word on a signature.
func holds(public any, algorithm, message string, signature []byte) bool {
	hash, sum := digest(algorithm, message)
	switch {
	case strings.HasPrefix(algorithm, "ECDSA"):
		return ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), sum, signature)
	case strings.HasPrefix(algorithm, "RSASSA_PSS"):
		return rsa.VerifyPSS(public.(*rsa.PublicKey), hash, sum, signature, nil) == nil
	}
	return rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), hash, sum, signature) == nil
}

func TestSignatures(t *testing.T) {
	for spec, algorithms := range map[string][]string{
		"RSA_2048": {
			"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
			"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		},
		"ECC_NIST_P256": {"ECDSA_SHA_256"}, "ECC_NIST_P384": {"ECDSA_SHA_384"}, "ECC_NIST_P521": {"ECDSA_SHA_512"},
	} {
		t.Run(spec, func(t *testing.T) {
			c, key := realKey(t, spec, forSigning)
			_, other := realKey(t, spec, forSigning)
			public := publicKey(t, key)
			for _, algorithm := range algorithms {
				message := "a plan\nto apply"
				_, sum := digest(algorithm, message)
				for _, in := range []kmsx.SignInput{
					{Algorithm: algorithm, Message: secret.NewText(message)},
					{Algorithm: algorithm, Message: secret.NewText(message), MessageType: kmsx.Raw},
					{Algorithm: algorithm, Message: secret.NewText(string(sum)), MessageType: kmsx.Digest},
				} {
					signature, err := bind(c, kmsx.ActionSign, key).Sign(t.Context(), in)
					require.NoError(t, err)
					require.True(t, holds(public, algorithm, message, signature), "%s %s", algorithm, in.MessageType)
					verify := func(key kmsx.Key, in kmsx.SignInput, signature []byte) bool {
						valid, err := bind(c, kmsx.ActionVerify, key).Verify(t.Context(), kmsx.VerifyInput{SignInput: in, Signature: signature})
						require.NoError(t, err)
						return valid
					}
					require.True(t, verify(key, in, signature))
					require.True(t, verify(key, kmsx.SignInput{Algorithm: algorithm, Message: secret.NewText(message)}, signature))
					require.False(t, verify(other, in, signature), "another key's")
					altered := append([]byte(nil), signature...)
					altered[len(altered)-1] ^= 1
					require.False(t, verify(key, in, altered))
					require.False(t, verify(key, kmsx.SignInput{Algorithm: algorithm, Message: secret.NewText("another plan")}, signature))
					// A digest that is taken for the message is another message.
					require.False(t, verify(key, kmsx.SignInput{Algorithm: algorithm, Message: secret.NewText(string(sum))}, signature))
				}
			}
		})
	}
}

// What is no statement about the signature is an error and never "false".
func TestOnlyASignatureIsFalse(t *testing.T) {
	for _, code := range []string{"InvalidKeyUsageException", "NotFoundException", "DisabledException", "ValidationException", "KMSInvalidStateException", "KMSInvalidMacException", "AccessDeniedException"} {
		f := newFake(t, says(400, code))
		f.spec, f.usage = "ECC_NIST_P256", forSigning
		c, key := f.client(t)
		_, err := bind(c, kmsx.ActionVerify, key).Verify(t.Context(), kmsx.VerifyInput{
			SignInput: kmsx.SignInput{Algorithm: "ECDSA_SHA_256", Message: secret.NewText("x")}, Signature: []byte("s"),
		})
		require.Error(t, err, code)
	}
	f := newFake(t, says(400, "KMSInvalidSignatureException"))
	f.spec, f.usage = "ECC_NIST_P256", forSigning
	c, key := f.client(t)
	b := bind(c, kmsx.ActionVerify, key)
	valid, err := b.Verify(t.Context(), kmsx.VerifyInput{
		SignInput: kmsx.SignInput{Algorithm: "ECDSA_SHA_256", Message: secret.NewText("x")}, Signature: []byte("s"),
	})
	require.NoError(t, err)
	require.False(t, valid)
	require.Equal(t, []string{reqID}, b.RequestIDs())
}

func TestSigningLimitsBeforeTheCall(t *testing.T) {
	long := strings.Repeat("m", 4097)
	for _, c := range []struct {
		spec, algorithm, kind, message string
		field, msg                     string
	}{
		{"ECC_NIST_P256", "ECDSA_SHA_256", "", "", "/message", "empty"},
		{"ECC_NIST_P256", "ECDSA_SHA_256", "RAW", long, "/message", "at most 4096 bytes"},
		{"ECC_NIST_P256", "ECDSA_SHA_256", "DIGEST", strings.Repeat("d", 31), "/message", "32 bytes"},
		{"ECC_NIST_P256", "ECDSA_SHA_256", "DIGEST", strings.Repeat("d", 64), "/message", "32 bytes"},
		{"ECC_NIST_P384", "ECDSA_SHA_384", "DIGEST", strings.Repeat("d", 32), "/message", "48 bytes"},
		{"RSA_2048", "RSASSA_PSS_SHA_512", "DIGEST", strings.Repeat("d", 32), "/message", "64 bytes"},
		{"ECC_NIST_P256", "ECDSA_SHA_256", "digest", "x", "/message_type", "RAW or DIGEST"},
		{"ECC_NIST_P256", "ECDSA_SHA_384", "", "x", "/signing_algorithm", "it has ECDSA_SHA_256"},
		{"RSA_2048", "ECDSA_SHA_256", "", "x", "/signing_algorithm", "not one of this key's"},
		{"RSA_2048", "SM2DSA", "", "x", "/signing_algorithm", "must be a signing algorithm"},
		{"RSA_2048", "", "", "x", "/signing_algorithm", "must be a signing algorithm"},
		{"ECC_NIST_EDWARDS25519", "ED25519_SHA_512", "DIGEST", strings.Repeat("d", 64), "/message_type", "must be RAW"},
		{"ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "RAW", "x", "/message_type", "must be DIGEST"},
		{"ECC_NIST_EDWARDS25519", "ED25519_PH_SHA_512", "DIGEST", "x", "/message", "64 bytes"},
		{"ECC_NIST_EDWARDS25519", "ED25519_SHA_512", "RAW", long, "/message", "at most 4096 bytes"},
		{"ML_DSA_65", "ML_DSA_SHAKE_256", "DIGEST", strings.Repeat("d", 64), "/message_type", "must be RAW"},
	} {
		f := newFake(t, func(http.ResponseWriter, *http.Request) { t.Error("AWS was asked") })
		f.spec, f.usage = c.spec, forSigning
		client, key := f.client(t)
		in := kmsx.SignInput{Algorithm: c.algorithm, MessageType: c.kind, Message: secret.NewText(c.message)}
		_, err := bind(client, kmsx.ActionSign, key).Sign(t.Context(), in)
		requireField(t, c.field, c.msg, err)
		_, err = bind(client, kmsx.ActionVerify, key).Verify(t.Context(), kmsx.VerifyInput{SignInput: in, Signature: []byte("s")})
		requireField(t, c.field, c.msg, err)
	}
	f := newFake(t, func(http.ResponseWriter, *http.Request) { t.Error("AWS was asked") })
	f.spec, f.usage = "ECC_NIST_P256", forSigning
	c, key := f.client(t)
	for _, n := range []int{0, 6145} {
		_, err := bind(c, kmsx.ActionVerify, key).Verify(t.Context(), kmsx.VerifyInput{
			SignInput: kmsx.SignInput{Algorithm: "ECDSA_SHA_256", Message: secret.NewText("x")}, Signature: make([]byte, n),
		})
		requireField(t, "/signature", "1 to 6144", err)
	}
}
