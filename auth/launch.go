package auth

import (
	"strings"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// checkLaunch refuses several launch credentials: who calls has to be clear.
func (o *Options) checkLaunch() error {
	given := 0
	for _, is := range []bool{!o.LaunchKey.IsZero(), !o.JWT.Launch.IsZero(), o.JWT.LaunchFile != ""} {
		if is {
			given++
		}
	}
	if given > 1 {
		return fault.New(fault.Invalid, "VAULT_MCP_API_KEY, VAULT_MCP_JWT and VAULT_MCP_JWT_FILE: want only one of them")
	}
	return nil
}

// launches reports whether a stdio process calls as the holder of a JWT.
func (o *JWTOptions) launches() bool { return !o.Launch.IsZero() || o.LaunchFile != "" }

// launch is the JWT of a stdio process. A file is read anew, since what keeps it
// replaces it before the token in it ends.
func (o *JWTOptions) launch() (string, error) {
	token := o.Launch.Reveal()
	if o.LaunchFile != "" {
		data, _, err := secret.ReadUnforged(o.LaunchFile, maxCredential)
		if err != nil {
			return "", fault.Wrap(fault.Unauthenticated, "the file of this process's JWT cannot be used", err)
		}
		token = strings.TrimSpace(string(data))
	}
	if !isJWT(token) {
		return "", refuse("what this process was launched with is not a JWT: three parts with points between")
	}
	return token, nil
}
