package kmsx

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"vault-mcp/fault"
)

// SubjectKey is the name of the entry in the encryption context that binds a
// ciphertext to the principal for whom it was made: nobody else's call decrypts
// it. No caller may give an entry of this name.
const SubjectKey = "mcp-subject"

// Limits of AWS KMS, in bytes where nothing else is said.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxMessage    = 4096
	maxSignature  = 6144
	maxContext    = 8192 // as JSON
	maxDataKey    = 1024
	maxTokens     = 10 // grant tokens
	maxToken      = 8192
)

// oaepSizes is how much RSAES-OAEP with SHA-256 encrypts, by the key's spec.
var oaepSizes = map[string]int{"RSA_2048": 190, "RSA_3072": 318, "RSA_4096": 446}

func checkPlaintext(key Key, length int) (types.EncryptionAlgorithmSpec, error) {
	algorithm, most, err := encryption(key)
	switch {
	case err != nil:
		return "", err
	case length < 1:
		return "", fault.Field(fieldPlaintext, "must not be empty")
	case length <= most:
		return algorithm, nil
	case key.Spec == symmetric:
		return "", fault.Field(fieldPlaintext, "must be of at most 4096 bytes; to encrypt more, use a data key")
	}
	return "", fault.Field(fieldPlaintext, "must be of at most "+strconv.Itoa(most)+" bytes for a key of "+strings.ReplaceAll(key.Spec, "_", "-"))
}

// checkDataKey is what is sent of a data key's length, and the length in bytes.
func checkDataKey(in DataKeyInput) (spec types.DataKeySpec, bytes *int32, length int, err error) {
	switch {
	case in.KeySpec != "" && in.Bytes != 0:
		return "", nil, 0, fault.Field(fieldBytes, "must be left out where key_spec is given")
	case in.Bytes != 0 && (in.Bytes < 1 || in.Bytes > maxDataKey):
		return "", nil, 0, fault.Field(fieldBytes, "must be from 1 to 1024")
	case in.Bytes != 0:
		return "", aws.Int32(int32(in.Bytes)), in.Bytes, nil
	case in.KeySpec == "" || in.KeySpec == string(types.DataKeySpecAes256):
		return types.DataKeySpecAes256, nil, 32, nil
	case in.KeySpec == string(types.DataKeySpecAes128):
		return types.DataKeySpecAes128, nil, 16, nil
	}
	return "", nil, 0, fault.Field(fieldKeySpec, "must be AES_256 or AES_128")
}

// CheckContext holds an encryption context to its limits.
func CheckContext(given map[string]string) error {
	for name, value := range given {
		switch {
		case name == "":
			return fault.Field(fieldContext, "must not have an entry without a name")
		case strings.HasPrefix(name, "aws:"):
			return fault.Field(fieldContext, "must not have an entry whose name begins with aws:")
		case name == SubjectKey:
			return fault.Field(fieldContext, "must not have an entry "+SubjectKey+", which is the server's own")
		case !utf8.ValidString(name) || !utf8.ValidString(value):
			return fault.Field(fieldContext, "must be valid UTF-8")
		}
	}
	return checkContextSize(given)
}

func checkContextSize(all map[string]string) error {
	encoded, err := json.Marshal(all)
	if err != nil || len(all) > 0 && len(encoded) > maxContext {
		return fault.Field(fieldContext, "must be of at most 8192 bytes in all")
	}
	return nil
}

// context is the encryption context that is sent: the caller's, and the entry of
// its principal if that is wanted.
func (b *Bound) context(given map[string]string) (map[string]string, error) {
	if err := CheckContext(given); err != nil {
		return nil, err
	}
	bind := b.opt.SubjectContext || b.client.cfg.SubjectContext
	switch {
	case b.op.Key.Spec != symmetric && len(given) > 0:
		return nil, fault.Field(fieldContext, "is for symmetric keys only")
	case b.op.Key.Spec != symmetric && bind:
		return nil, fault.Field(fieldKeyID, "must be a symmetric key: what an asymmetric one encrypts cannot be bound to its principal, as this server does")
	case !bind:
		return given, nil
	case b.opt.Subject == "":
		return nil, fault.Wrap(fault.Internal, msgInternal, errNobody)
	}
	all := make(map[string]string, len(given)+1)
	for name, value := range given {
		all[name] = value
	}
	all[SubjectKey] = b.opt.Subject
	return all, checkContextSize(all)
}

func checkGrantTokens(tokens []string) error {
	if len(tokens) > maxTokens {
		return fault.Field(fieldGrantTokens, "must be at most 10")
	}
	for i, token := range tokens {
		if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fault.Field(fieldGrantTokens+"/"+strconv.Itoa(i), "must be of 1 to 8192 printable ASCII characters without blanks")
		}
	}
	return nil
}
