package tools

import (
	"fmt"
	"reflect"

	"vault-mcp/auth"
	"vault-mcp/fault"
	"vault-mcp/vaultx"
)

// resolve makes the chosen need concrete, and checks grants. A tool without
// needs has no operation.
func (r *run) resolve(in any, wraps bool) (*vaultx.Operation, error) {
	if len(r.tool.Needs) == 0 {
		return nil, nil
	}
	need := &r.tool.Needs[r.tool.choose(in)]
	value, values := reflect.ValueOf(in), serverHoles(r.vault.Mounts(), r.call.Principal)
	for _, filled := range need.filled {
		values[filled.Name] = value.FieldByIndex(r.tool.input.holes[filled.Name].index).String()
	}
	op, err := vaultx.NewOperation(need.Capabilities[0], need.template, values)
	if err != nil {
		return nil, r.holeFault(err)
	}
	r.ops = []string{need.Capabilities[0] + " " + op.Path.String()}
	if wraps {
		r.ops = append(r.ops, "update "+vaultx.WrapOperation.Path.String())
	}
	for _, filled := range need.filled {
		if !filled.Multi && !r.call.Principal.Grants.Allow(auth.GrantKind(r.tool.Engine), values[filled.Name]) {
			return nil, fault.New(fault.Forbidden, "the principal has no grant for this name").
				With("field", r.tool.input.holes[filled.Name].pointer)
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
