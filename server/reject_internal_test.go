package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/auth"
)

// A customer has one IPv6 /64, however many addresses that is.
func TestAddressesOfOneNetwork(t *testing.T) {
	require.Equal(t, auth.Network("2001:db8::1"), auth.Network("[2001:db8::ffff:2]:443"))
	require.NotEqual(t, auth.Network("2001:db8::1"), auth.Network("2001:db8:0:1::1"))
	require.Equal(t, "192.0.2.1", auth.Network("::ffff:192.0.2.1"))
	require.Equal(t, "@", auth.Network("@"))
}

// A session may start after its client hung up and its seat was released.
func TestSeatTakenLate(t *testing.T) {
	s := newSessions("sessions", 1, 1)
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
