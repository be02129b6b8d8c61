package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"vault-mcp/auth"
)

// jwksCommand makes keys for signing tokens, where no issuer does.
func jwksCommand(o *options) *cobra.Command {
	cmd := group(&cobra.Command{Use: "jwks", Short: "Make a key pair that signs JSON Web Tokens"})
	cmd.AddCommand(jwksGenerateCommand(o))
	return cmd
}

func jwksGenerateCommand(o *options) *cobra.Command {
	var kind, private, public string
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make a private key and the file of its public key",
		Long: "Make a private key (PEM, mode 0600), with which 'vault-mcp token issue' signs, and the JSON Web\n" +
			"Key Set of its public key, which is what JWT_JWKS_FILE names. Neither replaces a file.",
		Example: "  vault-mcp jwks generate --type ed25519",
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			key, err := auth.NewSigningKey(kind)
			if err != nil {
				return signingError(err)
			}
			pem, err := key.PEM()
			if err != nil {
				return err
			}
			set, err := key.JWKS()
			if err != nil {
				return err
			}
			if err := writeNew(private, []byte(pem.Reveal()), 0o600); err != nil {
				return err
			}
			if err := writeNew(public, set, 0o644); err != nil {
				return errors.Join(err, os.Remove(private))
			}
			_, err = fmt.Fprintf(o.err, "key %s: the private key is in %s, the key set for JWT_JWKS_FILE in %s\n", key.ID(), private, public)
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "type", "ec", "kind of key: rsa, ec (P-256) or ed25519")
	cmd.Flags().StringVar(&private, "key", "jwt-key.pem", "file to write the private key to")
	cmd.Flags().StringVar(&public, "jwks", "jwks.json", "file to write the key set to")
	return cmd
}

// writeNew writes a file that is not there yet.
func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return usage("%s is there already; name another file, or move it away", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
