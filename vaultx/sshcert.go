package vaultx

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"vault-mcp/fault"
)

const (
	// LongestSSHTTL bounds what may be asked for, and what a role's default may
	// give: ten years, as host certificates commonly have.
	LongestSSHTTL = 87600 * time.Hour
	// clockSkew is by how much Vault's clock may be ahead of ours.
	clockSkew = time.Minute

	maxPrincipalBytes = 128
	maxHostBytes      = 253
)

// CheckSSHPrincipal holds a user's name against the grammar: 1 to 128 letters,
// digits, '.', '_', '@' or '-', of which the first is a letter, a digit or '_'.
// So it is one name, and never a wildcard, an option or a list.
func CheckSSHPrincipal(name string) error {
	ok := name != "" && len(name) <= maxPrincipalBytes && !strings.ContainsRune(".@-", rune(name[0]))
	for i := 0; ok && i < len(name); i++ {
		ok = segmentByte[name[i]] && name[i] != '='
	}
	if !ok {
		return fault.Newf(fault.Invalid, "a user's name has 1 to %d letters, digits, '.', '_', '@' or '-', and begins with a letter, a digit or '_'; no blanks, no wildcard", maxPrincipalBytes)
	}
	return nil
}

// CheckSSHHost holds a host's name against the grammar: labels of letters,
// digits, '_' and '-', joined by dots, at most 253 bytes.
func CheckSSHHost(name string) error {
	ok := name != "" && len(name) <= maxHostBytes
	for label := range strings.SplitSeq(name, ".") {
		ok = ok && label != "" && len(label) <= 63 && label[0] != '-'
		for i := 0; ok && i < len(label); i++ {
			ok = segmentByte[label[i]] && label[i] != '=' && label[i] != '@'
		}
	}
	if !ok {
		return fault.Newf(fault.Invalid, "a host's name has labels of 1 to 63 letters, digits, '_' or '-', joined by dots, and at most %d bytes; no blanks, no wildcard", maxHostBytes)
	}
	return nil
}

// checkSSHCertificate reads a certificate that Vault gave and holds it against
// what was asked for. Where a field was left to the role, what the role gave is
// taken, as long as it bounds the certificate at all.
func checkSSHCertificate(text string, req SSHSignRequest, now time.Time) (SSHCertificate, error) {
	cert, err := parseSSHCertificate(text)
	if err != nil {
		return SSHCertificate{}, err
	}
	kind, check := uint32(ssh.UserCert), CheckSSHPrincipal
	if req.CertType == SSHHost {
		kind, check = ssh.HostCert, CheckSSHHost
	}
	longest := LongestSSHTTL
	if req.TTL > 0 {
		longest = req.TTL
	}
	switch {
	case !bytes.Equal(cert.Key.Marshal(), req.Key.key.Marshal()):
		return SSHCertificate{}, withheld("it is for another key")
	case cert.CertType != kind:
		return SSHCertificate{}, withheld("it is of the other kind, user or host")
	case len(cert.ValidPrincipals) == 0:
		return SSHCertificate{}, withheld("it has no principals, which is to say all; give valid_principals, or have an operator give the role a default user")
	case slices.ContainsFunc(cert.ValidPrincipals, func(p string) bool { return check(p) != nil }):
		return SSHCertificate{}, withheld("it has a principal that is no plain name")
	case len(req.Principals) > 0 && slices.ContainsFunc(cert.ValidPrincipals, func(p string) bool { return !slices.Contains(req.Principals, p) }):
		return SSHCertificate{}, withheld("it has a principal that was not asked for")
	case cert.ValidAfter >= cert.ValidBefore || cert.ValidBefore > uint64(now.Add(longest+clockSkew).Unix()):
		return SSHCertificate{}, withheld("it is valid for longer than was asked for, or Vault's clock is ahead")
	case req.KeyID != "" && cert.KeyId != req.KeyID:
		return SSHCertificate{}, withheld("it has another key id")
	case len(req.CriticalOptions) > 0 && !maps.Equal(cert.CriticalOptions, req.CriticalOptions):
		return SSHCertificate{}, withheld("it has other critical options, which restrict it")
	case len(req.Extensions) > 0 && !within(cert.Extensions, req.Extensions):
		return SSHCertificate{}, withheld("it has an extension that was not asked for")
	}
	return SSHCertificate{
		Line:   string(bytes.TrimSuffix(ssh.MarshalAuthorizedKey(cert), []byte("\n"))),
		Serial: strconv.FormatUint(cert.Serial, 16),
	}, nil
}

// parseSSHCertificate reads one certificate whose signature is that of the
// authority that it names.
func parseSSHCertificate(text string) (*ssh.Certificate, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	cert, ok := key.(*ssh.Certificate)
	if err != nil || !ok || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, withheld("it is no SSH certificate")
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: slices.Collect(maps.Keys(cert.CriticalOptions)),
		// Whether it is valid now is not the question, and clocks differ.
		Clock: func() time.Time { return time.Unix(int64(cert.ValidAfter), 0) },
	}
	principal := ""
	if len(cert.ValidPrincipals) > 0 {
		principal = cert.ValidPrincipals[0]
	}
	if checker.CheckCert(principal, cert) != nil {
		return nil, withheld("its signature or its times are not right")
	}
	return cert, nil
}

// within reports whether each pair of a stands in b.
func within(a, b map[string]string) bool {
	for name, value := range a {
		if wanted, ok := b[name]; !ok || wanted != value {
			return false
		}
	}
	return true
}

func withheld(why string) *fault.Error {
	return fault.New(fault.Unavailable, "Vault's certificate is not what was asked for, so it is withheld: "+why)
}
