package faulttest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
	"vault-mcp/fault/faulttest"
)

func TestTextHasEveryLink(t *testing.T) {
	joined := errors.Join(errors.New("first"), fmt.Errorf("second: %w", errors.New("third")))
	text := faulttest.Text(fault.Wrap(fault.Invalid, "told", joined).With("field", "/x"))
	for _, words := range []string{"told", "first", "second", "third", "/x"} {
		require.Contains(t, text, words)
	}
}
