package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

// A degraded fault is told from the same one that is not, through whatever is
// wrapped around it, and stays the fault that it is.
func TestDegraded(t *testing.T) {
	why := fault.Wrap(fault.Unavailable, "in words", errors.New("secret"))
	err := fault.Degraded(why)
	require.True(t, fault.IsDegraded(err))
	require.True(t, fault.IsDegraded(fmt.Errorf("more: %w", err)))
	require.ErrorIs(t, err, fault.Unavailable)
	require.Same(t, why, fault.From(err))
	require.Equal(t, "unavailable: in words", err.Error())
	for _, other := range []error{nil, why, fault.Unavailable, errors.New("x")} {
		require.False(t, fault.IsDegraded(other))
	}
}
