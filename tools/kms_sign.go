package tools

import (
	"context"

	"vault-mcp/auth"
	"vault-mcp/kmsx"
	"vault-mcp/secret"
)

// kmsMessage is embedded in what signs and what verifies. A signature does not
// tell how it was made, so both take the same, and give it back as used.
type kmsMessage struct {
	SigningAlgorithm string      `json:"signing_algorithm" jsonschema:"enum=RSASSA_PSS_SHA_256,enum=RSASSA_PSS_SHA_384,enum=RSASSA_PSS_SHA_512,enum=RSASSA_PKCS1_V1_5_SHA_256,enum=RSASSA_PKCS1_V1_5_SHA_384,enum=RSASSA_PKCS1_V1_5_SHA_512,enum=ECDSA_SHA_256,enum=ECDSA_SHA_384,enum=ECDSA_SHA_512,enum=ED25519_SHA_512,enum=ED25519_PH_SHA_512,enum=ML_DSA_SHAKE_256" doc:"How it is signed: one of the key's own algorithms."`
	Message          secret.Text `json:"message" jsonschema:"minLength=1,maxLength=10924" doc:"What is signed, in base64: the message, 1 to 4096 bytes, or with message_type DIGEST its hash, exactly as long as the algorithm's."`
	kmsKey
	MessageType string `json:"message_type,omitzero" jsonschema:"enum=RAW,enum=DIGEST,default=RAW" doc:"Whether message is the message itself or its hash. A hash that is sent as RAW is hashed again, and the signature then is of something else. ED25519_SHA_512 and ML_DSA take RAW only, ED25519_PH_SHA_512 DIGEST only."`

	message secret.Text // Message as bytes
}

// kmsSigned is embedded in the results: a signature that was made one way and
// verified another way is not valid, and only these say why.
type kmsSigned struct {
	kmsUsed
	SigningAlgorithm string `json:"signing_algorithm" doc:"As used."`
	MessageType      string `json:"message_type" doc:"As used: RAW or DIGEST."`
}

type kmsSignIn struct{ kmsMessage }

type kmsSignOut struct {
	Signature string `json:"signature" doc:"The signature, in base64: ASN.1 DER for ECDSA, as AWS and OpenSSL have it."`
	kmsSigned
}

type kmsVerifyIn struct {
	kmsMessage
	Signature string `json:"signature" jsonschema:"minLength=1,maxLength=10924" doc:"The signature, in base64."`

	signature secret.Text // Signature as bytes
}

type kmsVerifyOut struct {
	Valid bool `json:"valid" doc:"Whether the signature is the key's, of this message, made in this way. False is an answer and no failure."`
	kmsSigned
}

func (in *kmsMessage) check() (err error) {
	in.message, err = base64Bytes("/message", in.Message, maxKMSBytes)
	return err
}

func (in *kmsVerifyIn) check() (err error) {
	if err = in.kmsMessage.check(); err != nil {
		return err
	}
	in.signature, err = base64Bytes("/signature", secret.NewText(in.Signature), maxKMSBytes)
	return err
}

func (in *kmsMessage) input() kmsx.SignInput {
	return kmsx.SignInput{Algorithm: in.SigningAlgorithm, Message: in.message, MessageType: in.MessageType, GrantTokens: in.tokens()}
}

func (in *kmsMessage) signed(env *Env) kmsSigned {
	return kmsSigned{usedKey(env), in.SigningAlgorithm, in.MessageType}
}

func kmsSignTool() *Tool {
	return Define(Tool{
		Name: "kms.sign", Title: "Sign with an AWS KMS key",
		Doc:   "Sign a message or its digest with an asymmetric AWS KMS key that never leaves AWS. signing_algorithm and message_type change what the signature means and do not stand in it: they come back as used, and verifying needs the same.",
		Scope: auth.Write, Effect: Uses, Idempotent: true, Retryable: true,
		Needs: []Need{kmsNeed(kmsx.ActionSign)},
		Route: "POST /kms/sign",
	}, kmsSign)
}

func kmsVerifyTool() *Tool {
	return Define(Tool{
		Name: "kms.verify", Title: "Verify a signature of an AWS KMS key",
		Doc:   "Say whether a signature is an AWS KMS key's, of this message. valid false is an answer, not a failure: the message or signature was altered, it is another key's, or it was made with another signing_algorithm or message_type than given here; these come back as used.",
		Scope: auth.Read, Effect: Reads, Idempotent: true, Retryable: true,
		Needs: []Need{kmsNeed(kmsx.ActionVerify)},
		Route: "POST /kms/verify",
	}, kmsVerify)
}

func kmsSign(ctx context.Context, env *Env, in kmsSignIn) (kmsSignOut, error) {
	signature, err := env.KMS.Sign(ctx, in.input())
	return kmsSignOut{Signature: toBase64(signature), kmsSigned: in.signed(env)}, err
}

func kmsVerify(ctx context.Context, env *Env, in kmsVerifyIn) (kmsVerifyOut, error) {
	valid, err := env.KMS.Verify(ctx, kmsx.VerifyInput{SignInput: in.input(), Signature: []byte(in.signature.Reveal())})
	return kmsVerifyOut{Valid: valid, kmsSigned: in.signed(env)}, err
}
