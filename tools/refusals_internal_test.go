package tools

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A flood from any number of addresses neither keeps the refusals of principals
// out of the trail nor fills it, and loses no count.
func TestRefusalsOfManyAddresses(t *testing.T) {
	r := newRefusals()
	refuse := func(key refusedKey) (recorded, counted int) {
		ok, skipped := r.admit(key)
		if !ok {
			return 0, 0
		}
		return 1, skipped
	}
	recorded, counted := 0, 0
	const flood = 3 * maxRefused
	for i := range flood {
		for _, limited := range []bool{true, true, false} {
			a, b := refuse(refusedKey{id: fmt.Sprint(i), limited: limited})
			recorded, counted = recorded+a, counted+b
		}
	}
	require.LessOrEqual(t, len(r.callers), maxRefused)
	require.LessOrEqual(t, recorded, strangersBurst+10*strangersPerSecond, "strangers have one rate in all")
	for i := range 200 { // there is no room for them either
		a, _ := refuse(refusedKey{id: fmt.Sprint(i), known: true})
		require.Equal(t, 1, a, "the refusal of a principal goes unrecorded")
	}
	require.Equal(t, 3*flood, recorded+counted+r.rest())
	require.Zero(t, r.rest(), "what was told is told")
}

func TestRefusalsAreForgottenWithTheirCount(t *testing.T) {
	r := newRefusals()
	key := refusedKey{id: "a", limited: true}
	for range 3 {
		r.admit(key)
	}
	r.prune()
	require.Contains(t, r.callers, key, "its allowance is not whole")
	r.callers[key].limit.SetBurst(0)
	r.prune()
	require.Empty(t, r.callers)
	require.Equal(t, 2, r.rest())
}
