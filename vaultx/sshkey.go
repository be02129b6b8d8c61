package vaultx

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"

	"vault-mcp/fault"
)

const (
	maxSSHKeyLine  = 16 << 10 // bytes
	minSSHKeyRSA   = 2048     // bits; the parser has the upper bound, 16384
	wantSSHKeyLine = "must be one public key on one line, as in a .pub file: its type, a blank, base64 and perhaps a comment, with no options before it"
)

// SSHPublicKey is a plain public key that a certificate may be made for;
// ParseSSHPublicKey makes one of nothing else.
type SSHPublicKey struct{ key ssh.PublicKey }

// ParseSSHPublicKey takes one line of an authorized_keys file: the type, a
// blank, base64 and perhaps a comment, which is not kept. Options, certificates,
// DSA and RSA below 2048 bits are refused. What is sent to Vault is written anew
// from the key, so that it and we cannot read the line in two ways. The error,
// Invalid, says what is wanted.
func ParseSSHPublicKey(line string) (SSHPublicKey, error) {
	if len(line) > maxSSHKeyLine {
		return SSHPublicKey{}, fault.Newf(fault.Invalid, "must have at most %d bytes", maxSSHKeyLine)
	}
	if strings.Contains(line, "PRIVATE KEY") {
		return SSHPublicKey{}, fault.New(fault.Invalid, "is a private key, which must not leave its owner; send the public one, and make a new pair if this one has been seen by others")
	}
	line = strings.TrimSuffix(line, "\n") // a whole file has one
	if strings.ContainsFunc(line, unicode.IsControl) {
		return SSHPublicKey{}, fault.New(fault.Invalid, wantSSHKeyLine)
	}
	kind, rest, _ := strings.Cut(line, " ")
	text, _, _ := strings.Cut(rest, " ")
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(blob) == 0 {
		return SSHPublicKey{}, fault.New(fault.Invalid, wantSSHKeyLine)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || key.Type() != kind {
		return SSHPublicKey{}, fault.New(fault.Invalid, wantSSHKeyLine)
	}
	return SSHPublicKey{key}, checkSSHKey(key)
}

// checkSSHKey refuses keys of kinds that are weak, or no plain keys.
func checkSSHKey(key ssh.PublicKey) error {
	if _, ok := key.(*ssh.Certificate); ok {
		return fault.New(fault.Invalid, "is a certificate; send the plain public key")
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		public, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			break
		}
		if n, ok := public.CryptoPublicKey().(*rsa.PublicKey); ok && n.N.BitLen() >= minSSHKeyRSA {
			return nil
		}
		return fault.Newf(fault.Invalid, "is an RSA key of fewer than %d bits", minSSHKeyRSA)
	}
	return fault.New(fault.Invalid, "is of a kind that is not taken: it must be an Ed25519, ECDSA or RSA key, or one of the first two on a security key")
}

// line is the key as it is sent, without a comment.
func (k SSHPublicKey) line() string {
	return string(bytes.TrimSuffix(ssh.MarshalAuthorizedKey(k.key), []byte("\n")))
}
