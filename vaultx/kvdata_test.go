package vaultx

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A number survives if the shortest decimal form of its float64, which is what
// Vault writes, has the same value: exact arithmetic is the judge.
func TestSurvivesAgreesWithExactArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(
			rapid.StringMatching(`-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?`),
			rapid.Map(rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }), func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }),
			rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
			rapid.Map(rapid.Float64Range(-1e6, 1e6), func(f float64) string { return fmt.Sprintf("%.3f", f) }),
		).Draw(t, "number")
		given, ok := new(big.Rat).SetString(number)
		require.True(t, ok, number)
		want := false
		if f, err := strconv.ParseFloat(number, 64); err == nil && !math.IsInf(f, 0) {
			kept, ok := new(big.Rat).SetString(strconv.FormatFloat(f, 'e', -1, 64))
			want = ok && kept.Cmp(given) == 0
		}
		require.Equal(t, want, survives(number))
	})
}
