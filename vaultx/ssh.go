package vaultx

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// The kinds of certificate.
const (
	SSHUser = "user"
	SSHHost = "host"
)

const (
	msgSignRefused = "Vault refused to sign: the role does not exist, or does not allow what was asked for. " +
		"A role says which principals, which kind of certificate, which extensions and critical options, which keys and how long a ttl it allows, and whether key_id may be given; ask for less"
	msgOTPRefused = "Vault refused to make a password: the role does not exist or is not one for one-time passwords, or does not allow this username or address. " +
		"A role says for which users and which ranges of addresses it is; one without a default user needs a username"
	msgNoRole      = "there is no such role"
	msgSignFailed  = "Vault could not sign now; if it stays so, an operator must check that the SSH engine has a signing key (config/ca)"
	msgOTPFailed   = "Vault could not make a password now; if it stays so, an operator must check that the role is one for one-time passwords"
	msgOtherAnswer = "Vault's answer is for something else than was asked for, so it is withheld"
)

// SSHSignRequest is what a certificate is asked for. Its fields have been held
// against the grammars; those that are empty are left to the role.
type SSHSignRequest struct {
	Key             SSHPublicKey
	CertType        string // SSHUser or SSHHost
	Principals      []string
	TTL             time.Duration // whole seconds
	KeyID           string
	Extensions      map[string]string
	CriticalOptions map[string]string
}

// SSHCertificate is a signed key.
type SSHCertificate struct {
	Line   string // as in a -cert.pub file, without a line end
	Serial string // in hex, as Vault says it
}

// SSHSign has a public key signed. What Vault gives is held against what was
// asked for: a certificate that is for more, or for something else, is withheld.
func SSHSign(ctx context.Context, b *Bound, req SSHSignRequest) (SSHCertificate, error) {
	body := struct {
		PublicKey       string            `json:"public_key"`
		CertType        string            `json:"cert_type"`
		Principals      string            `json:"valid_principals,omitempty"`
		TTL             int64             `json:"ttl,omitzero"` // seconds
		KeyID           string            `json:"key_id,omitempty"`
		Extensions      map[string]string `json:"extensions,omitempty"`
		CriticalOptions map[string]string `json:"critical_options,omitempty"`
	}{
		req.Key.line(), req.CertType, strings.Join(req.Principals, ","), int64(req.TTL / time.Second),
		req.KeyID, req.Extensions, req.CriticalOptions,
	}
	resp, err := b.Do(ctx, Request{Body: body})
	if err != nil {
		return SSHCertificate{}, sshFault(err, msgSignRefused, msgSignFailed)
	}
	var answer struct {
		SignedKey string `json:"signed_key"`
	}
	if err := decodeData(resp, &answer); err != nil {
		return SSHCertificate{}, b.unlessRetryable(fault.From(err))
	}
	cert, err := checkSSHCertificate(answer.SignedKey, req, time.Now())
	if err != nil {
		return SSHCertificate{}, b.unlessRetryable(fault.From(err)) // it was made, whatever it is
	}
	return cert, nil
}

// SSHPassword is a one-time password, good for one login as a user of a host.
type SSHPassword struct {
	IP       netip.Addr
	Username string
	OTP      secret.Text
	Lease    Lease
}

// SSHOTP makes a one-time password for an address. An empty username is the
// role's default. With an error there is a lease if Vault gave one all the same,
// to be given back.
func SSHOTP(ctx context.Context, b *Bound, ip netip.Addr, username string) (SSHPassword, error) {
	body := struct {
		IP       string `json:"ip"`
		Username string `json:"username,omitempty"`
	}{ip.String(), username}
	resp, err := b.Do(ctx, Request{Body: body})
	if err != nil {
		return SSHPassword{}, sshFault(err, msgOTPRefused, msgOTPFailed)
	}
	lease, err := b.leaseOf(resp)
	if err != nil {
		return SSHPassword{}, err
	}
	var answer struct {
		KeyType  string      `json:"key_type"`
		Key      secret.Text `json:"key"`
		IP       string      `json:"ip"`
		Username string      `json:"username"`
	}
	if err := decodeData(resp, &answer); err != nil {
		return SSHPassword{Lease: lease}, b.unlessRetryable(fault.From(err))
	}
	given, err := netip.ParseAddr(answer.IP)
	if err != nil || given != ip || answer.KeyType != "otp" || answer.Key.IsZero() || answer.Username == "" ||
		username != "" && answer.Username != username {
		return SSHPassword{Lease: lease}, b.unlessRetryable(fault.New(fault.Unavailable, msgOtherAnswer))
	}
	return SSHPassword{IP: given, Username: answer.Username, OTP: answer.Key, Lease: lease}, nil
}

// sshFault says what a refusal means to this engine. Vault tells its reasons,
// an unknown role among them, in texts alone, and those are not read.
func sshFault(err error, refused, failed string) error {
	var status answeredError
	if !errors.As(err, &status) {
		return err
	}
	f := *fault.From(err)
	switch {
	case status == http.StatusBadRequest && f.Kind == fault.Invalid:
		f.Msg = refused
	case status == http.StatusNotFound && f.Kind == fault.NotFound:
		f.Msg = msgNoRole // a name that the engine's routes do not take
	case status == http.StatusInternalServerError:
		f.Msg = failed
	}
	return &f
}
