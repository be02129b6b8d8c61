package devstacktest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
	"vault-mcp/devstack/devstacktest"
)

func TestKMSEncryptsAndDecrypts(t *testing.T) {
	k := devstacktest.KMS(t)
	require.Same(t, k, devstacktest.KMS(t))
	for _, c := range []struct{ alias, algorithm string }{
		{devstack.AliasDemo, "SYMMETRIC_DEFAULT"}, {devstack.AliasRSAEncrypt, "RSAES_OAEP_SHA_256"},
	} {
		body := map[string]any{"KeyId": c.alias, "Plaintext": []byte("hello"), "EncryptionAlgorithm": c.algorithm}
		var sealed struct {
			CiphertextBlob []byte
			KeyID          string `json:"KeyId"`
		}
		require.NoError(t, k.Request(t.Context(), "Encrypt", body, &sealed), c.alias)
		require.Equal(t, k.ARN(c.alias), sealed.KeyID)
		require.NotContains(t, string(sealed.CiphertextBlob), "hello")
		var opened struct{ Plaintext []byte }
		body = map[string]any{"KeyId": c.alias, "CiphertextBlob": sealed.CiphertextBlob, "EncryptionAlgorithm": c.algorithm}
		require.NoError(t, k.Request(t.Context(), "Decrypt", body, &opened), c.alias)
		require.Equal(t, "hello", string(opened.Plaintext))
		body["KeyId"] = devstack.AliasOther
		require.Error(t, k.Request(t.Context(), "Decrypt", body, nil), "another key opened it")
	}
}

func TestKMSSigns(t *testing.T) {
	k := devstacktest.KMS(t)
	sum := sha256.Sum256([]byte("message"))
	for alias, algorithm := range map[string]string{
		devstack.AliasRSA: "RSASSA_PSS_SHA_256", devstack.AliasECC: "ECDSA_SHA_256",
	} {
		var public struct{ PublicKey []byte }
		require.NoError(t, k.Request(t.Context(), "GetPublicKey", map[string]any{"KeyId": alias}, &public))
		key, err := x509.ParsePKIXPublicKey(public.PublicKey)
		require.NoError(t, err)
		body := map[string]any{"KeyId": alias, "Message": []byte("message"), "MessageType": "RAW", "SigningAlgorithm": algorithm}
		var signed struct{ Signature []byte }
		require.NoError(t, k.Request(t.Context(), "Sign", body, &signed))
		switch key := key.(type) {
		case *rsa.PublicKey:
			require.Equal(t, 2048, key.N.BitLen())
			require.NoError(t, rsa.VerifyPSS(key, crypto.SHA256, sum[:], signed.Signature, nil))
		case *ecdsa.PublicKey:
			require.Equal(t, "P-256", key.Curve.Params().Name)
			require.True(t, ecdsa.VerifyASN1(key, sum[:], signed.Signature))
		default:
			require.Fail(t, "a key of no known kind", alias)
		}
	}
}

func TestKMSSaysWhatFailed(t *testing.T) {
	k := devstacktest.KMS(t)
	err := k.Request(t.Context(), "DescribeKey", map[string]any{"KeyId": "alias/none"}, nil)
	var failed *devstack.KMSError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "NotFoundException", failed.Type)
	require.ErrorContains(t, err, "DescribeKey: status 400")
}
