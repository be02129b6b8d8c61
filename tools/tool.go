package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"vault-mcp/auth"
	"vault-mcp/kmsx"
	"vault-mcp/vaultx"
)

// Effect says what a tool does to the world. Read-only mode leaves only the
// first.
type Effect string

// The effects.
const (
	Reads    Effect = "read"    // sees
	Uses     Effect = "use"     // exercises a key or mints a credential
	Writes   Effect = "write"   // changes
	Destroys Effect = "destroy" // takes away
)

// Need is what a tool requires of Vault, capabilities on one path, or of AWS KMS,
// actions on one key. A tool with several needs has alternatives, of which its
// input chooses one.
//
// Holes in the path are filled from configuration ({kv}, {transit}, …), from
// the principal ({prefix}) and from the argument of the same name, or of the
// field that carries the hole's name in a `hole` tag. A hole that is a single
// name ({key}, {role}) is an object that the principal must have been granted; it
// is the last in its path, since a policy's * can stand nowhere else.
type Need struct {
	Path         string
	Capabilities []string // the first one is the operation itself; others are for policies
	Lease        LeaseUse `json:",omitzero"` // what is done with a lease of the caller's own; empty: it is about none

	// KMS are IAM's actions on the key that the argument key_id names, or else
	// configuration, instead of a path. The first one is the operation itself;
	// resolving the key needs kms:DescribeKey besides, which has to stand here too.
	// The key is an object that the principal must have been granted.
	KMS []string `json:",omitempty"`

	template vaultx.Template
	filled   []vaultx.Hole // those that arguments fill
}

// Tool is one operation. The exported fields above the line are its
// declaration; those below are derived from it by Define.
type Tool struct {
	Name       string     // dotted: engine.verb
	Title      string     // for people
	Doc        string     // for models: what it does, when to use it
	Scope      auth.Scope // the verb needed on the engine; empty, for a tool without needs: any principal
	Effect     Effect
	Idempotent bool        // a second identical call changes nothing more
	Additive   bool        // a write that takes nothing away
	Retryable  bool        // the adapter may repeat it, and a caller's leaving may end it
	Needs      []Need      // alternatives
	Route      string      // REST: method and path
	Resource   ResourceUse // how it serves MCP resources; empty: it does not

	Engine       string          // first part of the name
	InputSchema  json.RawMessage // JSON Schema 2020-12 of the arguments
	OutputSchema json.RawMessage // JSON Schema 2020-12 of the result
	Wraps        bool            // takes wrap_ttl
	Leases       bool            // gives a lease that was not there before

	input  *inputType
	output *outputType
	handle func(ctx context.Context, env *Env, in any) (any, error)
	// choose is the index of the need that an input selects.
	choose func(in any) int
}

// Env is what a handler has besides its input: the principal, and a client that
// can reach the one path of Vault, or use the one AWS KMS key, that was resolved
// for this call.
type Env struct {
	Principal *auth.Principal
	Vault     *vaultx.Bound // nil for a tool without a need of Vault
	KMS       *kmsx.Bound   // nil for a tool without a need of AWS KMS

	runner *Runner
	engine string
	owned  ownedLease      // of the handle that the call named, if its need is about a lease
	issued func(id string) // is told of a lease that Vault gave
}

// chooser is implemented by inputs of tools with several needs.
type chooser interface{ need() int }

// Define completes a declaration with its handler. The types In and Out give
// the schemas: `json` names, `doc` descriptions, `jsonschema` bounds. A
// mistake in a declaration is a programming error and panics, so that a broken
// catalogue can neither start nor pass a test.
func Define[In, Out any](t Tool, handler func(ctx context.Context, env *Env, in In) (Out, error)) *Tool {
	engine, _, _ := strings.Cut(t.Name, ".")
	t.Engine = engine
	mustDeclare(t.Name, t.Title != "" && t.Doc != "", "wants a title and a doc")
	mustDeclare(t.Name, t.Effect != "", "wants an effect")
	mustDeclare(t.Name, t.Route != "", "wants a route")
	// Without a scope everybody may call it.
	mustDeclare(t.Name, t.Scope == "" && len(t.Needs) == 0 || slices.Contains(auth.AllScopes(), t.Scope), "wants a scope")

	t.input = newInputType(t.Name, reflect.TypeFor[In]())
	t.output = newOutputType(t.Name, reflect.TypeFor[Out]())
	t.InputSchema, t.OutputSchema = t.input.raw, t.output.raw
	t.Wraps = t.input.wraps != nil
	mustDeclare(t.Name, t.Wraps == (t.output.wraps != nil), "wants wrap_ttl in its input and wrap in its output, or neither")
	mustDeclare(t.Name, !t.Wraps || len(t.output.secrets) > 0, "takes wrap_ttl but has no secret in its output")

	t.Needs = append([]Need(nil), t.Needs...)
	for i := range t.Needs {
		need := &t.Needs[i]
		if len(need.KMS) > 0 {
			mustDeclareKMS(&t, need)
			continue
		}
		mustDeclare(t.Name, len(need.Capabilities) > 0, "wants a capability in each need")
		need.template = vaultx.MustTemplate(need.Path)
		for _, hole := range need.template.Holes() {
			if vaultx.IsServerHole(hole.Name) {
				continue
			}
			_, ok := t.input.holes[hole.Name]
			mustDeclare(t.Name, ok, "has a hole in its need that no argument fills: "+hole.Name)
			need.filled = append(need.filled, hole)
			mustDeclare(t.Name, hole.Multi || strings.HasSuffix(need.Path, "/{"+hole.Name+"}"), "has a granted name that is not the last in its path: "+hole.Name)
		}
		_, named := t.input.holes[leaseArgument]
		mustDeclare(t.Name, need.Lease == "" || named, "is about a lease that its input does not name; embed LeaseID")
	}
	t.Leases = slices.ContainsFunc(reflect.VisibleFields(t.output.typ), func(f reflect.StructField) bool { return f.Type == reflect.TypeFor[Lease]() }) &&
		!slices.ContainsFunc(t.Needs, func(n Need) bool { return n.Lease != "" })
	t.choose = func(any) int { return 0 }
	if len(t.Needs) > 1 {
		_, ok := any(*new(In)).(chooser)
		mustDeclare(t.Name, ok, "has several needs and an input that does not choose")
		t.choose = func(in any) int { return in.(chooser).need() }
	}
	t.handle = func(ctx context.Context, env *Env, in any) (any, error) { return handler(ctx, env, in.(In)) }
	return &t
}

// mustDeclareKMS holds a need of AWS KMS to what resolving it takes.
func mustDeclareKMS(t *Tool, need *Need) {
	_, named := t.input.holes[keyHole]
	mustDeclare(t.Name, named, "has a need of AWS KMS and no argument "+keyHole)
	mustDeclare(t.Name, need.Path == "" && need.Capabilities == nil, "has a need of Vault and AWS KMS in one")
	mustDeclare(t.Name, kmsx.IsAction(kmsx.Action(need.KMS[0])), "has a need of AWS KMS that begins with no operation")
	mustDeclare(t.Name, slices.Contains(need.KMS, string(kmsx.ActionDescribeKey)), "resolves a key without a need of "+string(kmsx.ActionDescribeKey))
}

func mustDeclare(tool string, ok bool, what string) {
	if !ok {
		panic(fmt.Sprintf("tools: %s %s", tool, what))
	}
}

// UsesKMS reports whether a tool needs AWS KMS.
func (t *Tool) UsesKMS() bool {
	return slices.ContainsFunc(t.Needs, func(n Need) bool { return len(n.KMS) > 0 })
}

// NamesObjects reports whether every use of a tool is of an object that the
// principal must have been granted.
func (t *Tool) NamesObjects() bool {
	return len(t.Needs) > 0 && !slices.ContainsFunc(t.Needs, func(n Need) bool {
		return len(n.KMS) == 0 && !slices.ContainsFunc(n.filled, func(h vaultx.Hole) bool { return !h.Multi })
	})
}

// Template is the need's path, unexpanded; empty for a need of AWS KMS.
func (n Need) Template() vaultx.Template { return n.template }

// ReadOnlyHint follows from the effect, as do the other MCP annotations.
func (t *Tool) ReadOnlyHint() bool { return t.Effect == Reads }

// DestructiveHint reports whether a call can take something away, in MCP's
// sense: anything but adding. A write can: it replaces what is current, and the
// oldest version goes when there are as many as the mount keeps.
func (t *Tool) DestructiveHint() bool {
	return t.Effect == Destroys || t.Effect == Writes && !t.Additive
}

// Underscored is the name for clients that refuse a dot.
func (t *Tool) Underscored() string { return strings.ReplaceAll(t.Name, ".", "_") }
