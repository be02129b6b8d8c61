package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// record fills what is known of a call so far. Arguments and results stand in
// it only as keyed hashes.
func (r *run) record(kind audit.Kind) audit.Record {
	rec := audit.Record{
		Kind:      kind,
		RequestID: r.call.RequestID,
		Transport: r.call.Transport,
		Remote:    r.call.Remote,
		Needs:     r.ops,
	}
	identify(&rec, r.call.Principal)
	if r.tool != nil {
		rec.Tool, rec.Scope = r.tool.Name, string(r.tool.Scope)
	}
	return rec
}

func identify(rec *audit.Record, p *auth.Principal) {
	if p == nil {
		return
	}
	rec.Subject, rec.AuthMethod, rec.CredentialID = p.Slug, string(p.Method), p.CredentialID
	rec.Issuer, rec.Rule = p.Issuer, p.Rule
}

// attempt records what is about to be done; without the record it is not done.
func (r *run) attempt() error {
	rec := r.record(audit.Attempt)
	rec.Args = r.hashedArgs()
	if err := r.trail.Append(rec); err != nil {
		return err
	}
	r.tried = true
	return nil
}

// finish writes the outcome, logs it, and returns the error that the caller
// gets: its own, or that of the trail. What the trail does not take is not
// answered, whether it is a result or a refusal. A flood of calls that never get
// past the caller's limit is only counted, since it would fill the disk.
func (r *run) finish(ctx context.Context, err error) error {
	if r.flood && !r.admit(Rejection{
		Principal: r.call.Principal, Transport: r.call.Transport, Remote: r.call.Remote, RequestID: r.call.RequestID, Err: err,
	}) {
		return err
	}
	rec := r.record(audit.Outcome)
	if !r.tried {
		rec.Args = r.hashedArgs()
	}
	rec.Outcome = "ok"
	rec.DurationUS = r.opt.Now().Sub(r.start).Microseconds()
	var ids []string
	for _, bound := range []*vaultx.Bound{r.vaults, r.wraps, r.gaveBack} {
		if bound != nil {
			ids = append(ids, bound.RequestIDs()...)
		}
	}
	rec.VaultRequestID = strings.Join(ids, " ")
	if r.keys != nil {
		rec.AWSRequestID = strings.Join(r.keys.RequestIDs(), " ")
	}
	var f *fault.Error
	if err != nil {
		f = fault.From(err)
		rec.Outcome, rec.Detail = outcome(f), f.Msg
	} else {
		rec.Result = r.trail.HMAC(r.result)
	}
	refused := r.trail.Append(rec)
	r.publishCompleted(err == nil && refused == nil)
	if refused == nil {
		r.logOutcome(rec, f, nil)
		if f != nil {
			return f
		}
		return nil
	}
	if err == nil {
		r.giveBack(ctx) // nobody gets the result
	}
	told := fault.From(refused)
	if r.tried {
		told = fault.Wrap(told.Kind, "the audit trail cannot be written, so the result of the call is withheld", refused)
		told.Details = fault.From(refused).Details
		if !r.tool.Retryable && (f == nil || rec.Outcome == outcomeUnknown) {
			told = told.With("outcome", outcomeUnknown) // to the caller, who must look before trying again
		}
	}
	r.logOutcome(rec, f, told)
	return told
}

// outcomeUnknown stands in records and details for a change of which nobody
// can say whether it took place.
const outcomeUnknown = "unknown"

func outcome(f *fault.Error) string {
	if f.Details["outcome"] == outcomeUnknown {
		return outcomeUnknown
	}
	return string(f.Kind)
}

// hashedArgs is the keyed hash of each argument. Arguments that were not
// divided, because the call was refused before or by that, have one hash.
func (r *run) hashedArgs() map[string]string {
	if len(r.call.Args) == 0 {
		return nil
	}
	if r.values == nil {
		return map[string]string{"*": r.trail.HMAC(r.call.Args)}
	}
	hashed := make(map[string]string, len(r.values))
	for i, value := range r.values {
		if value != nil {
			hashed[r.tool.input.args[i].name] = r.trail.HMAC(value)
		}
	}
	return hashed
}

// logOutcome writes the one line of a call. refused is why the trail did not
// take the outcome.
func (r *run) logOutcome(rec audit.Record, f, refused *fault.Error) {
	fields := make([]zap.Field, 0, 10)
	fields = append(fields,
		zap.String("request_id", rec.RequestID),
		zap.String("transport", rec.Transport),
		zap.String("subject", rec.Subject),
		zap.String("tool", rec.Tool),
		zap.String("outcome", rec.Outcome),
		zap.Int64("duration_us", rec.DurationUS),
	)
	if rec.VaultRequestID != "" {
		fields = append(fields, zap.String("vault_request_id", rec.VaultRequestID))
	}
	if rec.AWSRequestID != "" {
		fields = append(fields, zap.String("aws_request_id", rec.AWSRequestID))
	}
	write := r.log.Info
	if f != nil {
		fields = append(fields, zap.String("detail", f.Msg))
		switch f.Kind {
		case fault.Internal, fault.Unavailable, fault.Timeout:
			fields = append(fields, cause(f))
			write = r.log.Error
		default: // the caller's own doing, or Vault's answer
		}
	}
	if refused != nil {
		fields = append(fields, unrecorded(refused))
		write = r.log.Error
	}
	write("call", fields...)
}

// cause is the reason behind an error, for operators. Adapters put nothing of
// a request or an upstream's text into it.
func cause(f *fault.Error) zap.Field {
	if f.Err == nil {
		return zap.Skip()
	}
	return zap.String("cause", f.Err.Error())
}

// unrecorded is why the trail did not take a record.
func unrecorded(f *fault.Error) zap.Field { return zap.NamedError("unrecorded", f.Err) }

// Rejection is a request that never became a call: without a good credential,
// in a broken frame, for a tool that does not exist.
type Rejection struct {
	Principal *auth.Principal // nil before authentication
	Tool      string          // canonical name; empty where no tool was named, or none that there is
	Transport string
	Remote    string
	RequestID string
	Err       error // why
}

// Reject records a rejection, or counts it in a flood; it and Run are the only
// writers of audit records about callers. It returns what the caller is told:
// the rejection's own error, or that of a trail that cannot be written.
func (r *Runner) Reject(rej Rejection) *fault.Error {
	if !r.admit(rej) {
		return fault.From(rej.Err)
	}
	return r.reject(rej)
}

func (r *Runner) reject(rej Rejection) *fault.Error {
	f := fault.From(rej.Err)
	rec := audit.Record{
		Kind:      audit.Reject,
		RequestID: rej.RequestID,
		Tool:      rej.Tool,
		Transport: rej.Transport,
		Remote:    rej.Remote,
		Outcome:   string(f.Kind),
		Detail:    f.Msg,
	}
	identify(&rec, rej.Principal)
	refused := r.trail.Append(rec)
	fields := []zap.Field{
		zap.String("request_id", rec.RequestID), zap.String("transport", rec.Transport),
		zap.String("remote", rec.Remote), zap.String("subject", rec.Subject),
		zap.String("outcome", rec.Outcome), zap.String("detail", rec.Detail), cause(f),
	}
	if refused == nil {
		r.log.Info("rejected", fields...)
		return f
	}
	f = fault.From(refused)
	r.log.Error("rejected", append(fields, unrecorded(f))...)
	return f
}

// ErrorObject is how an error looks over every surface.
type ErrorObject struct {
	Code       fault.Kind     `json:"code"`
	Message    string         `json:"message"`
	RequestID  string         `json:"request_id,omitzero"`
	RetryAfter float64        `json:"retry_after,omitzero"` // seconds
	Details    map[string]any `json:"details,omitempty"`
}

// NewErrorObject makes the object for an error of Run or Reject.
func NewErrorObject(err error, requestID string) ErrorObject {
	f := fault.From(err)
	return ErrorObject{
		Code: f.Kind, Message: f.Msg, RequestID: requestID,
		RetryAfter: f.RetryAfter.Seconds(), Details: f.Details,
	}
}

// JSON encodes the object.
func (e ErrorObject) JSON() json.RawMessage {
	b, err := jsonv2.Marshal(e, jsonv2.Deterministic(true))
	if err != nil {
		return json.RawMessage(fmt.Sprintf(`{"code":%q,"message":"error"}`, fault.Internal))
	}
	return b
}
