package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vault-mcp/auth"
	"vault-mcp/config"
	"vault-mcp/fault"
	"vault-mcp/secret"
)

// tokenCommand makes tokens from a local key, where no issuer does.
func tokenCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{Use: "token", Short: "Make JSON Web Tokens from a local signing key"})
	cmd.AddCommand(tokenIssueCommand(o))
	return cmd
}

// maxPEM bounds a file with a private key.
const maxPEM = 64 << 10

// tokenFlags are the flags of 'token issue'.
type tokenFlags struct {
	subject, issuer, ttl, key string
	audience, scopes, claims  []string
}

func tokenIssueCommand(o *options) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "issue --subject SUBJECT",
		Short: "Sign a token for a subject and print it",
		Long: "Sign a token for a subject and print it, alone on a line. It is signed with the private key\n" +
			"of 'vault-mcp jwks generate', or else with JWT_HS256_SECRET; issuer and audience are those\n" +
			"that the settings want. A token cannot be taken back: give it a short life.",
		Example: "  vault-mcp token issue --subject dev-bot --scopes kv:read,list --ttl 1h --key jwt-key.pem",
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			n, err := f.token(cfg)
			if err != nil {
				return err
			}
			key, err := f.signingKey(cfg)
			if err != nil {
				return err
			}
			now := time.Now()
			token, err := key.Issue(n, now)
			if err != nil {
				return signingError(err)
			}
			if _, err := fmt.Fprintf(o.err, "token of %s, scopes %s, expires %s\n",
				printable(n.Subject), dash(strings.Join(f.scopes, " ")), stamp(now.Add(n.Lifetime))); err != nil {
				return err
			}
			_, err = fmt.Fprintln(o.out, token.Reveal())
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.subject, "subject", "", "for whom the token is (required)")
	flags.StringSliceVar(&f.scopes, "scopes", []string{"read", "write", "delete", "list"}, "what it may do: read, write, delete, list, each also for one engine, as kv:read")
	flags.StringVar(&f.ttl, "ttl", "1h", "how long it is good, as 8h or 30d")
	flags.StringVar(&f.key, "key", "", "file of the private key in PEM (default: sign with JWT_HS256_SECRET)")
	flags.StringVar(&f.issuer, "issuer", "", "the claim iss (default: JWT_ISSUER, else OIDC_ISSUER)")
	flags.StringSliceVar(&f.audience, "audience", nil, "the claim aud (default: JWT_AUDIENCE, else PUBLIC_URL)")
	flags.StringArrayVar(&f.claims, "claim", nil, "another claim, as team=payments; repeatable")
	return cmd
}

// token is what the flags and the settings want of a token.
func (f *tokenFlags) token(cfg *config.Config) (n auth.NewJWT, err error) {
	n = auth.NewJWT{
		Subject: f.subject, Audience: f.audience, Claims: map[string]string{},
		Issuer: cmp.Or(f.issuer, cfg.JWT.Issuer, cfg.JWT.OIDC),
	}
	if n.Subject == "" {
		return n, usage("--subject is needed: for whom is the token?")
	}
	if len(n.Audience) == 0 {
		n.Audience = cfg.JWT.Audience
	}
	if len(n.Audience) == 0 && cfg.HTTP.PublicURL != "" {
		n.Audience = []string{cfg.HTTP.PublicURL}
	}
	if n.Scopes, err = auth.ParseScopes(f.scopes); err != nil {
		return n, signingError(err)
	}
	if n.Lifetime, err = lifetime("--ttl", f.ttl); err != nil {
		return n, err
	}
	if n.Lifetime < time.Second {
		return n, usage("--ttl: want a second or more; a token has to end")
	}
	for _, text := range f.claims {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return n, usage("--claim: want a name and a value, as team=payments")
		}
		n.Claims[name] = value
	}
	return n, nil
}

// signingKey is the key of --key, else the secret of the settings.
func (f *tokenFlags) signingKey(cfg *config.Config) (*auth.SigningKey, error) {
	if f.key == "" {
		if cfg.JWT.Secret.IsZero() {
			return nil, usage("there is no key to sign with: want --key, or JWT_HS256_SECRET")
		}
		key, err := auth.SecretSigningKey(cfg.JWT.Secret)
		return key, signingError(err)
	}
	pem, _, err := secret.ReadPrivate(f.key, maxPEM)
	if err != nil {
		return nil, usage("--key: the file cannot be used: %w", err)
	}
	key, err := auth.ParseSigningKey(secret.NewText(string(pem)))
	return key, signingError(err)
}

// signingError is what is wrong with a key or a token, as a mistake in the call
// where it is one; nil is none.
func signingError(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return usageError{errors.New(f.Msg)}
	}
	return err
}
