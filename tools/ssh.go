package tools

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/secret"
	"vault-mcp/vaultx"
)

const (
	sshSignPath = "{ssh}/sign/{role}"
	sshOTPPath  = "{ssh}/creds/{role}"
)

// Bounds of what a certificate can be asked for.
const (
	maxSSHPrincipals  = 64
	maxSSHOptions     = 16
	maxSSHOptionName  = 64
	maxSSHOptionValue = 1024 // bytes
)

// sshRole is embedded in every input that names a role of the SSH engine.
type sshRole struct {
	Role string `json:"role" grammar:"name" jsonschema:"minLength=1,maxLength=128" doc:"Role of the SSH engine: 1 to 128 letters, digits, '.', '_' or '-'. The caller must have been granted it; whoami shows which are."`
}

type sshSignIn struct {
	sshRole
	PublicKey       string            `json:"public_key" jsonschema:"minLength=1,maxLength=16384" doc:"The public key to sign, one line as in a .pub file: its type, a blank, base64 and perhaps a comment, which is not kept. Ed25519, ECDSA, or RSA of at least 2048 bits. No options before it, no certificate, and never a private key."`
	CertType        string            `json:"cert_type,omitzero" jsonschema:"enum=user,enum=host,default=user" doc:"Whether the certificate is for a user who logs in or for a host that shows who it is."`
	ValidPrincipals string            `json:"valid_principals,omitzero" jsonschema:"minLength=1,maxLength=4096,pattern=^[A-Za-z0-9_][A-Za-z0-9._@-]*(\\,[A-Za-z0-9_][A-Za-z0-9._@-]*)*$" doc:"Names that the certificate is for, joined by commas without blanks, at most 64: users of the machines (letters, digits, '.', '_', '@' or '-', the first a letter, a digit or '_') or names of hosts. No wildcard. Without it a user certificate is for the role's default user, if it has one; a host certificate must have it. The role must allow each."`
	TTL             string            `json:"ttl,omitzero" jsonschema:"pattern=^[1-9][0-9]{0\\,6}[smh]?$" doc:"How long the certificate is valid from now, such as 5m or 1h; a bare number is seconds; at most 87600h. Vault refuses more than the role's maximum instead of giving less. Without it: as the role says."`
	KeyID           string            `json:"key_id,omitzero" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9._@:+=-]{0\\,127}$" doc:"Name under which servers log the certificate, if the role lets the caller choose it: 1 to 128 letters, digits or one of . _ @ : + = -, the first a letter or a digit."`
	Extensions      map[string]string `json:"extensions,omitzero" doc:"What the certificate permits, such as {\"permit-pty\": \"\"}, at most 16; it replaces the role's default. Without it: the role's default. The role must allow each."`
	CriticalOptions map[string]string `json:"critical_options,omitzero" doc:"What the certificate is restricted to, such as {\"source-address\": \"192.0.2.0/24\"} or {\"force-command\": \"uptime\"}, at most 16; it replaces the role's default. Without it: the role's default. The role must allow each."`

	request vaultx.SSHSignRequest
}

type sshSignOut struct {
	Certificate  string `json:"certificate" doc:"The signed key, one line for a file named as the private key with -cert.pub at its end. It is of use to the owner of the private key alone."`
	SerialNumber string `json:"serial_number" doc:"The certificate's serial number, in hex."`
}

type sshOTPIn struct {
	sshRole
	IP       string `json:"ip" jsonschema:"minLength=2,maxLength=45" doc:"Address of the host to log in to, IPv4 such as 192.0.2.7 or IPv6 such as 2001:db8::7. The role must allow it."`
	Username string `json:"username,omitzero" jsonschema:"pattern=^[A-Za-z0-9_][A-Za-z0-9._@-]{0\\,127}$" doc:"User to log in as: 1 to 128 letters, digits, '.', '_', '@' or '-', the first a letter, a digit or '_'. Without it: the role's default user. The role must allow it."`
	Port     int    `json:"port,omitzero" jsonschema:"minimum=1,maximum=65535,default=22" doc:"Port of the host's SSH server; it is only handed back, for whoever connects."`
	WrapTTL

	address netip.Addr
}

type sshOTPOut struct {
	IP            string      `json:"ip" doc:"Address of the host."`
	Username      string      `json:"username" doc:"User to log in as."`
	Port          int         `json:"port" doc:"Port of the host's SSH server."`
	OTP           secret.Text `json:"otp,omitzero" doc:"The password, good for one login to that host as that user. Do not repeat it."`
	LeaseID       Lease       `json:"lease_id" doc:"Handle of the password's lease; db.revoke ends it before it is used."`
	LeaseDuration int         `json:"lease_duration" doc:"Seconds until the password ends unused."`
	Wrapped
}

func sshTools() []*Tool {
	return []*Tool{
		Define(Tool{
			Name: "ssh.otp", Title: "Get a one-time SSH password",
			Doc:   "Get a password for one login to one host by SSH, where the host asks Vault about passwords. It can be used once. With wrap_ttl the password stays out of the answer, which then holds a single-use token for whoever logs in.",
			Scope: auth.Write, Effect: Uses,
			Needs: []Need{{Path: sshOTPPath, Capabilities: []string{"update"}}},
			Route: "POST /ssh/otp",
		}, sshOTP),
		Define(Tool{
			Name: "ssh.sign", Title: "Sign an SSH key",
			Doc:   "Have a public SSH key signed, which gives a certificate with which the owner of the private key can log in (or a host can show who it is) for a while. Ask for no more principals, time and extensions than are needed. The certificate is checked against what was asked for before it is handed over.",
			Scope: auth.Write, Effect: Uses,
			Needs: []Need{{Path: sshSignPath, Capabilities: []string{"update"}}},
			Route: "POST /ssh/sign",
		}, sshSign),
	}
}

func (in *sshSignIn) check() error {
	key, err := vaultx.ParseSSHPublicKey(in.PublicKey)
	if err != nil {
		return fault.Field("/public_key", fault.From(err).Msg)
	}
	principals, err := sshPrincipals(in.ValidPrincipals, in.CertType)
	if err != nil {
		return err
	}
	ttl, ok := readTTL(in.TTL)
	if in.TTL != "" && (!ok || ttl > vaultx.LongestSSHTTL) {
		return fault.Field("/ttl", "must be a duration from one second to 87600h, such as 5m or 1h")
	}
	if err := checkSSHOptions("/extensions", in.Extensions); err != nil {
		return err
	}
	if err := checkSSHOptions("/critical_options", in.CriticalOptions); err != nil {
		return err
	}
	in.request = vaultx.SSHSignRequest{
		Key: key, CertType: in.CertType, Principals: principals, TTL: ttl,
		KeyID: in.KeyID, Extensions: in.Extensions, CriticalOptions: in.CriticalOptions,
	}
	return nil
}

// sshPrincipals divides a list of names, and holds each against the grammar of
// its kind.
func sshPrincipals(list, certType string) ([]string, error) {
	const field = "/valid_principals"
	checkName := vaultx.CheckSSHPrincipal
	if certType == vaultx.SSHHost {
		checkName = vaultx.CheckSSHHost
	}
	if list == "" {
		if certType == vaultx.SSHHost {
			return nil, fault.Field(field, "is required for a host certificate, which without it would be good for every host")
		}
		return nil, nil
	}
	names := strings.Split(list, ",")
	if len(names) > maxSSHPrincipals {
		return nil, fault.Newf(fault.Invalid, "%s: must have at most %d names", field, maxSSHPrincipals).With("field", field)
	}
	for i, name := range names {
		if err := checkName(name); err != nil {
			return nil, fault.Field(field, fault.From(err).Msg)
		}
		if slices.Contains(names[:i], name) {
			return nil, fault.Field(field, "must not have a name twice")
		}
	}
	return names, nil
}

// checkSSHOptions holds extensions or critical options against their bounds. An
// empty object is refused: Vault would take it for the role's default, which may
// permit much, where the caller seems to want nothing.
func checkSSHOptions(field string, options map[string]string) error {
	if options == nil {
		return nil
	}
	if len(options) == 0 || len(options) > maxSSHOptions {
		return fault.Newf(fault.Invalid, "%s: must have 1 to %d members; leave it out for the role's default", field, maxSSHOptions).With("field", field)
	}
	for name, value := range options {
		if name == "" || len(name) > maxSSHOptionName || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-") != "" {
			return fault.Newf(fault.Invalid, "%s: a name has 1 to %d letters, digits, '.', '_', '@' or '-'", field, maxSSHOptionName).With("field", field)
		}
		if len(value) > maxSSHOptionValue || strings.ContainsFunc(value, unicode.IsControl) {
			return fault.Newf(fault.Invalid, "%s: a value has at most %d bytes and no control characters", field, maxSSHOptionValue).With("field", field)
		}
	}
	return nil
}

func (in *sshOTPIn) check() error {
	ip, err := netip.ParseAddr(in.IP)
	if err != nil || ip.Zone() != "" || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() {
		return fault.Field("/ip", "must be the IPv4 or IPv6 address of one host, without a zone, a port or a range")
	}
	in.address = ip
	return nil
}

func sshSign(ctx context.Context, env *Env, in sshSignIn) (sshSignOut, error) {
	cert, err := vaultx.SSHSign(ctx, env.Vault, in.request)
	return sshSignOut{Certificate: cert.Line, SerialNumber: cert.Serial}, err
}

func sshOTP(ctx context.Context, env *Env, in sshOTPIn) (sshOTPOut, error) {
	p, err := vaultx.SSHOTP(ctx, env.Vault, in.address, in.Username)
	if err != nil {
		env.issued(p.Lease.ID)
		return sshOTPOut{}, err
	}
	lease, err := env.Lease(p.Lease, in.Role)
	return sshOTPOut{
		IP: p.IP.String(), Username: p.Username, Port: in.Port, OTP: p.OTP,
		LeaseID: lease, LeaseDuration: p.Lease.Duration,
	}, err
}
