package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-mcp/fault"
)

func TestErrorsAreOfTheirKindAndOfTheirCause(t *testing.T) {
	for _, kind := range fault.Kinds() {
		err := fmt.Errorf("outer: %w", fault.Wrap(kind, "for the agent", io.ErrUnexpectedEOF))
		require.ErrorIs(t, err, kind)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, kind, fault.KindOf(err))
		for _, other := range fault.Kinds() {
			if other != kind {
				require.NotErrorIs(t, err, other)
			}
		}
		require.ErrorIs(t, fault.New(kind, "no cause"), kind)
		require.NotErrorIs(t, fault.New(kind, "no cause"), io.ErrUnexpectedEOF)
	}
}

// The strings are a public interface.
func TestKindsAreAClosedSet(t *testing.T) {
	require.Equal(t, []fault.Kind{
		"invalid", "unauthenticated", "forbidden", "not_found", "conflict",
		"rate_limited", "unavailable", "timeout", "canceled", "internal",
	}, fault.Kinds())
	fault.Kinds()[0] = "changed"
	require.Equal(t, fault.Invalid, fault.Kinds()[0], "a caller cannot change the list")
}

func TestTextNeverHasTheCause(t *testing.T) {
	cause := errors.New("upstream said hunter2")
	for _, err := range []*fault.Error{
		fault.Wrap(fault.Unavailable, "Vault cannot be reached", cause),
		fault.Wrap(fault.Unavailable, "Vault cannot be reached", cause).With("retry", true),
		fault.From(cause),
		fault.From(fmt.Errorf("wrapped: %w", cause)),
		fault.From(errors.Join(cause, context.DeadlineExceeded)),
	} {
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Msg, "hunter2")
		require.NotContains(t, fmt.Sprint(err.Details), "hunter2")
		require.ErrorIs(t, err, cause) // for the log
	}
	require.Equal(t, "not_found: there is no such secret", fault.New(fault.NotFound, "there is no such secret").Error())
	require.Equal(t, "invalid: at most 3", fault.Newf(fault.Invalid, "at most %d", 3).Error())
}

func TestFrom(t *testing.T) {
	require.Nil(t, fault.From(nil))
	require.Equal(t, fault.Kind(""), fault.KindOf(nil))

	own := fault.New(fault.Conflict, "changed meanwhile")
	require.Same(t, own, fault.From(own))
	require.Same(t, own, fault.From(fmt.Errorf("a: %w", fmt.Errorf("b: %w", own))))
	require.Same(t, own, fault.From(errors.Join(io.EOF, own)))

	for err, kind := range map[error]fault.Kind{
		context.DeadlineExceeded:                           fault.Timeout,
		context.Canceled:                                   fault.Canceled,
		fmt.Errorf("get: %w", context.DeadlineExceeded):    fault.Timeout,
		fmt.Errorf("get: %w", context.Canceled):            fault.Canceled,
		errors.New("anything"):                             fault.Internal,
		error(fault.NotFound):                              fault.Internal, // a bare kind is no message for an agent
		fault.Wrap(fault.Invalid, "x", context.Canceled):   fault.Invalid,
		fault.Wrap(fault.Internal, "x", fault.New("", "")): fault.Internal,
	} {
		require.Equal(t, kind, fault.KindOf(err), "%v", err)
		require.NotEmpty(t, fault.From(err).Msg)
	}
}

func TestFieldNamesTheArgument(t *testing.T) {
	err := fault.Field("/versions/0", "must be at least 1")
	require.Equal(t, fault.Invalid, err.Kind)
	require.Equal(t, "/versions/0: must be at least 1", err.Msg)
	require.Equal(t, map[string]any{"field": "/versions/0"}, err.Details)
}

func TestWithCopies(t *testing.T) {
	first := fault.New(fault.Conflict, "x").With("current_version", 3)
	second := first.With("outcome", "unknown")
	require.Equal(t, map[string]any{"current_version": 3}, first.Details)
	require.Equal(t, map[string]any{"current_version": 3, "outcome": "unknown"}, second.Details)
	require.Equal(t, first.Msg, second.Msg)
	require.ErrorIs(t, second, fault.Conflict)
}
