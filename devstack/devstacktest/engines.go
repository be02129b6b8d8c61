package devstacktest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/devstack"
)

// Postgres returns the PostgreSQL that all tests of this binary share. Tests
// leave its demo table as it is, and do not stop it.
func Postgres(tb testing.TB) *devstack.Postgres {
	tb.Helper()
	p, err := postgres.get(tb)
	can(tb, err)
	return p
}

// Engines returns a Vault that all tests of this binary share, with every engine
// of devstack mounted and seeded: see the names in that package. Its database
// engine gives out credentials of Postgres. Tests make further keys and roles by
// names of their own.
func Engines(tb testing.TB) *devstack.Vault {
	tb.Helper()
	v, err := engines.get(tb)
	can(tb, err)
	return v
}

// KMS returns the local-kms that all tests of this binary share, with the keys
// of devstack's aliases. Tests make further keys by Request, and do not stop it.
func KMS(tb testing.TB) *devstack.KMS {
	tb.Helper()
	k, err := kms.get(tb)
	can(tb, err)
	return k
}

// Redis returns a Redis that ends with the test. Tests kill and restart it as
// they like.
func Redis(tb testing.TB, opt devstack.RedisOptions) *devstack.Redis {
	tb.Helper()
	r, err := devstack.StartRedis(context.Background(), opt)
	can(tb, err)
	tb.Cleanup(r.Stop)
	return r
}

func startEngines(ctx context.Context) (*devstack.Vault, error) {
	p, err := postgres.take()
	if err != nil {
		return nil, err
	}
	plugin, err := devstack.FindPostgresPlugin(ctx, say)
	if err != nil {
		return nil, err
	}
	v, err := start(ctx, Options{PostgresPlugin: plugin})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(v.SeedTransit(ctx), v.SeedSSH(ctx), v.SeedDatabase(ctx, p)); err != nil {
		v.Stop()
		return nil, err
	}
	return v, nil
}

// can ends a test whose server this machine has not, and fails one whose server
// does not start.
func can(tb testing.TB, err error) {
	tb.Helper()
	for _, missing := range []error{devstack.ErrNoPostgres, devstack.ErrNoPostgresPlugin, devstack.ErrNoLocalKMS, devstack.ErrNoRedis} {
		if errors.Is(err, missing) {
			Cannot(tb, "%v", err)
		}
	}
	require.NoError(tb, err)
}
