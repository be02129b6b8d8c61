package fault

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
)

// MsgInternal is what callers are told of what is no fault of theirs.
const MsgInternal = "internal error; the operator finds the cause under the request id"

// Panicked turns what recover gave, in the deferred function that calls this,
// into an internal error. A panic's value may hold anything, a secret too, so
// only the runtime's own errors keep their text; and of the stack only functions
// and lines are kept, since the usual trace prints the words of which arguments
// are made.
func Panicked(p any) *Error {
	what := fmt.Sprintf("panic of type %T", p)
	if e, ok := p.(runtime.Error); ok {
		what = "panic: " + e.Error()
	}
	var b strings.Builder
	b.WriteString(what)
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for more := true; more; {
		var at runtime.Frame
		at, more = frames.Next()
		fmt.Fprintf(&b, "\n%s %s:%d", at.Function, filepath.Base(at.File), at.Line)
	}
	return Wrap(Internal, MsgInternal, errors.New(b.String()))
}
