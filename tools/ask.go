package tools

import (
	"context"
	"time"

	"go.uber.org/zap"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
)

// asking is a request that runs no tool, and is held to the same discipline as one
// that does: it counts against its principal's limit and leaves one record.
type asking struct {
	operation string // stands for the name of a tool in the record; none has it
	principal *auth.Principal
	transport string
	remote    string
	requestID string
	args      map[string]string // keyed hashes of what was given
}

// ask does a request, for a principal that is present and within its limit. do
// says what it is about, for the record, even where it refuses. The error is a
// *fault.Error; with one, what do made is not to be used.
func (r *Runner) ask(ctx context.Context, a asking, do func() (needs []string, err error)) error {
	start := r.opt.Now()
	flood, err := r.present(ctx, a.principal, start)
	if flood && !r.admit(Rejection{Principal: a.principal, Transport: a.transport, Remote: a.remote, RequestID: a.requestID, Err: err}) {
		return err
	}
	rec := audit.Record{
		Kind: audit.Outcome, RequestID: a.requestID, Transport: a.transport, Remote: a.remote,
		Tool: a.operation, Args: a.args, Outcome: "ok",
	}
	identify(&rec, a.principal)
	if err == nil {
		rec.Needs, err = do()
	}
	rec.DurationUS = r.opt.Now().Sub(start).Microseconds()
	fields := []zap.Field{
		zap.String("request_id", rec.RequestID), zap.String("transport", rec.Transport),
		zap.String("subject", rec.Subject), zap.String("tool", rec.Tool),
	}
	if err != nil {
		f := fault.From(err)
		err, rec.Outcome, rec.Detail = f, string(f.Kind), f.Msg
		fields = append(fields, cause(f))
	}
	if refused := r.trail.Append(rec); refused != nil {
		r.log.Error("ask", append(fields, unrecorded(fault.From(refused)))...)
		return fault.From(refused)
	}
	r.log.Info("ask", append(fields, zap.String("outcome", rec.Outcome), zap.String("detail", rec.Detail))...)
	return err
}

// present holds a principal against its credential's end and its limit. flood says
// that there may be any number of such refusals.
func (r *Runner) present(ctx context.Context, p *auth.Principal, now time.Time) (flood bool, err error) {
	if !p.Valid(now) {
		return true, fault.New(fault.Unauthenticated, "the credential is missing or has expired")
	}
	if d := r.limiter.Allow(ctx, p.ID(), p.Limit, 1); !d.OK {
		limited := fault.New(fault.RateLimited, "too many calls; wait before the next one")
		limited.RetryAfter = d.RetryAfter
		return true, limited
	}
	return false, nil
}
