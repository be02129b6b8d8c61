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
	Owner     string    // principal, for its share of the requests in flight
	Retryable bool      // may be repeated after a passing fault; never by method
	Child     ChildSpec // as whom; zero: as the server itself
}

// Bound does one operation. It belongs to one call and is not for concurrent
// use.
type Bound struct {
	client *Client
	op     Operation
	opt    BindOptions
	ids    []string

	tokens tokens      // nil: the client's
	used   secret.Text // the token of the last request

	ours bool // the server's own question: not held up by callers' requests
	bare bool // without the namespace
}

// Bind makes a Bound for an operation.
func (c *Client) Bind(op Operation, opt BindOptions) *Bound {
	b := &Bound{client: c, op: op, opt: opt}
	if opt.Child != (ChildSpec{}) {
		b.tokens = c.childSource(opt.Child)
	}
	return b
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
	WrapInfo      *WrapInfo      `json:"wrap_info"`

	whole jsontext.Value // of answers that have no data member
}

const (
	// attempts is how often a retryable operation is tried.
	attempts = 3
	// longestCall bounds a call whose context has no deadline.
	longestCall = 30 * time.Second
)

// Do does the operation, repeating it after a passing fault if it is retryable
// and the context leaves time. An error is a *fault.Error; with one of kind
// NotFound there is a Response too if Vault's answer could be read, since that
// of a deleted version says when it was deleted.
func (b *Bound) Do(ctx context.Context, req Request) (resp *Response, err error) {
	defer func() {
		if err != nil {
			b.Discard() // Vault may have given a lease that nobody gets to know of
		}
	}()
	body, err := encodeBody(req.Body)
	if err != nil {
		return nil, err
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longestCall)
		defer cancel()
	}
	again := true
	for try := 1; ; try++ {
		resp, err := b.once(ctx, req, body)
		var unknown refusedError
		if again && errors.As(err, &unknown) && b.source().renewed(ctx, unknown.refused) {
			again = false // a second token that Vault does not know is no accident
			continue
		}
		if err == nil || !b.opt.Retryable || try == attempts || !passing(err) || !pause(ctx, err, try) {
			return resp, err
		}
	}
}

// pause waits before the next try: with jitter, as long as Vault asks for if it
// asks, and not at all if the context or patience ends before that.
func pause(ctx context.Context, err error, try int) bool {
	wait := time.Duration(try) * 50 * time.Millisecond
	wait += rand.N(wait) //nolint:gosec // jitter is no secret
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
	o, err := b.send(ctx, req, body)
	if err != nil {
		return nil, err
	}

	resp := &Response{Status: o.status}
	if o.err != nil || o.status >= 300 {
		failure := b.classify(ctx, o, body != nil)
		readable := o.err == nil && jsonv2.Unmarshal(o.answer, resp) == nil
		b.saw(resp.RequestID)
		if readable && failure.Kind == fault.NotFound {
			return resp, failure
		}
		return nil, failure
	}
	if o.status == http.StatusNoContent || len(o.answer) == 0 {
		return resp, nil
	}
	if jsonv2.Unmarshal(o.answer, resp) != nil {
		// The decoder's error may quote the answer.
		return nil, b.unlessRetryable(fault.Wrap(fault.Unavailable, "Vault's answer cannot be read", passingError{errNotVault}))
	}
	resp.whole = o.answer
	b.saw(resp.RequestID)
	return resp, nil
}

var errNotVault = errors.New("the answer is not JSON of the shape that Vault gives")

// send makes one request, when there is room for it, and reads the answer,
// whatever its status.
func (b *Bound) send(ctx context.Context, req Request, body []byte) (outcome, error) {
	if !b.ours {
		// Only while it is under way: neither a pause nor what an answer leads to
		// holds up the others.
		leave, err := b.client.gate.Enter(ctx, b.opt.Owner)
		if err != nil {
			return outcome{}, fault.From(err)
		}
		defer leave()
	}
	token, err := b.source().token(ctx)
	if err != nil {
		return outcome{}, err
	}
	b.used = token
	pass, err := b.client.brk.enter()
	if err != nil {
		return outcome{}, err
	}
	o := b.exchange(ctx, req, body)
	state, why := o.health(ctx)
	b.client.brk.leave(pass, state, why)
	return o, nil
}

// source is where the Bound's token comes from.
func (b *Bound) source() tokens {
	if b.tokens != nil {
		return b.tokens
	}
	return b.client.tokens
}

// exchange is the request and its answer.
func (b *Bound) exchange(ctx context.Context, req Request, body []byte) outcome {
	stock, namespace := b.client.api, b.client.cfg.Namespace
	if b.bare {
		stock, namespace = b.client.bare, ""
	}
	r := stock.NewRequest(b.op.Method, "/v1")
	r.URL.Path, r.URL.RawPath = "/v1/"+b.op.Path.decoded, "/v1/"+b.op.Path.escaped
	r.Params, r.WrapTTL, r.BodyBytes, r.ClientToken = req.Query, req.wrapTTL, body, b.used.Reveal()
	p := &pin{
		method: b.op.Method, path: b.op.Path, query: req.Query.Encode(), token: b.used, namespace: namespace,
		wrap: req.wrapTTL, repeatable: b.opt.Retryable,
	}
	if req.MergePatch {
		p.contentType = "application/merge-patch+json"
		r.Headers.Set(contentType, p.contentType)
	}
	// The request is built on the stock client, whose higher-level methods join
	// paths; only the raw call takes a path as it is.
	raw, err := stock.RawRequestWithContext(withPin(ctx, p), r) //nolint:staticcheck // deprecated, but see above
	return readAnswer(raw, err)
}

// readAnswer reads a response. The stock client reports statuses as errors of
// its own, which do not matter here; any other error does.
func readAnswer(raw *api.Response, err error) outcome {
	if raw == nil {
		if err == nil {
			err = errors.New("no response")
		}
		return outcome{err: err}
	}
	defer func() { _ = raw.Body.Close() }()
	var status *api.ResponseError
	if err != nil && !errors.As(err, &status) {
		return outcome{status: raw.StatusCode, err: err}
	}
	answer, err := io.ReadAll(raw.Body)
	return outcome{status: raw.StatusCode, answer: answer, header: raw.Header, err: err}
}

// saw keeps an id for the trail; Vault's are short UUIDs, what another server
// calls so might be anything.
func (b *Bound) saw(id string) {
	if id != "" && len(id) <= 64 && CheckName(id) == nil && len(b.ids) < attempts+1 {
		b.ids = append(b.ids, id)
	}
}

func encodeBody(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	b, err := jsonv2.Marshal(body, jsonv2.WithMarshalers(secret.Revealed))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "the request could not be encoded", secret.JSONError(err))
	}
	return b, nil
}
