package fault_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

func caught(do func(secret string)) (f *fault.Error) {
	defer func() { f = fault.Panicked(recover()) }()
	do("canary")
	return nil
}

// Of a panic the place is kept, and the runtime's own words; its value and the
// arguments on the stack are not.
func TestPanicked(t *testing.T) {
	for words, do := range map[string]func(string){
		"panic of type string":     func(s string) { panic(s) },
		"index out of range":       func(s string) { _ = s[len(s)] },
		"panic of type map[string": func(s string) { panic(map[string]string{s: s}) },
	} {
		f := caught(do)
		require.Equal(t, fault.Internal, f.Kind)
		require.Equal(t, fault.MsgInternal, f.Msg)
		require.ErrorContains(t, f.Err, words)
		require.ErrorContains(t, f.Err, "panic_test.go:")
		require.ErrorContains(t, f.Err, "fault_test.TestPanicked")
		require.NotContains(t, f.Err.Error(), "canary")
		require.NotContains(t, f.Err.Error(), "0x")
	}
}
