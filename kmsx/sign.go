package kmsx

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// What a message is.
const (
	Raw    = "RAW"    // the message itself, which AWS hashes
	Digest = "DIGEST" // its hash
)

// SignInput is what is signed.
type SignInput struct {
	Algorithm   string
	Message     secret.Text // bytes
	MessageType string      // Raw or Digest; empty: Raw
	GrantTokens []string
}

// VerifyInput is what is verified.
type VerifyInput struct {
	SignInput
	Signature []byte
}

// scheme is one algorithm of signing.
type scheme struct {
	digest int  // length of its hash in bytes
	raw    bool // takes a message
	hashed bool // takes a digest
	specs  []string
}

var (
	rsaKeys   = []string{"RSA_2048", "RSA_3072", "RSA_4096"}
	mlDSAKeys = []string{"ML_DSA_44", "ML_DSA_65", "ML_DSA_87"}
	edKeys    = []string{"ECC_NIST_EDWARDS25519"}
)

// schemes are the algorithms by name. SM2DSA is not among them: it exists in
// AWS's Chinese regions only.
var schemes = map[string]scheme{
	"RSASSA_PSS_SHA_256":        {32, true, true, rsaKeys},
	"RSASSA_PSS_SHA_384":        {48, true, true, rsaKeys},
	"RSASSA_PSS_SHA_512":        {64, true, true, rsaKeys},
	"RSASSA_PKCS1_V1_5_SHA_256": {32, true, true, rsaKeys},
	"RSASSA_PKCS1_V1_5_SHA_384": {48, true, true, rsaKeys},
	"RSASSA_PKCS1_V1_5_SHA_512": {64, true, true, rsaKeys},
	"ECDSA_SHA_256":             {32, true, true, []string{"ECC_NIST_P256", "ECC_SECG_P256K1"}},
	"ECDSA_SHA_384":             {48, true, true, []string{"ECC_NIST_P384"}},
	"ECDSA_SHA_512":             {64, true, true, []string{"ECC_NIST_P521"}},
	"ED25519_SHA_512":           {64, true, false, edKeys},
	"ED25519_PH_SHA_512":        {64, false, true, edKeys},
	"ML_DSA_SHAKE_256":          {64, true, false, mlDSAKeys},
}

// Sign signs with the key.
func (b *Bound) Sign(ctx context.Context, in SignInput) ([]byte, error) {
	if err := b.ready(ActionSign, in.GrantTokens); err != nil {
		return nil, err
	}
	if err := in.check(b.op.Key); err != nil {
		return nil, err
	}
	out, err := do(ctx, b, b.client.api.Sign, &kms.SignInput{
		KeyId: aws.String(b.op.Key.ARN), Message: []byte(in.Message.Reveal()), MessageType: in.messageType(),
		SigningAlgorithm: types.SigningAlgorithmSpec(in.Algorithm), GrantTokens: in.GrantTokens,
	})
	if err != nil {
		return nil, err
	}
	if len(out.Signature) == 0 {
		return nil, unreadable()
	}
	return out.Signature, b.same(out.KeyId)
}

// Verify reports whether a signature is the key's. One that is not is false,
// and no error; anything else that keeps it from being verified is an error.
func (b *Bound) Verify(ctx context.Context, in VerifyInput) (bool, error) {
	if err := b.ready(ActionVerify, in.GrantTokens); err != nil {
		return false, err
	}
	if err := in.check(b.op.Key); err != nil {
		return false, err
	}
	if n := len(in.Signature); n < 1 || n > maxSignature {
		return false, fault.Field(fieldSignature, "must be of 1 to 6144 bytes before base64")
	}
	out, err := do(ctx, b, b.client.api.Verify, &kms.VerifyInput{
		KeyId: aws.String(b.op.Key.ARN), Message: []byte(in.Message.Reveal()), MessageType: in.messageType(), Signature: in.Signature,
		SigningAlgorithm: types.SigningAlgorithmSpec(in.Algorithm), GrantTokens: in.GrantTokens,
	})
	if errors.Is(err, errFalse) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := b.same(out.KeyId); err != nil {
		return false, err
	}
	return out.SignatureValid, nil
}

func (in SignInput) messageType() types.MessageType {
	if in.MessageType == Digest {
		return types.MessageTypeDigest
	}
	return types.MessageTypeRaw
}

// check holds a message to its algorithm, and the algorithm to the key. A digest
// that is sent as RAW would be hashed again: a valid signature of something
// else.
func (in SignInput) check(key Key) error {
	s, known := schemes[in.Algorithm]
	length := len(in.Message.Reveal())
	switch {
	case !known:
		return fault.Field(fieldAlgorithm, "must be a signing algorithm of AWS KMS, such as ECDSA_SHA_256")
	case !slices.Contains(s.specs, key.Spec) || len(key.algorithms) > 0 && !slices.Contains(key.algorithms, in.Algorithm):
		return fault.Field(fieldAlgorithm, "is not one of this key's; it has "+strings.Join(algorithmsOf(key), ", "))
	case in.MessageType != "" && in.MessageType != Raw && in.MessageType != Digest:
		return fault.Field(fieldType, "must be RAW or DIGEST")
	case in.messageType() == types.MessageTypeRaw && !s.raw:
		return fault.Field(fieldType, "must be DIGEST for "+in.Algorithm)
	case in.messageType() == types.MessageTypeDigest && !s.hashed:
		return fault.Field(fieldType, "must be RAW for "+in.Algorithm)
	case length < 1:
		return fault.Field(fieldMessage, "must not be empty")
	case in.messageType() == types.MessageTypeDigest && length != s.digest:
		return fault.Field(fieldMessage, "must be of "+strconv.Itoa(s.digest)+" bytes before base64, the length of the algorithm's digest")
	case length > maxMessage && s.hashed:
		return fault.Field(fieldMessage, "must be of at most 4096 bytes before base64; of a longer one, sign the digest (message_type DIGEST)")
	case length > maxMessage:
		return fault.Field(fieldMessage, "must be of at most 4096 bytes before base64")
	}
	return nil
}

// algorithmsOf are a key's algorithms of those that there are here.
func algorithmsOf(key Key) []string {
	var list []string
	for name, s := range schemes {
		if slices.Contains(s.specs, key.Spec) && (len(key.algorithms) == 0 || slices.Contains(key.algorithms, name)) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	if len(list) == 0 {
		return []string{"none"}
	}
	return list
}
