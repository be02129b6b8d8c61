package vaultx_test

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-mcp/devstack/devstacktest"
	"vault-mcp/vaultx"
)

// BenchmarkRead compares a read through the adapter to the stock client's own,
// against the same real Vault. The two take turns, so that what else the machine
// does weighs on both; "ratio" is our time over theirs.
func BenchmarkRead(b *testing.B) {
	v := devstacktest.Shared(b)
	require.NoError(b, v.PutSecret(context.Background(), prefix+"/bench", map[string]any{"user": "app", "password": "not-a-secret"}))
	c := realClient(b, v)
	config := api.DefaultConfig()
	config.Address = v.Addr
	stock, err := api.NewClient(config)
	require.NoError(b, err)
	stock.SetToken(v.RootToken.Reveal())
	defer config.HttpClient.CloseIdleConnections()

	op := on(b, "read", kvData, "bench")
	ours := func() error {
		_, err := vaultx.KVRead(context.Background(), c.Bind(op, vaultx.BindOptions{Owner: prefix, Retryable: true}), 0)
		return err
	}
	theirs := func() error {
		_, err := stock.Logical().ReadWithContext(context.Background(), "secret/data/"+prefix+"/bench")
		return err
	}
	const turn = 32
	var spent [2]time.Duration
	b.ReportAllocs()
	for b.Loop() {
		for i, do := range []func() error{ours, theirs} {
			start := time.Now()
			for range turn {
				require.NoError(b, do())
			}
			spent[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(spent[0])/float64(spent[1]), "ratio")
	b.ReportMetric(float64(spent[0].Microseconds())/float64(b.N*turn), "µs/ours")
	b.ReportMetric(float64(spent[1].Microseconds())/float64(b.N*turn), "µs/theirs")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDo and BenchmarkStock show allocations, which the turns above mix.
func BenchmarkDo(b *testing.B) {
	v := devstacktest.Shared(b)
	require.NoError(b, v.PutSecret(context.Background(), prefix+"/bench", map[string]any{"a": "1"}))
	c, op := realClient(b, v), on(b, "read", kvData, "bench")
	b.ReportAllocs()
	for b.Loop() {
		_, err := c.Bind(op, vaultx.BindOptions{Owner: prefix, Retryable: true}).Do(context.Background(), vaultx.Request{})
		require.NoError(b, err)
	}
}

func BenchmarkStock(b *testing.B) {
	v := devstacktest.Shared(b)
	require.NoError(b, v.PutSecret(context.Background(), prefix+"/bench", map[string]any{"a": "1"}))
	config := api.DefaultConfig()
	config.Address = v.Addr
	stock, err := api.NewClient(config)
	require.NoError(b, err)
	stock.SetToken(v.RootToken.Reveal())
	defer config.HttpClient.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		_, err := stock.Logical().ReadWithContext(context.Background(), "secret/data/"+prefix+"/bench")
		require.NoError(b, err)
	}
}
