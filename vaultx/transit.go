package vaultx

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// Ciphertexts and signatures of the transit engine begin with transitPrefix,
// the version of the key that made them, and a colon.
const transitPrefix = "vault:v"

// noKeyType goes with every request to encrypt. Vault and OpenBao look at the
// type only where they would make a key of the given name, and make none of a
// type that there is not: so a slip in a name cannot leave a new key behind,
// whatever the server's token may do.
const noKeyType = "none-existing-keys-only"

// TransitAside is what goes into an encryption besides the plaintext, as bytes.
// Both are empty for none.
type TransitAside struct {
	Context        secret.Text // from which a derived key derives
	AssociatedData secret.Text // authenticated, not encrypted
}

// TransitMade is a ciphertext or signature, and the version of the key that
// made it.
type TransitMade struct {
	Text       string
	KeyVersion int
}

// TransitSigning says how a signature is made. Nothing in a signature tells, so
// all of it is always sent, and never left to a default of Vault's.
type TransitSigning struct {
	Hash       string // as Vault calls it: sha2-256, …, or none
	Signature  string // of RSA: pss or pkcs1v15
	Marshaling string // asn1 or jws
	Prehashed  bool   // the input is the hash already
}

// CheckCiphertext holds a ciphertext against its grammar: vault:vN: and base64.
func CheckCiphertext(s string) error {
	const longest = maxDataString
	if len(s) <= longest && isCiphertext(s) {
		return nil
	}
	return fault.Newf(fault.Invalid, "a ciphertext is as transit.encrypt gave it: %sN: and base64 with padding, of at most %d bytes", transitPrefix, longest)
}

func isCiphertext(s string) bool {
	version, encoded, ok := splitTransit(s)
	if !ok || version < 1 || encoded == "" || strings.ContainsAny(encoded, "\r\n") {
		return false
	}
	_, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return err == nil
}

// splitTransit divides a ciphertext or signature.
func splitTransit(s string) (version int, encoded string, ok bool) {
	rest, ok := strings.CutPrefix(s, transitPrefix)
	digits, encoded, colon := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(digits, 10, 32)
	canonical := err == nil && strconv.FormatInt(n, 10) == digits
	return int(n), encoded, ok && colon && canonical
}

// TransitEncrypt encrypts bytes with a version of a key; 0 is the newest. A key
// that does not exist is NotFound, and not made.
func TransitEncrypt(ctx context.Context, b *Bound, plaintext secret.Text, aside TransitAside, version int) (TransitMade, error) {
	var answer transitCiphertext
	err := transitDo(ctx, b, &answer, struct {
		Type           string      `json:"type"`
		Plaintext      secret.Text `json:"plaintext"`
		Context        secret.Text `json:"context,omitzero"`
		AssociatedData secret.Text `json:"associated_data,omitzero"`
		KeyVersion     int         `json:"key_version,omitzero"`
	}{noKeyType, inBase64(plaintext), inBase64(aside.Context), inBase64(aside.AssociatedData), version})
	return transitMade(answer.Text, err)
}

// TransitDecrypt gives the bytes that were encrypted.
func TransitDecrypt(ctx context.Context, b *Bound, ciphertext string, aside TransitAside) (secret.Text, error) {
	var answer struct {
		Plaintext *secret.Text `json:"plaintext"`
	}
	err := transitDo(ctx, b, &answer, struct {
		Ciphertext     string      `json:"ciphertext"`
		Context        secret.Text `json:"context,omitzero"`
		AssociatedData secret.Text `json:"associated_data,omitzero"`
	}{ciphertext, inBase64(aside.Context), inBase64(aside.AssociatedData)})
	if err != nil {
		return secret.Text{}, err
	}
	if answer.Plaintext == nil {
		return secret.Text{}, unreadable(errors.New("no plaintext"))
	}
	plaintext, err := base64.StdEncoding.DecodeString(answer.Plaintext.Reveal())
	if err != nil {
		return secret.Text{}, unreadable(errors.New("the plaintext is not base64"))
	}
	return secret.NewText(string(plaintext)), nil
}

// TransitRewrap encrypts what a ciphertext holds with another version of the
// key; 0 is the newest. The plaintext stays in Vault.
func TransitRewrap(ctx context.Context, b *Bound, ciphertext string, derivation secret.Text, version int) (TransitMade, error) {
	var answer transitCiphertext
	err := transitDo(ctx, b, &answer, struct {
		Ciphertext string      `json:"ciphertext"`
		Context    secret.Text `json:"context,omitzero"`
		KeyVersion int         `json:"key_version,omitzero"`
	}{ciphertext, inBase64(derivation), version})
	return transitMade(answer.Text, err)
}

// transitInput is what signing and verifying have in common.
type transitInput struct {
	Input      secret.Text `json:"input"`
	Hash       string      `json:"hash_algorithm"`
	Scheme     string      `json:"signature_algorithm"`
	Marshaling string      `json:"marshaling_algorithm"`
	Prehashed  bool        `json:"prehashed"`
}

func newTransitInput(input secret.Text, how TransitSigning) transitInput {
	return transitInput{inBase64(input), how.Hash, how.Signature, how.Marshaling, how.Prehashed}
}

// TransitSign signs bytes with a version of a key; 0 is the newest.
func TransitSign(ctx context.Context, b *Bound, input secret.Text, how TransitSigning, version int) (TransitMade, error) {
	var answer struct {
		Text string `json:"signature"`
	}
	err := transitDo(ctx, b, &answer, struct {
		transitInput
		KeyVersion int `json:"key_version,omitzero"`
	}{newTransitInput(input, how), version})
	return transitMade(answer.Text, err)
}

// TransitVerify reports whether a signature is one of the input, made in this
// way. A text that is no signature at all is not one either.
func TransitVerify(ctx context.Context, b *Bound, input secret.Text, signature string, how TransitSigning) (bool, error) {
	var answer struct {
		Valid *bool `json:"valid"`
	}
	err := transitDo(ctx, b, &answer, struct {
		transitInput
		Signature string `json:"signature"`
	}{newTransitInput(input, how), signature})
	switch {
	case isMalformed(err):
		return false, nil
	case err != nil:
		return false, err
	case answer.Valid == nil:
		return false, unreadable(errors.New("no word on the signature"))
	}
	return *answer.Valid, nil
}

// TransitRandom makes random bytes, in base64 or hex as the format says. That
// there are as many as were asked for is checked: Vault gives 32 for a number
// that it does not like.
func TransitRandom(ctx context.Context, b *Bound, n int, format string) (secret.Text, error) {
	decode := base64.StdEncoding.DecodeString
	if format == "hex" {
		decode = hex.DecodeString
	}
	var answer struct {
		Random secret.Text `json:"random_bytes"`
	}
	err := transitDo(ctx, b, &answer, struct {
		Bytes  int    `json:"bytes"`
		Format string `json:"format"`
	}{n, format})
	if err != nil {
		return secret.Text{}, err
	}
	if made, err := decode(answer.Random.Reveal()); err != nil || len(made) != n {
		return secret.Text{}, unreadable(errors.New("not as many random bytes as were asked for"))
	}
	return answer.Random, nil
}

// transitCiphertext is the answer of what makes a ciphertext.
type transitCiphertext struct {
	Text string `json:"ciphertext"`
}

// transitMade reads the key's version where it is certain to stand: in the text
// that an operation made.
func transitMade(text string, err error) (TransitMade, error) {
	if err != nil {
		return TransitMade{}, err
	}
	version, _, ok := splitTransit(text)
	if !ok || version < 1 {
		return TransitMade{}, unreadable(errors.New("not a text of the transit engine"))
	}
	return TransitMade{text, version}, nil
}

func transitDo(ctx context.Context, b *Bound, answer, body any) error {
	resp, err := b.Do(ctx, Request{Body: body})
	if err != nil {
		return err
	}
	return decodeData(resp, answer)
}

// inBase64 is how Vault takes bytes.
func inBase64(raw secret.Text) secret.Text {
	if raw.IsZero() {
		return raw
	}
	return secret.NewText(base64.StdEncoding.EncodeToString([]byte(raw.Reveal())))
}
