package tools

import (
	"encoding/json"
	"fmt"
	"strings"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/fault"
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
// gets: its own, or that of the trail.
func (r *run) finish(err error) error {
	rec := r.record(audit.Outcome)
	if !r.tried {
		rec.Args = r.hashedArgs()
	}
	rec.Outcome = "ok"
	rec.DurationUS = r.opt.Now().Sub(r.start).Microseconds()
	if r.vaults != nil {
		rec.VaultRequestID = strings.Join(r.vaults.RequestIDs(), " ")
	}
	var f *fault.Error
	if err != nil {
		f = fault.From(err)
		rec.Outcome, rec.Detail = outcome(f), f.Msg
	} else {
		rec.Result = r.trail.HMAC(r.result)
	}
	if refused := r.trail.Append(rec); refused != nil && f == nil {
		f = fault.From(refused)
		rec.Outcome, rec.Detail = outcome(f), f.Msg
	}
	r.logOutcome(rec, f)
	if f != nil {
		return f
	}
	return nil
}

func outcome(f *fault.Error) string {
	if f.Details["outcome"] == "unknown" {
		return "unknown"
	}
	return string(f.Kind)
}

// hashedArgs is the keyed hash of each argument that the tool knows. What did
// not decode has one hash for all of it.
func (r *run) hashedArgs() map[string]string {
	if len(r.call.Args) == 0 || r.trail == nil {
		return nil
	}
	hashed := map[string]string{}
	members := map[string]jsontext.Value{}
	if r.tool == nil || jsonv2.Unmarshal(r.call.Args, &members) != nil {
		hashed["*"] = r.trail.HMAC(r.call.Args)
		return hashed
	}
	for _, name := range r.tool.input.known {
		if value, ok := members[name]; ok {
			hashed[name] = r.trail.HMAC(value)
			delete(members, name)
		}
	}
	if len(members) > 0 {
		hashed["*"] = r.trail.HMAC(r.call.Args)
	}
	return hashed
}

func (r *run) logOutcome(rec audit.Record, f *fault.Error) {
	fields := []zap.Field{
		zap.String("request_id", rec.RequestID),
		zap.String("transport", rec.Transport),
		zap.String("subject", rec.Subject),
		zap.String("tool", rec.Tool),
		zap.String("outcome", rec.Outcome),
		zap.Int64("duration_us", rec.DurationUS),
	}
	if rec.VaultRequestID != "" {
		fields = append(fields, zap.String("vault_request_id", rec.VaultRequestID))
	}
	switch {
	case f == nil:
		r.log.Info("call", fields...)
	case f.Kind == fault.Internal || f.Kind == fault.Unavailable || f.Kind == fault.Timeout:
		r.log.Error("call", append(fields, zap.String("detail", f.Msg), cause(f))...)
	default:
		r.log.Info("call", append(fields, zap.String("detail", f.Msg))...)
	}
}

// cause is the reason behind an error, for operators. Adapters put nothing of
// a request or an upstream's text into it.
func cause(f *fault.Error) zap.Field {
	if f.Err == nil {
		return zap.Skip()
	}
	return zap.String("cause", f.Err.Error())
}

// Rejection is a request that never became a call: without a good credential,
// in a broken frame, for a tool that does not exist.
type Rejection struct {
	Principal *auth.Principal // nil before authentication
	Transport string
	Remote    string
	RequestID string
	Err       error // why
}

// Reject records a rejection; it and Run are the only writers of audit records
// about callers. It returns what the caller is told: the rejection's own error,
// or that of a trail that cannot be written.
func (r *Runner) Reject(rej Rejection) *fault.Error {
	f := fault.From(rej.Err)
	rec := audit.Record{
		Kind:      audit.Reject,
		RequestID: rej.RequestID,
		Transport: rej.Transport,
		Remote:    rej.Remote,
		Outcome:   string(f.Kind),
		Detail:    f.Msg,
	}
	identify(&rec, rej.Principal)
	if err := r.trail.Append(rec); err != nil {
		f = fault.From(err)
	}
	r.log.Info("rejected",
		zap.String("request_id", rec.RequestID), zap.String("transport", rec.Transport),
		zap.String("remote", rec.Remote), zap.String("subject", rec.Subject),
		zap.String("outcome", string(f.Kind)), zap.String("detail", f.Msg), cause(f))
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
	b, err := jsonv2.Marshal(e)
	if err != nil {
		return json.RawMessage(fmt.Sprintf(`{"code":%q,"message":"error"}`, fault.Internal))
	}
	return b
}
