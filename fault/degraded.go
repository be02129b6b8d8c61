package fault

import "errors"

// Degraded makes a fault one of a check that finds something at work which may
// not go on, or not as it should: calls are served all the same.
func Degraded(why *Error) error { return degraded{why} }

type degraded struct{ why *Error }

func (d degraded) Error() string { return d.why.Error() }
func (d degraded) Unwrap() error { return d.why }
func (degraded) Degraded() bool  { return true }

// IsDegraded reports whether what a check found still serves calls: its error has
// a method Degraded that says so.
func IsDegraded(err error) bool {
	var still interface{ Degraded() bool }
	return errors.As(err, &still) && still.Degraded()
}
