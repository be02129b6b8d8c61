package tools

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/kmsx"
	"vault-mcp/vaultx"
)

// operation is what a call does, of at most one kind. A tool without needs has
// none.
type operation struct {
	vault *vaultx.Operation
	kms   *kmsx.Operation
}

// resolve makes the chosen need concrete, and checks grants. It may have to ask
// AWS which key is meant, which the deadline bounds.
func (r *run) resolve(ctx context.Context, deadline time.Time, in any, wraps bool) (op operation, err error) {
	if len(r.tool.Needs) == 0 {
		return op, nil
	}
	defer func() {
		if wraps && len(r.ops) > 0 {
			r.ops = append(r.ops, "update "+vaultx.WrapOperation.Path.String())
		}
	}()
	need := &r.tool.Needs[r.tool.choose(in)]
	if len(need.KMS) > 0 {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		op.kms, err = r.resolveKey(ctx, need, in)
		return op, err
	}
	op.vault, err = r.resolvePath(need, in)
	return op, err
}

func (r *run) resolvePath(need *Need, in any) (*vaultx.Operation, error) {
	value, values := reflect.ValueOf(in), serverHoles(r.vault.Mounts(), r.call.Principal)
	for _, filled := range need.filled {
		values[filled.Name] = value.FieldByIndex(r.tool.input.holes[filled.Name].index).String()
	}
	op, err := vaultx.NewOperation(need.Capabilities[0], need.template, values)
	if err != nil {
		return nil, r.holeFault(err)
	}
	r.ops = []string{need.Capabilities[0] + " " + op.Path.String()}
	for _, filled := range need.filled {
		if filled.Multi {
			r.touched = join(r.call.Principal.Prefix, strings.TrimSuffix(values[filled.Name], "/"))
		} else if !r.call.Principal.Grants.Allow(auth.GrantKind(r.tool.Engine), values[filled.Name]) {
			return nil, ungranted(r.tool.input.holes[filled.Name].pointer)
		}
	}
	if need.Lease != "" {
		if err := r.openLease(need.Lease, value); err != nil {
			return nil, err
		}
	}
	return &op, nil
}

// serverHoles are the values of the holes that configuration and the principal
// fill.
func serverHoles(mounts vaultx.Mounts, p *auth.Principal) map[string]string {
	return map[string]string{
		"prefix": p.Prefix,
		"kv":     mounts.KV, "transit": mounts.Transit, "database": mounts.Database, "ssh": mounts.SSH,
	}
}

func ungranted(pointer string) *fault.Error {
	return fault.New(fault.Forbidden, "the principal has no grant for this name").With("field", pointer)
}

// keyHole is the argument that names a key of AWS KMS.
const keyHole = "key_id"

// resolveKey finds the key that is meant. AWS is asked only for a principal of
// whose grants one may match; and of a key that it was not granted by the name
// that it gives, a principal does not learn whether it exists.
func (r *run) resolveKey(ctx context.Context, need *Need, in any) (*kmsx.Operation, error) {
	action, argument := kmsx.Action(need.KMS[0]), r.tool.input.holes[keyHole]
	keyID := reflect.ValueOf(in).FieldByIndex(argument.index).String()
	if keyID == "" {
		keyID = r.opt.KMS.DefaultKeyID()
	}
	if keyID == "" {
		return nil, fault.Field(argument.pointer, "is required, since this server has no default key")
	}
	r.ops = []string{string(action) + " " + keyID}

	grants := r.call.Principal.Grants
	granted := func(name string) bool { return grants.Allow("kms", name) }
	if !kmsx.MayMatch(keyID, grants["kms"], granted) {
		return nil, ungranted(argument.pointer)
	}
	key, err := r.opt.KMS.Resolve(ctx, r.call.Principal.ID(), keyID)
	if err != nil {
		return nil, r.unresolved(err, granted(keyID) || slices.ContainsFunc(kmsx.Names(keyID, kmsx.Key{}), granted), argument.pointer)
	}
	op := &kmsx.Operation{Action: action, Key: key}
	r.ops = []string{op.String()}
	if !slices.ContainsFunc(kmsx.Names(keyID, key), granted) {
		return nil, ungranted(argument.pointer)
	}
	return op, nil
}

// unresolved is what a caller learns of a key that cannot be used.
func (r *run) unresolved(err error, named bool, pointer string) error {
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Forbidden, fault.Conflict, fault.Invalid:
		if !named {
			return ungranted(pointer)
		}
	default: // says nothing of the key
	}
	return err
}

// holeFault names the argument that a hole's error is about. A hole that no
// argument fills is configuration's or the principal's: the caller cannot mend
// it, and learns nothing about it.
func (r *run) holeFault(err error) error {
	f := fault.From(err)
	name, _ := f.Details["hole"].(string)
	filler, ok := r.tool.input.holes[name]
	if !ok || vaultx.IsServerHole(name) {
		return fault.Wrap(fault.Internal, fault.MsgInternal, fmt.Errorf("the hole %q of %s: %w", name, r.tool.Name, err))
	}
	return fault.Field(filler.pointer, f.Msg)
}
