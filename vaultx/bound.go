package vaultx

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/hashicorp/vault/api"

	"vault-mcp/fault"
	"vault-mcp/secret"
)

// BindOptions say on whose behalf an operation is done and how.
type BindOptions struct {
	Owner     string // principal, for its share of the requests in flight
	Retryable bool   // may be repeated after a passing fault; never by method
}

// Bound does one operation. It belongs to one call and is not for concurrent
// use.
type Bound struct {
	client *Client
	op     Operation
	opt    BindOptions
	ids    []string
}

// Bind makes a Bound for an operation.
func (c *Client) Bind(op Operation, opt BindOptions) *Bound {
	return &Bound{client: c, op: op, opt: opt}
}

// RequestIDs are the ids under which Vault's own audit devices know what the
// Bound did.
func (b *Bound) RequestIDs() []string { return b.ids }

// Request is what an operation is done with.
type Request struct {
	Query      url.Values
	Body       any  // encoded as JSON, with secrets revealed; nil: none
	MergePatch bool // RFC 7396 content type

	wrapTTL string
}

// Response is Vault's answer to a request that succeeded.
type Response struct {
	Status        int            `json:"-"`
	RequestID     string         `json:"request_id"`
	LeaseID       string         `json:"lease_id"`
	LeaseDuration int            `json:"lease_duration"` // seconds
	Renewable     bool           `json:"renewable"`
	Data          jsontext.Value `json:"data"` // as it came
	WrapInfo      *wrapInfo      `json:"wrap_info"`

	whole jsontext.Value // of answers that have no data member
}

// attempts is how often a retryable operation is tried.
const attempts = 3

// Do does the operation, repeating it after a passing fault if it is retryable
// and the context leaves time. An error is a *fault.Error.
func (b *Bound) Do(ctx context.Context, req Request) (*Response, error) {
	leave, err := b.client.gate.enter(ctx, b.opt.Owner)
	if err != nil {
		return nil, fault.From(err)
	}
	defer leave()
	body, err := encodeBody(req.Body)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		resp, err := b.once(ctx, req, body)
		if err == nil || !b.opt.Retryable || try == attempts || !passing(err) || !pause(ctx, err, try) {
			return resp, err
		}
	}
}

// pause waits before the next try: with jitter, as long as Vault asks for if it
// asks, and not at all if the context or patience ends before that.
func pause(ctx context.Context, err error, try int) bool {
	wait := time.Duration(try) * 50 * time.Millisecond
	wait += rand.N(wait)
	if asked := fault.From(err).RetryAfter; asked > wait {
		wait = asked
	}
	if deadline, ok := ctx.Deadline(); wait > 2*time.Second || ok && time.Until(deadline) < wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *Bound) once(ctx context.Context, req Request, body []byte) (*Response, error) {
	c := b.client
	if err := c.brk.enter(); err != nil {
		return nil, err
	}
	s, err := c.session()
	if err != nil {
		c.brk.leave(nil)
		return nil, fault.Wrap(fault.Unavailable, msgUnreachable, err)
	}
	p := &pin{method: b.op.Method, path: b.op.Path, query: req.Query.Encode(), token: s.token, wrap: req.wrapTTL}
	r := s.api.NewRequest(b.op.Method, "/v1")
	r.URL.Path, r.URL.RawPath = "/v1/"+b.op.Path.decoded, "/v1/"+b.op.Path.escaped
	r.Params, r.WrapTTL = req.Query, req.wrapTTL
	if body != nil {
		r.BodyBytes = body
	}
	if req.MergePatch {
		r.Headers.Set("Content-Type", "application/merge-patch+json")
	}
	// The request is built on the stock client, whose higher-level methods join
	// paths; only the raw call takes a path as it is.
	raw, err := s.api.RawRequestWithContext(withPin(ctx, p), r) //nolint:staticcheck // deprecated, but see above
	status, answer, err := readAnswer(raw, err)
	c.brk.leave(outage(status, err))
	if err == nil && status < 300 {
		resp := &Response{Status: status}
		if status == http.StatusNoContent || len(answer) == 0 {
			return resp, nil
		}
		if err = jsonv2.Unmarshal(answer, resp); err == nil {
			resp.whole = answer
			b.saw(resp.RequestID)
			return resp, nil
		}
		return nil, b.undecodable(err)
	}
	failure := classify(ctx, b.op, b.opt.Retryable, status, answer, raw, err)
	resp := &Response{Status: status}
	if jsonv2.Unmarshal(answer, resp) != nil || status != http.StatusNotFound {
		b.saw(resp.RequestID)
		return nil, failure
	}
	b.saw(resp.RequestID)
	return resp, failure
}

// saw keeps an id for the trail; Vault's are short, another server's might not be.
func (b *Bound) saw(id string) {
	if id != "" && len(id) <= 64 && len(b.ids) < attempts+1 {
		b.ids = append(b.ids, id)
	}
}

func (b *Bound) undecodable(err error) error {
	f := fault.Wrap(fault.Unavailable, "Vault's answer cannot be read", passingError{causeOf(err)})
	return unknownUnless(b.opt.Retryable, f)
}

// readAnswer reads a response, whatever its status. The stock client reports
// statuses as errors of its own; only those without a response matter here.
func readAnswer(raw *api.Response, err error) (int, []byte, error) {
	if raw == nil {
		if err == nil {
			err = errors.New("no response")
		}
		return 0, nil, err
	}
	defer func() { _ = raw.Body.Close() }()
	answer, readErr := io.ReadAll(raw.Body)
	var status *api.ResponseError
	if readErr == nil && err != nil && !errors.As(err, &status) && raw.StatusCode < 300 {
		readErr = err
	}
	return raw.StatusCode, answer, readErr
}

func encodeBody(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	b, err := jsonv2.Marshal(body, revealed)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "the request could not be encoded", nil)
	}
	return b, nil
}

// revealed encodes requests to Vault, where secrets belong.
var revealed = jsonv2.WithMarshalers(jsonv2.JoinMarshalers(
	jsonv2.MarshalToFunc(func(e *jsontext.Encoder, j secret.JSON) error { return e.WriteValue(j.Reveal()) }),
	jsonv2.MarshalToFunc(func(e *jsontext.Encoder, t secret.Text) error { return e.WriteToken(jsontext.String(t.Reveal())) }),
))
