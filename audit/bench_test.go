package audit_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/audit"
)

func BenchmarkAppend(b *testing.B) {
	r := attempt("0192f0c1-7a6e-7000-8000-000000000000")
	r.Args = map[string]string{"path": "", "data": "", "cas": ""}
	for _, mode := range []audit.Sync{audit.Interval, audit.Always} {
		b.Run(string(mode)+"/serial", func(b *testing.B) {
			trail := open(b, audit.Options{Dir: b.TempDir(), Sync: mode})
			b.ReportAllocs()
			for b.Loop() {
				r.Args["path"] = trail.HMAC([]byte(`"team/app/database"`))
				if err := trail.Append(r); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, trail.Close())
		})
		b.Run(string(mode)+"/parallel", func(b *testing.B) {
			trail := open(b, audit.Options{Dir: b.TempDir(), Sync: mode})
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := trail.Append(r); err != nil {
						b.Error(err)
						return
					}
				}
			})
			require.NoError(b, trail.Close())
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	path := write(b, audit.Options{Dir: b.TempDir()}, 5000)
	for b.Loop() {
		verifyOK(b, path)
	}
	b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "records/s")
}
