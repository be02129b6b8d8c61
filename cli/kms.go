package cli

import (
	"context"

	"vault-mcp/config"
	"vault-mcp/kmsx"
)

// openKMS makes the client of AWS KMS; nil where it is not enabled. It reads the
// AWS SDK's files and does not wait for AWS.
func openKMS(cfg *config.Config) (*kmsx.Client, error) {
	if !cfg.KMS.Enabled {
		return nil, nil
	}
	return kmsx.New(context.Background(), kmsx.Config{
		Region: cfg.KMS.Region, Endpoint: cfg.KMS.Endpoint, FIPS: cfg.KMS.FIPS, DefaultKeyID: cfg.KMS.DefaultKeyID,
		AccessKeyID: cfg.KMS.AccessKeyID.Reveal(), SecretAccessKey: cfg.KMS.SecretAccessKey, SessionToken: cfg.KMS.SessionToken,
		SubjectContext: cfg.KMS.SubjectContext, MaxConcurrent: cfg.KMS.MaxConcurrent,
	})
}
