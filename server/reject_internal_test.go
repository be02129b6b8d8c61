package server

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
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

// A customer has one IPv6 /64, however many addresses that is.
func TestAddressesOfOneNetwork(t *testing.T) {
	require.Equal(t, auth.Network("2001:db8::1"), auth.Network("[2001:db8::ffff:2]:443"))
	require.NotEqual(t, auth.Network("2001:db8::1"), auth.Network("2001:db8:0:1::1"))
	require.Equal(t, "192.0.2.1", auth.Network("::ffff:192.0.2.1"))
	require.Equal(t, "@", auth.Network("@"))
}

// A session may start after its client hung up and its seat was released.
func TestSeatTakenLate(t *testing.T) {
	s := newSessions(1, 1)
	living := map[string]bool{"one": true}
	open := func() map[string]bool { return living }
	seat, full := s.reserve("dev", open)
	require.Nil(t, full)
	seat.release()
	seat.take("one")
	_, full = s.reserve("dev", open)
	require.NotNil(t, full, "the session lives and is not counted")
	delete(living, "one")
	_, full = s.reserve("dev", open)
	require.Nil(t, full)
}
