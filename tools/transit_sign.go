package tools

import (
	"context"
	"fmt"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

// transitInput is embedded in what signs and what verifies. A signature does
// not tell how it was made, so both take the same, and give it back as used.
type transitInput struct {
	transitKey
	Input secret.Text `json:"input" jsonschema:"maxLength=699052" doc:"What is signed, written as encoding says; at most 524288 bytes. With prehashed, its hash instead."`
	Encoding
	HashAlgorithm       string `json:"hash_algorithm,omitzero" jsonschema:"enum=sha2-256,enum=sha2-384,enum=sha2-512,enum=sha2-224,enum=sha3-224,enum=sha3-256,enum=sha3-384,enum=sha3-512,enum=none,default=sha2-256" doc:"Hash of the input, for RSA and ECDSA keys; an ed25519 key ignores it or refuses it. none signs the input as it is: only with prehashed true and signature_algorithm pkcs1v15."`
	SignatureAlgorithm  string `json:"signature_algorithm,omitzero" jsonschema:"enum=pss,enum=pkcs1v15,default=pss" doc:"Scheme of RSA keys; others ignore it."`
	MarshalingAlgorithm string `json:"marshaling_algorithm,omitzero" jsonschema:"enum=asn1,enum=jws,default=asn1" doc:"Form of the signature: asn1 (of ECDSA, as OpenSSL and X.509 have it; in base64) or jws (of ECDSA, r and s side by side as in a JWT; in URL-safe base64 without padding)."`
	Prehashed           bool   `json:"prehashed,omitzero" jsonschema:"default=false" doc:"Whether input is the hash already, by hash_algorithm. Not for ed25519 keys."`

	message secret.Text // Input as bytes
}

// transitUsed is embedded in the results: a signature that was made one way and
// verified another way is not valid, and only these say why.
type transitUsed struct {
	HashAlgorithm       string `json:"hash_algorithm" doc:"As used. It means nothing for an ed25519 key."`
	SignatureAlgorithm  string `json:"signature_algorithm" doc:"As used. It means something for RSA keys only."`
	MarshalingAlgorithm string `json:"marshaling_algorithm" doc:"As used."`
	Prehashed           bool   `json:"prehashed" doc:"As used."`
}

type transitSignIn struct {
	transitInput
	transitVersion
}

type transitSignOut struct {
	Signature  string `json:"signature" doc:"The signature: vault:vN: and base64, where N is the key's version. What follows the second colon is what other software takes."`
	KeyVersion int    `json:"key_version" doc:"Version of the key that signed."`
	transitUsed
}

type transitVerifyIn struct {
	transitInput
	Signature string `json:"signature" jsonschema:"minLength=1,maxLength=8192,pattern=^[!-~]+$" doc:"The signature as transit.sign gave it, with vault:vN: before it; without spaces or line ends."`
}

type transitVerifyOut struct {
	Valid bool `json:"valid" doc:"Whether the signature is the key's, of this input, made in this way. False is an answer and no failure."`
	transitUsed
}

// hashBytes is how long a hash is.
var hashBytes = map[string]int{
	"sha2-224": 28, "sha2-256": 32, "sha2-384": 48, "sha2-512": 64,
	"sha3-224": 28, "sha3-256": 32, "sha3-384": 48, "sha3-512": 64,
}

// longestRawInput is the longest input of hash none: what RSA with 4096 bits
// signs.
const longestRawInput = 501

func (in *transitInput) check() (err error) {
	if in.message, err = in.bytes("/input", in.Input, maxTransitInput); err != nil {
		return err
	}
	length, known := hashBytes[in.HashAlgorithm]
	given := len(in.message.Reveal())
	switch {
	case !known && (!in.Prehashed || in.SignatureAlgorithm != "pkcs1v15"):
		return fault.Field("/hash_algorithm", "none needs prehashed true and signature_algorithm pkcs1v15")
	case !known && (given == 0 || given > longestRawInput):
		return fault.Field("/input", fmt.Sprintf("must be of 1 to %d bytes, as hash_algorithm is none", longestRawInput))
	case known && in.Prehashed && given != length:
		return fault.Field("/input", fmt.Sprintf("must be a hash of exactly %d bytes, as prehashed and hash_algorithm say", length))
	}
	return nil
}

func (in *transitInput) signing() vaultx.TransitSigning {
	return vaultx.TransitSigning{
		Hash: in.HashAlgorithm, Signature: in.SignatureAlgorithm, Marshaling: in.MarshalingAlgorithm, Prehashed: in.Prehashed,
	}
}

func (in *transitInput) used() transitUsed {
	return transitUsed{in.HashAlgorithm, in.SignatureAlgorithm, in.MarshalingAlgorithm, in.Prehashed}
}

func transitSignTool() *Tool {
	return Define(Tool{
		Name: "transit.sign", Title: "Sign with a key",
		Doc:   "Sign data with a named key that never leaves Vault. hash_algorithm, signature_algorithm, marshaling_algorithm and prehashed change what the signature means and do not stand in it: they come back as used, and verifying needs the same.",
		Scope: auth.Write, Effect: Uses, Idempotent: true, Retryable: true,
		Needs: []Need{{Path: "{transit}/sign/{key}", Capabilities: []string{"update"}}},
		Route: "POST /transit/sign",
	}, transitSign)
}

func transitVerifyTool() *Tool {
	return Define(Tool{
		Name: "transit.verify", Title: "Verify a signature",
		Doc:   "Say whether a signature is a named key's, of this input. valid false is an answer, not a failure: the input or signature was altered, it is another key's, or it was made with another hash_algorithm, signature_algorithm, marshaling_algorithm or prehashed than given here; these come back as used.",
		Scope: auth.Read, Effect: Reads, Idempotent: true, Retryable: true,
		Needs: []Need{{Path: "{transit}/verify/{key}", Capabilities: []string{"update"}}},
		Route: "POST /transit/verify",
	}, transitVerify)
}

func transitSign(ctx context.Context, env *Env, in transitSignIn) (transitSignOut, error) {
	made, err := vaultx.TransitSign(ctx, env.Vault, in.message, in.signing(), in.KeyVersion)
	return transitSignOut{Signature: made.Text, KeyVersion: made.KeyVersion, transitUsed: in.used()}, err
}

func transitVerify(ctx context.Context, env *Env, in transitVerifyIn) (transitVerifyOut, error) {
	valid, err := vaultx.TransitVerify(ctx, env.Vault, in.message, in.Signature, in.signing())
	return transitVerifyOut{Valid: valid, transitUsed: in.used()}, err
}
