package kmsx

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// EncryptInput is what is encrypted.
type EncryptInput struct {
	Plaintext   secret.Text // bytes
	Context     map[string]string
	GrantTokens []string
}

// DecryptInput is what is decrypted.
type DecryptInput struct {
	Ciphertext  []byte
	Context     map[string]string
	GrantTokens []string
}

// DataKeyInput says how long a data key is: by KeySpec (AES_256, AES_128) or in
// bytes; with neither it is AES_256.
type DataKeyInput struct {
	KeySpec     string
	Bytes       int
	Context     map[string]string
	GrantTokens []string
}

// DataKey is a new key: its bytes, unless they were not asked for, and its
// bytes encrypted.
type DataKey struct {
	Plaintext  secret.Text
	Ciphertext []byte
}

// Encrypt encrypts with the key. An asymmetric one encrypts by RSAES-OAEP with
// SHA-256.
func (b *Bound) Encrypt(ctx context.Context, in EncryptInput) ([]byte, error) {
	if err := b.ready(ActionEncrypt, in.GrantTokens); err != nil {
		return nil, err
	}
	plaintext := in.Plaintext.Reveal()
	algorithm, err := checkPlaintext(b.op.Key, len(plaintext))
	if err != nil {
		return nil, err
	}
	encryptionContext, err := b.context(in.Context)
	if err != nil {
		return nil, err
	}
	out, err := do(ctx, b, b.client.api.Encrypt, &kms.EncryptInput{
		KeyId: aws.String(b.op.Key.ARN), Plaintext: []byte(plaintext), EncryptionAlgorithm: algorithm,
		EncryptionContext: encryptionContext, GrantTokens: in.GrantTokens,
	})
	if err != nil {
		return nil, err
	}
	if len(out.CiphertextBlob) == 0 {
		return nil, unreadable()
	}
	return out.CiphertextBlob, b.same(out.KeyId)
}

// Decrypt decrypts what was encrypted with the key, and nothing else: without
// the key's id AWS would decrypt with any key that the server may use.
func (b *Bound) Decrypt(ctx context.Context, in DecryptInput) (secret.Text, error) {
	if err := b.ready(ActionDecrypt, in.GrantTokens); err != nil {
		return secret.Text{}, err
	}
	if n := len(in.Ciphertext); n < 1 || n > maxCiphertext {
		return secret.Text{}, fault.Field(fieldCiphertext, "must be of 1 to 6144 bytes before base64")
	}
	algorithm, _, err := encryption(b.op.Key)
	if err != nil {
		return secret.Text{}, err
	}
	encryptionContext, err := b.context(in.Context)
	if err != nil {
		return secret.Text{}, err
	}
	out, err := do(ctx, b, b.client.api.Decrypt, &kms.DecryptInput{
		KeyId: aws.String(b.op.Key.ARN), CiphertextBlob: in.Ciphertext, EncryptionAlgorithm: algorithm,
		EncryptionContext: encryptionContext, GrantTokens: in.GrantTokens,
	})
	if err != nil {
		return secret.Text{}, err
	}
	if err := b.same(out.KeyId); err != nil {
		return secret.Text{}, err
	}
	return secret.NewText(string(out.Plaintext)), nil
}

// GenerateDataKey makes a data key. The plaintext of it comes only to a Bound of
// ActionDataKey.
func (b *Bound) GenerateDataKey(ctx context.Context, in DataKeyInput) (DataKey, error) {
	action := b.op.Action
	if action != ActionDataKey {
		action = ActionDataKeyNoPlain
	}
	if err := b.ready(action, in.GrantTokens); err != nil {
		return DataKey{}, err
	}
	if b.op.Key.Spec != symmetric {
		return DataKey{}, fault.Field(fieldKeyID, "must be a symmetric key")
	}
	spec, bytes, length, err := checkDataKey(in)
	if err != nil {
		return DataKey{}, err
	}
	encryptionContext, err := b.context(in.Context)
	if err != nil {
		return DataKey{}, err
	}
	request := &kms.GenerateDataKeyInput{
		KeyId: aws.String(b.op.Key.ARN), KeySpec: spec, NumberOfBytes: bytes,
		EncryptionContext: encryptionContext, GrantTokens: in.GrantTokens,
	}
	if action == ActionDataKey {
		return b.shownDataKey(ctx, request, length)
	}
	return b.hiddenDataKey(ctx, request)
}

func (b *Bound) shownDataKey(ctx context.Context, request *kms.GenerateDataKeyInput, length int) (DataKey, error) {
	out, err := do(ctx, b, b.client.api.GenerateDataKey, request)
	if err != nil {
		return DataKey{}, err
	}
	if len(out.Plaintext) != length || len(out.CiphertextBlob) == 0 || b.same(out.KeyId) != nil {
		return DataKey{}, unreadable()
	}
	return DataKey{secret.NewText(string(out.Plaintext)), out.CiphertextBlob}, nil
}

func (b *Bound) hiddenDataKey(ctx context.Context, request *kms.GenerateDataKeyInput) (DataKey, error) {
	out, err := do(ctx, b, b.client.api.GenerateDataKeyWithoutPlaintext, &kms.GenerateDataKeyWithoutPlaintextInput{
		KeyId: request.KeyId, KeySpec: request.KeySpec, NumberOfBytes: request.NumberOfBytes,
		EncryptionContext: request.EncryptionContext, GrantTokens: request.GrantTokens,
	})
	if err != nil {
		return DataKey{}, err
	}
	if len(out.CiphertextBlob) == 0 || b.same(out.KeyId) != nil {
		return DataKey{}, unreadable()
	}
	return DataKey{Ciphertext: out.CiphertextBlob}, nil
}

// encryption is how a key encrypts, and how much at once.
func encryption(key Key) (algorithm types.EncryptionAlgorithmSpec, most int, err error) {
	if key.Spec == symmetric {
		return types.EncryptionAlgorithmSpecSymmetricDefault, maxPlaintext, nil
	}
	if most := oaepSizes[key.Spec]; most > 0 {
		return types.EncryptionAlgorithmSpecRsaesOaepSha256, most, nil
	}
	return "", 0, fault.Field(fieldKeyID, "must be a symmetric key or one of RSA")
}
