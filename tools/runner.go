package tools

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"vault-mcp/audit"
	"vault-mcp/auth"
	"vault-mcp/events"
	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/vaultx"
)

// Call is one request to run a tool, after authentication.
type Call struct {
	Tool      string          // either spelling
	Principal *auth.Principal // who calls
	Args      json.RawMessage // the arguments as they came
	Transport string          // "stdio", "mcp", "rpc", "rest"
	Remote    string          // address of the caller, if there is one
	RequestID string          // made by NewRequestID where the call came in

	// makeArgs makes the arguments of a call that is not one of a tool by name, at
	// the stage where they are decoded; Args is then what they are made from.
	makeArgs func(p *auth.Principal) (json.RawMessage, error)
}

// Result is what a call gave. On an error only RequestID is set.
type Result struct {
	JSON      json.RawMessage // as the tool's output schema says; holds secrets
	RequestID string
}

// Options are a Runner's settings.
type Options struct {
	ReadOnly    bool          // see Offer
	Sets        []string      // see Offer
	Exclude     []string      // see Offer
	CallTimeout time.Duration // deadline of one call, default 10 s
	WrapTTLMax  time.Duration // longest life of a wrapping token, default 5 min
	KMS         *kmsx.Client  // AWS KMS; nil: its tools are hidden, and refused when called
	Prefix      string        // path below which principals have their own, by slug; empty: nobody names another's resources
	Events      *events.Bus   // is told of changes and calls; nil: nobody is
	ChildPolicy string        // what the policy of each principal's own token begins with; empty: Vault is called with the server's token
	Now         func() time.Time
}

// Runner runs tools. It is safe for concurrent use.
type Runner struct {
	catalog *Catalog
	vault   *vaultx.Client
	trail   *audit.Trail
	limiter *auth.Limiter
	sealer  *auth.Sealer
	log     *zap.Logger
	opt     Options
	access  *Access

	refusals *refusals
}

// NewRunner makes a Runner. An entry of Sets or Exclude that means no tool
// is an error. All parts are required: a Runner without a trail or a limiter
// would let calls through that nobody counts, one without a sealer could not
// tell whose a lease is.
func NewRunner(c *Catalog, v *vaultx.Client, trail *audit.Trail, l *auth.Limiter, s *auth.Sealer, log *zap.Logger, opt Options) (*Runner, error) {
	if c == nil || v == nil || trail == nil || l == nil || s == nil || log == nil {
		return nil, errors.New("tools: a runner wants a catalogue, Vault, a trail, a limiter, a sealer and a log")
	}
	if opt.CallTimeout <= 0 {
		opt.CallTimeout = 10 * time.Second
	}
	if opt.WrapTTLMax <= 0 {
		opt.WrapTTLMax = 5 * time.Minute
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	opt.Prefix = strings.Trim(opt.Prefix, "/") // as whoever makes principals does
	access, err := NewAccess(c, Offer{ReadOnly: opt.ReadOnly, Sets: opt.Sets, Exclude: opt.Exclude}, opt.KMS != nil)
	if err != nil {
		return nil, err
	}
	return &Runner{
		catalog: c, vault: v, trail: trail, limiter: l, sealer: s, log: log, opt: opt, access: access, refusals: newRefusals(),
	}, nil
}

// NewRequestID makes the id under which a call is known everywhere.
func NewRequestID() string { return uuid.Must(uuid.NewV7()).String() }

// Catalog is the catalogue that the runner runs.
func (r *Runner) Catalog() *Catalog { return r.catalog }

// Visible lists the tools that a principal may call now; none for one that is
// absent or has expired.
func (r *Runner) Visible(p *auth.Principal) []*Tool {
	var seen []*Tool
	if !p.Valid(r.opt.Now()) {
		return nil
	}
	for _, t := range r.catalog.Tools() {
		if r.access.Permit(t, p) == nil {
			seen = append(seen, t)
		}
	}
	return seen
}

// Run runs one tool for one principal. Its stages, in this order:
//
//  1. one deferred function: recover a panic, classify the error, write the
//     outcome record, log one line; where the trail refuses the record, the
//     result is withheld; of a change that may or may not have been done, a gap
//     is told in place of an event
//  2. the principal is present and has not expired
//  3. rate limit, counted for refused callers as well
//  4. the tool is enabled, permitted in read-only mode, and within the
//     principal's toolsets and scopes: before decoding, so that who may not call
//     learns nothing about arguments
//  5. the arguments are decoded strictly and held against their bounds
//  6. the need is resolved to one operation on one path or key; a lease's handle
//     is opened, which only its owner's call can; and the objects that are named
//     are held against the principal's grants
//  7. the attempt record; no record, no call
//  8. a client of Vault or AWS KMS that can do this operation and no other,
//     within the call's deadline, which counts from stage 6 on
//  9. the handler
//  10. the change is published, now that Vault accepted it; secrets are wrapped if
//     the caller asked for that; a lease that cannot be delivered is given back
//  11. the outcome record (see 1), then the result
//
// A non-nil error is always a *fault.Error.
func (r *Runner) Run(ctx context.Context, c Call) (res Result, err error) {
	if c.RequestID == "" {
		c.RequestID = NewRequestID()
	}
	run := &run{Runner: r, call: c, start: r.opt.Now()}
	run.tool, _ = r.catalog.Lookup(c.Tool) // so that every record names it
	returned := false
	defer func() {
		switch p := recover(); {
		case p != nil:
			err = fault.Panicked(p)
		case !returned: // runtime.Goexit: nobody gets an answer, but the trail must not say ok
			err = fault.New(fault.Internal, fault.MsgInternal)
		}
		if !returned && run.tried {
			err = run.undelivered(err) // it may have been done
		}
		run.doubtChange(err)
		err = run.finish(ctx, err)
		res.RequestID = c.RequestID
		if err != nil {
			res.JSON = nil
		}
	}()
	res, err = run.stages(ctx)
	returned = true
	return res, err
}

// run is the state of one call.
type run struct {
	*Runner
	call     Call
	start    time.Time
	tool     *Tool
	values   []jsontext.Value // the arguments as they came, once they were divided
	ops      []string         // what Vault or AWS KMS is asked to do
	flood    bool             // refused before the caller's limit, or by it: there may be any number of such
	owned    ownedLease       // the lease that it is about, if the need is about one
	touched  string           // whole path below the KV mount of the secret that it is about, if it is about one
	minted   string           // Vault's id of a lease that was issued for it
	tried    bool             // whether the attempt was recorded
	accepted bool             // whether the handler succeeded
	vaults   *vaultx.Bound    // nil until there is one
	keys     *kmsx.Bound      // likewise
	wraps    *vaultx.Bound
	gaveBack *vaultx.Bound
	result   json.RawMessage
}

func (r *run) stages(ctx context.Context) (res Result, err error) {
	p := r.call.Principal
	if r.flood, err = r.present(ctx, p, r.start); err != nil { // 2, 3
		return res, err
	}
	tool := r.tool // 4
	if tool == nil {
		return res, fault.New(fault.NotFound, "there is no such tool")
	}
	if err := r.access.Permit(tool, p); err != nil {
		return res, err
	}
	in, err := r.decode() // 5
	if err != nil {
		return res, err
	}
	ttl, err := tool.wrapTTL(in, r.opt.WrapTTLMax)
	if err != nil {
		return res, err
	}
	deadline := time.Now().Add(r.opt.CallTimeout)
	op, err := r.resolve(ctx, deadline, in, ttl > 0) // 6
	if err != nil {
		return res, err
	}
	if err := ctx.Err(); err != nil { // nobody waits for it any more, and nothing was done yet
		return res, err
	}
	if err := r.attempt(); err != nil { // 7
		return res, err
	}
	return r.carryOut(ctx, deadline, op, in, ttl)
}

// carryOut does what was resolved and is on record, and makes the result: stages
// 8 to 10.
func (r *run) carryOut(ctx context.Context, deadline time.Time, op operation, in any, ttl time.Duration) (res Result, err error) {
	// A call that may not be repeated runs to its end even if its caller goes
	// away, so that its outcome is known; the deadline bounds it all the same.
	if !r.tool.Retryable {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline) // 8
	defer cancel()
	env := r.bind(op)
	delivered := false // not so after a panic either
	defer func() {
		if !delivered {
			r.giveBack(ctx)
		}
	}()
	out, err := r.tool.handle(ctx, env, in) // 9
	if err != nil {
		return res, err
	}
	r.publishChange(in, out) // 10
	if ttl > 0 {
		r.wraps = r.vault.Bind(vaultx.WrapOperation, vaultx.BindOptions{Owner: r.call.Principal.ID(), Child: r.child(false)})
		if out, err = r.tool.wrapSecrets(ctx, r.wraps, out, ttl); err != nil {
			return res, r.undelivered(err)
		}
	}
	if res.JSON, err = encodeResult(out); err != nil {
		return res, r.undelivered(err)
	}
	r.result, delivered = res.JSON, true
	return res, nil
}

// bind makes what a handler can reach: what was resolved, and nothing else.
func (r *run) bind(op operation) *Env {
	p := r.call.Principal
	env := &Env{Principal: p, runner: r.Runner, engine: r.tool.Engine, owned: r.owned, issued: r.issuedLease}
	if op.vault != nil {
		r.vaults = r.vault.Bind(*op.vault, vaultx.BindOptions{Owner: p.ID(), Retryable: r.tool.Retryable, Child: r.child(r.tool.Leases)})
		env.Vault = r.vaults
	}
	if op.kms != nil {
		r.keys = r.opt.KMS.Bind(*op.kms, kmsx.BindOptions{Owner: p.ID(), Subject: p.ID(), SubjectContext: p.BindCiphertexts, Retryable: r.tool.Retryable})
		env.KMS = r.keys
	}
	return env
}

// child says whose token an operation is done with.
func (r *run) child(leases bool) vaultx.ChildSpec {
	if r.opt.ChildPolicy == "" {
		return vaultx.ChildSpec{}
	}
	p := r.call.Principal
	return vaultx.ChildSpec{ID: p.ID(), Policy: p.Policy(r.opt.ChildPolicy), Name: p.Slug, Leases: leases}
}

// undelivered is an error after the handler's success: what a tool that may not
// be repeated did stands, though nobody gets the result.
func (r *run) undelivered(err error) error {
	if r.tool.Retryable {
		return err
	}
	return fault.From(err).With("outcome", outcomeUnknown)
}
